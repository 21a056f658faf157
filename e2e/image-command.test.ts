/** `hd image`: what the store knows by a name, and how it comes and goes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { HdResult } from '@hyperdocker/testkit';
import { runHd } from '@hyperdocker/testkit';
import { BusyboxRig, makeBusyboxRoot, noBusybox, writeOciDir } from './busybox.ts';
import { noRegistry, noSkopeo, skopeoCopy, startRegistry } from './registry.ts';
import type { RunningRegistry } from './registry.ts';
import { noFuse, unable } from './rig.ts';

interface Entry { name: string; id: string; digest: string; tree: string; sizeBytes?: number }
interface Inspected { Id: string; RepoTags: string[]; RepoDigests: string[]; Architecture: string; Os: string; Size: number; Config: Record<string, unknown>; RootFS: { Layers: string[] } }

describe('hd image', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let registry: RunningRegistry | undefined;
  const at = (name: string): string => join(rig.world.dir, name);
  const hd = (...args: string[]): Promise<HdResult> => runHd(args, { cwd: rig.world.dir, env: rig.world.env, timeoutMs: 120_000 });
  async function ok(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await hd(...args);
    assert.equal(code, 0, `hd ${args.join(' ')}: ${stdout}${stderr}`);
    return stdout;
  }
  const list = async (): Promise<Entry[]> => (JSON.parse(await ok('image', 'ls', '--json')) as { images: Entry[] }).images;
  const inspect = async (name: string): Promise<Inspected> => (JSON.parse(await ok('image', 'inspect', name)) as Inspected[])[0]!;

  before(async () => {
    rig = new BusyboxRig();
    const [lower, upper] = [at('lower'), at('upper')];
    makeBusyboxRoot(lower);
    mkdirSync(join(upper, 'srv'), { recursive: true });
    writeFileSync(join(upper, 'srv/page'), 'one\n');
    const config = { Env: ['PATH=/bin', 'FLAVOUR=plain'], Cmd: ['sh'], WorkingDir: '/srv', User: 'dev', Labels: { l: 'v' }, ExposedPorts: { '80/tcp': {} }, Healthcheck: { Test: ['CMD', 'true'] } };
    writeOciDir(at('layout'), { layers: [lower, upper], config });
    if (noRegistry === false) registry = await startRegistry(at('registry'));
  });
  after(async () => {
    await registry?.stop();
    await rig[Symbol.asyncDispose]();
  });

  test('an empty home has none', async () => {
    assert.equal(await ok('image', 'ls'), 'There are no images.\n');
    const { code, stderr } = await hd('image', 'inspect', 'nothing');
    assert.equal(code, 1);
    assert.match(stderr, /^hd: there is no image nothing here\n {2}hint: /);
  });

  test('import of a layout needs a name; inspect shows its configuration in the names of Docker', async () => {
    assert.match((await hd('image', 'import', 'layout')).stderr, /does not say what the image is called[^]*hint: /);
    await ok('image', 'import', 'layout', 'team/app:1');
    const image = await inspect('team/app:1');
    const blob = (digest: string): Record<string, unknown> => JSON.parse(readFileSync(join(at('layout'), 'blobs', digest.replace(':', '/')), 'utf8')) as Record<string, unknown>;
    const index = JSON.parse(readFileSync(at('layout/index.json'), 'utf8')) as { manifests: { digest: string }[] };
    const config = (blob(index.manifests[0]!.digest)['config'] as { digest: string }).digest;
    assert.deepEqual([image.Id, image.RepoTags, image.RepoDigests], [config, ['team/app:1'], [`team/app@${index.manifests[0]!.digest}`]]);
    assert.deepEqual(image.Config, blob(config)['config']);
    assert.deepEqual(image.RootFS.Layers, (blob(config)['rootfs'] as { diff_ids: string[] }).diff_ids);
    assert(image.Size > 100_000);
    assert.match(await ok('image', 'ls'), /^NAME +IMAGE ID +PLATFORM +SIZE +ADDED\nteam\/app:1 +[0-9a-f]{12} +linux\/\w+ +[\d.]+ \w+ +\d+ s ago\n$/);
    assert.equal(await ok('images', '-q'), 'team/app:1\n');
  });

  test('an archive, a root tar and standard input hold the same files; equal files are stored once', async () => {
    await ok('image', 'export', 'team/app:1', '--archive', 'app.tar', '-t', 'team/copy:2');
    await ok('image', 'export', 'team/app:1', '--tar', 'root.tar');
    const before = JSON.parse(await ok('cas', 'stats', '--json')) as { chunks: number };
    assert.match(await ok('image', 'import', 'app.tar'), /^Imported team\/copy:2\n/);
    await ok('image', 'import', 'root.tar', 'rooted');
    execFileSync('gzip', ['-k', at('root.tar')]);
    const piped = execFileSync('sh', ['-c', '"$0" "$1" image import - piped:1 < root.tar.gz', process.execPath, join(import.meta.dirname, '../packages/cli/src/main.ts')], { cwd: rig.world.dir, env: { ...process.env, ...rig.world.env }, encoding: 'utf8' });
    assert.match(piped, /^Imported piped:1\n/);
    const images = await list();
    assert.deepEqual(images.map(({ name }) => name), ['piped:1', 'rooted:latest', 'team/app:1', 'team/copy:2']);
    assert.equal(new Set(images.map(({ tree }) => tree)).size, 1);
    assert.deepEqual((await inspect('team/copy:2')).Config, (await inspect('team/app:1')).Config);
    const after = JSON.parse(await ok('cas', 'stats', '--json')) as { chunks: number };
    assert.equal(after.chunks - before.chunks, 3, 'three descriptions');
    assert.deepEqual(readdirSync(join(rig.world.home, 'tmp')), []);
  });

  test('the root tar has every path, mode, owner and link', () => {
    const lines = execFileSync('tar', ['--numeric-owner', '-tvf', at('root.tar')], { encoding: 'utf8' }).split('\n');
    assert(lines.some((line) => /^-rw-r--r-- 0\/0 +4 .* srv\/page$/.test(line)));
    assert(!existsSync(at('root.tar.partial')));
  });

  test('a name is a base; while an environment has it, only --force takes it away', async () => {
    const project = await rig.environment('named', '', {}, 'team/app:1');
    await project.up();
    assert.equal((await project.hd('exec', 'sh', '-c', 'cat page; echo $FLAVOUR; id -un')).stdout, 'one\nplain\ndev\n');
    const refused = await hd('image', 'rm', 'team/app:1');
    assert.equal(refused.code, 1);
    assert.match(refused.stderr, /team\/app:1 is the base of .*\/named\n {2}hint: /);
    assert.equal(await ok('image', 'rm', 'rooted', 'piped:1'), 'Removed rooted:latest\nRemoved piped:1\n');
    await project.hd('down');
    await ok('image', 'rm', '--force', 'team/app:1');
    assert.deepEqual((await list()).map(({ name }) => name), ['team/copy:2']);
    await ok('cas', 'gc');
    assert.equal((await hd('cas', 'fsck')).code, 0);
  });

  test('an environment exported under a tag is an image, which another one can stand on', async () => {
    const project = await rig.environment('made', '[build]\nsteps = ["echo built > made"]\n[services.web]\ncommand = "true"\nuser = "dev"\nstop_signal = "SIGINT"\nrestart_policy = "never"\n', {}, 'team/copy:2');
    const { stdout, stderr } = await project.hd('export', '-t', 'made:1', '--label', 'who=me');
    assert.match(stdout, /^made:1 is in the store: tree [0-9a-f]{64}$/m, stderr);
    const { Config: config } = await inspect('made:1');
    assert.deepEqual([config['User'], config['StopSignal'], config['Cmd'], (config['Labels'] as Record<string, string>)['who'], (config['Labels'] as Record<string, string>)['l']], ['dev', 'SIGINT', ['/bin/sh', '-c', 'true'], 'me', 'v']);
    const other = await rig.environment('above', '', {}, 'made:1');
    await other.up();
    assert.equal((await other.hd('exec', 'cat', 'made')).stdout, 'built\n');
  });

  test('wrong usage', async () => {
    for (const args of [['image'], ['image', 'pull'], ['image', 'export', 'a'], ['image', 'export', 'a', '--tar', 'x', '--oci', 'y'], ['image', 'pull', 'a', '--platform', 'x'], ['image', 'frobnicate']]) assert.equal((await hd(...args)).code, 2, args.join(' '));
    assert.match((await hd('image', 'pull', 'Not A Name')).stderr, /is not an image reference/);
    assert.match((await hd('image', 'import', 'absent.tar', 'x')).stderr, /there is no .*absent\.tar/);
  });

  describe('and registries', { skip: noRegistry || noSkopeo }, () => {
    test('push, pull again and find it up to date; skopeo copies what was pushed', async () => {
      const name = `${registry!.host}/team/app:1`;
      const sent = JSON.parse(await ok('image', 'push', '--json', 'team/copy:2', name)) as { digest: string; written: { layers: number } };
      assert(sent.written.layers > 0);
      assert.equal((JSON.parse(await ok('image', 'push', '--json', 'team/copy:2', name)) as typeof sent).written.layers, 0);
      const pulled = await ok('image', 'pull', name);
      assert.match(pulled, new RegExp(`^Pulled ${name}\n {2}digest: ${sent.digest}\n$`));
      assert.match(await ok('image', 'pull', name), /^Up to date: /);
      assert.deepEqual((await inspect(name)).RepoDigests, [`${registry!.host}/team/app@${sent.digest}`]);
      skopeoCopy(`docker://${name}`, `oci:${at('copied')}:1`, rig.world.dir);
      await ok('image', 'import', 'copied', 'back:1');
      const images = new Map((await list()).map((image) => [image.name, image]));
      assert.equal(images.get('back:1')?.tree, images.get('team/copy:2')?.tree);
      assert.deepEqual((await inspect('back:1')).Config, (await inspect('team/copy:2')).Config);
    });

    test('by digest, and of a second image only the layers that are not here', async () => {
      writeFileSync(join(at('upper'), 'srv/page'), 'two\n');
      writeOciDir(at('second'), { layers: [at('lower'), at('upper')] });
      const [first, second] = ['layout', 'second'].map((dir) => skopeoCopy(`oci:${at(dir)}:latest`, `docker://${registry!.host}/team/two:${dir}`, rig.world.dir));
      await ok('image', 'pull', `${registry!.host}/team/two@${first}`);
      const { stderr, code } = await hd('image', 'pull', `${registry!.host}/team/two@${second}`);
      assert.equal(code, 0, stderr);
      assert.match(stderr, /^2 layers, 1 here already: /);
      assert.match(stderr, /^\[2\/2\] unpacked$/m);
      assert.doesNotMatch(stderr, /\[1\/2\]/);
      await ok('image', 'export', `${registry!.host}/team/two@${second}`, '--tar', 'second.tar');
      assert.equal(execFileSync('tar', ['-xOf', at('second.tar'), 'srv/page'], { encoding: 'utf8' }), 'two\n');
    });
  });
});
