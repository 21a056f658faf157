import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ChangedPath } from '@hyperdocker/environment';
import { envPaths, findProject, openHome } from '@hyperdocker/environment';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import { noFuse, unable } from './rig.ts';
import type { ProjectRig } from './rig.ts';

const STEPS = 'mkdir -p /data/sub/deep /data/gone /data/again && echo one > /data/sub/deep/one && echo two > /data/two && echo x > /data/gone/x && echo old > /data/again/old && echo 3 > /data/chmodded && ln -s two /data/link';
const WRITES = `
cd /data
mv sub moved && echo more > moved/deep/more
rm -r gone
rm -r again && mkdir again && echo new > again/new
echo changed > two; echo 3 > chmodded; chmod 600 chmodded; touch -d 2001-01-01 moved/deep/one
ln -sf one link; mkfifo pipe; mkdir -p fresh/empty; ln two hard
echo from inside > /workspace/made.txt
rm /workspace/kept.txt`;
const CHANGES = [
  'A /data/again/new file', 'D /data/again/old file', 'C /data/chmodded file', 'A /data/fresh dir', 'A /data/fresh/empty dir', 'D /data/gone dir', 'A /data/hard file',
  'C /data/link symlink', 'A /data/moved dir', 'A /data/moved/deep dir', 'A /data/moved/deep/more file', 'A /data/moved/deep/one file', 'A /data/pipe fifo', 'D /data/sub dir', 'C /data/two file',
  'D /workspace/kept.txt file', 'A /workspace/made.txt file',
];

for (const [title, overlay, fuse] of [['on disk, over FUSE', 'disk', 'on'], ['in memory, over FUSE', 'memory', 'on'], ['on disk, over files', 'disk', 'off']] as const) {
  describe(`what is written inside, ${title}`, { skip: unable || noFuse || noBusybox }, () => {
    let rig: BusyboxRig;
    let project: ProjectRig;

    before(async () => {
      rig = new BusyboxRig();
      const toml = `[build]\nsteps = ["${STEPS}"]\n[services.web]\ncommand = "echo started >> /tmp/starts; echo up; exec sleep 1000"\nready = { log = "up" }\n[options]\noverlay = "${overlay}"\nrestart_grace = "100ms"\n`;
      project = await rig.environment('overlay', toml, { 'kept.txt': 'kept\n', 'edited.txt': '1\n' });
      const up = await project.hdWith({ HD_FUSE: fuse }, 'up', '-d', '--wait');
      assert.equal(up.code, 0, up.stderr);
    });
    after(async () => await rig[Symbol.asyncDispose]());

    const inside = async (script: string): Promise<string> => (await project.hd('exec', '--', 'sh', '-c', script)).stdout;
    const lines = (changes: readonly ChangedPath[]): string[] => changes.map(({ change, path, kind }) => `${{ added: 'A', changed: 'C', removed: 'D' }[change]} ${path} ${kind}`).filter((line) => !line.includes('/tmp/starts'));

    test('hd diff --live names it, and nothing that came from outside', async () => {
      // Before what is written inside: without tracing, the step runs again, and what it makes is put in place again.
      await project.edit(() => project.write('edited.txt', '2\n'));
      assert.deepEqual(lines((await (await project.client()).changes())), []);
      await inside(WRITES);
      assert.equal(await inside('cat edited.txt /data/moved/deep/one /data/moved/deep/more; ls /data/again; test -e /data/sub; echo $?'), '2\none\nmore\nnew\n1\n');
      const { stdout } = await project.hd('diff', '--live', '--json');
      const { schema, changes } = JSON.parse(stdout) as { schema: string; changes: ChangedPath[] };
      assert.equal(schema, 'hd.diff.live/1');
      assert.deepEqual(lines(changes), CHANGES);
      assert.match((await project.hd('diff', '--live')).stdout, /^A \/data\/again\/new\nD \/data\/again\/old\nC \/data\/chmodded\n/);
      assert.equal((await project.hd('diff', '--live', 'current')).code, 2);
    });

    test('hd reset drops it, tells what, and restarts the services', async () => {
      const { code, stdout, stderr } = await project.hd('reset');
      assert.equal(code, 0, stderr);
      assert.match(stdout, /^A \/data\/again\/new\n/);
      assert.match(stdout, /Dropped 18 changes/);
      assert.equal(await inside('cat kept.txt edited.txt /data/two /data/sub/deep/one /data/gone/x /data/again/old /tmp/starts; readlink /data/link; ls /workspace'), 'kept\n2\ntwo\none\nx\nold\nstarted\ntwo\nedited.txt\nhd.toml\nkept.txt\n');
      assert.match((await project.hd('status')).stdout, /state:\s+ready/);
      await project.edit(() => project.write('edited.txt', '3\n'));
      assert.equal(await inside('cat edited.txt'), '3\n');
      assert.match((await project.hd('reset', '--json')).stdout, /"schema":"hd\.reset\/1","dropped":\[\{"path":"\/tmp\/starts","change":"added","kind":"file"\}\],"failed":\[\]/);
    });

    test(`it is kept ${overlay === 'memory' ? 'in memory, of which it can take half at most' : 'on the disk'}`, async () => {
      const { liveDir } = envPaths(openHome(rig.world.env), findProject(project.dir));
      const { pid } = await (await project.client()).status();
      const writable = execFileSync('nsenter', ['--target', String(pid), '--mount', '--root', '--', 'stat', '-f', '-c', '%T %b %S', join(liveDir, 'writable')], { encoding: 'utf8' }).trim().split(' ');
      assert.equal(writable[0] === 'tmpfs', overlay === 'memory');
      const memory = Number(execFileSync('awk', ['/MemTotal/ { print $2 * 1024 }', '/proc/meminfo'], { encoding: 'utf8' }));
      if (overlay === 'memory') assert(Number(writable[1]) * Number(writable[2]) <= memory * 0.51);
      assert.equal((await project.hd('down')).code, 0);
      await nothingLeft(project.dir);
    });
  });
}
