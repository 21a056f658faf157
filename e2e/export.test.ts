/** `hd export`: an environment as an image, given to a registry, to files, and to another environment as its base. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BusyboxRig, noBusybox } from './busybox.ts';
import { noRegistry, startRegistry } from './registry.ts';
import type { RunningRegistry } from './registry.ts';
import { noFuse, unable } from './rig.ts';
import type { ProjectRig } from './rig.ts';

interface Exported { digest: string; layers: { digest: string; size: number; present: boolean }[]; written: { layers: number; bytes: number } }

const TOML = `env = { GREETING = "hello" }

[build]
steps = ["wc -c < page > size && ln size same && rm /home/dev -r && mkdir -m 1777 /shared"]

[services.web]
command = "echo $GREETING $(cat size); exec sleep 1000"
port = 8080
ready = { log = "hello" }
`;

describe('hd export', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;
  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('app', TOML, { page: '12345' });
  });
  after(async () => await rig[Symbol.asyncDispose]());

  async function exported(...args: string[]): Promise<Exported> {
    const { code, stdout, stderr } = await project.hd('export', '--json', ...args);
    assert.equal(code, 0, stdout + stderr);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as Exported;
  }

  test('builds first, and says in words what it wrote', async () => {
    const { code, stdout, stderr } = await project.hd('export', '--oci', '../layout', '-t', 'app:1');
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^Wrote .*\/layout: sha256:[0-9a-f]{64}\n {2}2 layers, [\d.]+ \w+; new: 2, [\d.]+ \w+\n$/m);
  });

  test('an environment on that image has its files, variables and directory', async () => {
    const other = await rig.environment('other', '', {}, 'oci:../layout:1');
    await other.up();
    const show = await other.hd('exec', 'sh', '-c', 'echo $GREETING $PORT; pwd; cat size same page; stat -c %h:%a size; stat -c %a /shared; ls /home');
    assert.equal(show.stdout, 'hello 8080\n/workspace\n5\n5\n123452:644\n1777\n');
    await other.hd('down');
  });

  test('its configuration runs the service', async () => {
    const dir = join(rig.world.dir, 'layout');
    const blob = (digest: string): { config: { digest: string }; history: unknown[] } => JSON.parse(readFileSync(join(dir, 'blobs', digest.replace(':', '/')), 'utf8')) as ReturnType<typeof blob>;
    const [entry] = (JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8')) as { manifests: { digest: string }[] }).manifests;
    const { config } = blob(blob(entry!.digest).config.digest) as unknown as { config: Record<string, unknown> };
    assert.deepEqual([config['Cmd'], config['WorkingDir'], config['ExposedPorts']], [['/bin/sh', '-c', 'echo $GREETING $(cat size); exec sleep 1000'], '/workspace', { '8080/tcp': {} }]);
  });

  test('an archive has the same digest; of nothing it makes the same bytes again', async () => {
    const first = await exported('--archive', '../one.tar', '-t', 'app:1');
    await exported('--archive', '../two.tar', '-t', 'app:1', '--no-build');
    assert.deepEqual(readFileSync(join(rig.world.dir, 'one.tar')), readFileSync(join(rig.world.dir, 'two.tar')));
    assert.match(execFileSync('tar', ['-tf', join(rig.world.dir, 'one.tar')], { encoding: 'utf8' }), /^oci-layout\nindex\.json\nmanifest\.json\n/);
    const [entry] = (JSON.parse(readFileSync(join(rig.world.dir, 'layout/index.json'), 'utf8')) as { manifests: { digest: string }[] }).manifests;
    assert.equal(first.digest, entry?.digest);
    assert.deepEqual(readdirSync(join(rig.world.home, 'tmp')), []);
  });

  test('wrong usage, and what was never built', async () => {
    for (const args of [[], ['--oci', 'a', '--push', 'b'], ['--push', 'localhost/a', '-t', 'b']]) assert.equal((await project.hd('export', ...args)).code, 2);
    assert.match((await project.hd('export', '--oci', '.')).stderr, /not empty/);
    assert.match((await project.hd('export', '--oci', '../x', '--service', 'db')).stderr, /there is no service db[^]*web/);
    const fresh = await rig.environment('fresh', '');
    assert.match((await fresh.hd('export', '--no-build', '--oci', '../y')).stderr, /has not been built[^]*hd build/);
  });

  describe('to a registry', { skip: noRegistry }, () => {
    let registry: RunningRegistry;
    before(async () => void (registry = await startRegistry(join(rig.world.dir, 'registry'))));
    after(async () => await registry.stop());

    test('sends what it lacks', async () => {
      const first = await exported('--push', `${registry.host}/team/app:1`);
      assert.equal(first.written.layers, first.layers.length);
      const again = await exported('--push', `${registry.host}/team/app:2`);
      assert.deepEqual([again.digest, again.written], [first.digest, { layers: 0, bytes: 0 }]);
      project.write('page', 'edited');
      const edited = await exported('--push', `${registry.host}/team/app:2`);
      assert.deepEqual([edited.written.layers, edited.layers[0]], [1, again.layers[0]]);
      const puller = await rig.environment('puller', '', {}, `${registry.host}/team/app:2`);
      await puller.up();
      assert.equal((await puller.hd('exec', 'cat', 'page', 'size')).stdout, 'edited6\n');
    });
  });
});
