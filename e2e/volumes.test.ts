import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { waitForHttp } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

describe('volumes', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('volumes', `workdir = "/w"
[build]
steps = ["mkdir -p /data && echo from the tree > /data/initial && chmod 750 /data && chown 1000 /data"]
[volumes]
data = {}
empty = {}
[services.web]
command = "httpd -f -p PORT -h /data"
port = PORT
user = "dev"
volumes = ["data:/data", "empty:/fresh", "./conf:/conf:ro", "./shared:/shared"]
`, { 'conf/x': 'configured', 'shared/.keep': '' });
    await project.up();
  });
  after(() => rig[Symbol.asyncDispose]());

  const inside = async (command: string): Promise<string> => (await project.hd('exec', 'sh', '-c', command)).stdout;

  test('a volume begins with what the tree has there, and belongs to whom it belongs to there', async () => {
    assert.match(await waitForHttp(`${project.url}initial`), /from the tree/);
    assert.equal(await inside('stat -c "%a %u" /data /fresh'), '750 1000\n755 1000\n');
    assert.equal((await project.hd('volume', 'ls', '-q')).stdout, 'data\nempty\n');
    assert.match((await project.hd('status')).stdout, /^Volumes: +data, empty$/m);
  });

  test('what is mounted from the host is there on both sides, and read-only where that was said', async () => {
    assert.equal(await inside('cat /conf/x; echo no > /conf/y; echo back > /shared/written'), 'configured');
    assert(!existsSync(join(project.dir, 'conf/y')));
    assert.equal(readFileSync(join(project.dir, 'shared/written'), 'utf8'), 'back\n');
    writeFileSync(join(project.dir, 'shared/host'), 'from the host');
    assert.equal(await inside('cat /shared/host'), 'from the host');
  });

  test('it outlives reset, down and up, and goes only when it is removed', async () => {
    await inside('echo kept > /data/kept; echo gone > /gone');
    assert(!(await project.hd('diff', '--live')).stdout.includes('/data'));
    await project.hd('reset');
    assert.equal(await inside('cat /data/kept; ls /gone 2> /dev/null'), 'kept\n');
    const { code, stderr } = await project.hd('volume', 'rm', 'data');
    assert.equal(code, 1);
    assert.match(stderr, /is running/);
    await project.hd('down');
    await project.hd('cas', 'gc');
    await project.up();
    assert.equal(await inside('cat /data/kept'), 'kept\n');
    await project.hd('down');
    assert.equal((await project.hd('volume', 'rm', 'data')).stdout, 'Removed data\n');
    assert.equal((await project.hd('volume', 'rm', 'absent')).code, 1);
    assert.match((await project.hd('volume', 'ls')).stdout, /^data {3}not made yet\nempty +\d/);
    assert.match((await project.hd('down', '-v')).stdout, /Removed empty/);
  });

  test('a directory of the host that is not there is one clear error', async () => {
    project.replace('hd.toml', './shared:', './absent:');
    const { code, stdout, stderr } = await project.hd('up', '-d');
    assert.equal(code, 1);
    assert.match(`${stdout}${stderr}`, /\.\/absent is to be mounted, and is not there/);
    await project.hd('down');
  });
});
