import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cgroupMode } from '@hyperdocker/sandbox';
import { waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import { noFuse, unable } from './rig.ts';
import type { ProjectRig } from './rig.ts';

const noGroups: string | false = cgroupMode() === 'none' ? 'no control groups can be written on this machine' : false;

const TOML = `[build]
steps = [
  "echo 'maker:x:1500:1500::/home/maker:/bin/sh' >> /etc/passwd && echo 'maker:x:1500:' >> /etc/group && echo 'more:x:1600:maker' >> /etc/group && mkdir -p /home/maker && chown 1500 /home/maker",
]
pids = 300

[services.hungry]
command = "dd if=/dev/zero of=/dev/null bs=300M count=1; exit $?"
memory = "48MB"
restart_policy = "never"

[services.child]
command = "trap 'exit 3' TERM; dd if=/dev/zero of=/dev/null bs=300M count=1 || exit 3"
memory = "48MB"
restart_policy = "never"

[services.crowd]
command = "(for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do sleep 1000 & done) 2> /tmp/crowd; echo up; exec sleep 1000"
pids = 12
cpus = 0.5
memory = "256MB"
ready = { log = "." }
restart_policy = "never"

[services.writer]
command = "id > /tmp/who; echo $HOME > /tmp/home; echo from writer > made-here && echo more >> file.txt && echo up; exec sleep 1000"
user = "dev"
ready = { log = "up" }

[services.made]
command = "id > /tmp/made; echo $HOME >> /tmp/made; touch /home/maker/x && echo up; exec sleep 1000"
user = "maker"
ready = { log = "up" }

[services.group]
command = "id > /tmp/group; echo up; exec sleep 1000"
user = "1000:2000"
ready = { log = "up" }

[services.all]
command = "grep -E '^(CapEff|Seccomp|NoNewPrivs):' /proc/self/status > /tmp/all; ls /dev > /tmp/devices; mount -t tmpfs none /root && echo mounted >> /tmp/all; echo up; exec sleep 1000"
privileged = true
ready = { log = "up" }

[options]
restart_grace = "100ms"
`;

describe('users and limits of services', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('limits', TOML, { 'file.txt': 'file\n', 'sub/other.txt': 'other\n' });
    await project.hd('up', '-d', '--wait');
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const inside = async (script: string): Promise<string> => (await project.hd('exec', '--', 'sh', '-c', script)).stdout;

  test('a service that the kernel kills for want of memory is reported as that', { skip: noGroups }, async () => {
    const client = await project.client();
    for (const name of ['hungry', 'child']) {
      const service = await waitUntil(`${name} has failed`, async () => (await client.status()).services.find((candidate) => candidate.name === name && candidate.status === 'failed'));
      assert.equal(service.lastRestart?.cause, 'out of memory: a process was killed, since all may have 48 MB together');
    }
    assert.match((await project.hd('status')).stdout, /out of memory/);
  });

  test('processes, processors and memory are limited in the kernel', { skip: noGroups }, async () => {
    assert.match(await inside('cat /tmp/crowd'), /fork/);
    const { pid } = await (await project.client()).status();
    const group = (controller: string, file: string): string => {
      const id = `hyperdocker/${project.containerPrefix}${pid}-crowd-1`;
      const path = ['/sys/fs/cgroup', `/sys/fs/cgroup/${controller}`].map((root) => join(root, id, file)).find((candidate) => existsSync(candidate));
      return path === undefined ? `no ${file}` : readFileSync(path, 'utf8').trim();
    };
    const unified = cgroupMode() === 'unified';
    assert.equal(group('pids', 'pids.max'), '12');
    assert.equal(unified ? group('cpu', 'cpu.max') : `${group('cpu', 'cpu.cfs_quota_us')} ${group('cpu', 'cpu.cfs_period_us')}`, '50000 100000');
    assert.equal(unified ? group('memory', 'memory.max') : group('memory', 'memory.limit_in_bytes'), String(256 * 2 ** 20));
  });

  test('a user of the image has its home and groups, and can write to the project', async () => {
    assert.equal(await inside('cat /tmp/who /tmp/home; cat file.txt made-here; stat -c "%U %n" . file.txt made-here sub sub/other.txt'),
      'uid=1000(dev) gid=1000(dev) groups=1000(dev),2000(extra)\n/home/dev\nfile\nmore\nfrom writer\ndev .\ndev file.txt\ndev made-here\ndev sub\ndev sub/other.txt\n');
    await project.edit(() => project.write('sub/later.txt', 'later\n'));
    assert.equal(await inside('stat -c %U sub/later.txt'), 'dev\n');
  });

  test('a user that a step makes, and a group by number', async () => {
    assert.equal(await inside('cat /tmp/made'), 'uid=1500(maker) gid=1500(maker) groups=1500(maker),1600(more)\n/home/maker\n');
    assert.match(await inside('cat /tmp/group'), /^uid=1000\(dev\) gid=2000\(extra\)/);
  });

  test('privileged gives one service all rights, and no other', async () => {
    const all = await inside('cat /tmp/all');
    assert.equal(/^CapEff:\t(\w+)$/m.exec(all)?.[1], /^CapBnd:\t(\w+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
    assert.match(all, /^NoNewPrivs:\t0\nSeccomp:\t0\nmounted$/m);
    assert(Number((await inside('wc -l < /tmp/devices')).trim()) > Number((await inside('ls /dev | wc -l')).trim()));
    assert.match(await inside('grep NoNewPrivs /proc/self/status'), /1/);
  });

  test('nothing of it is left', async () => {
    await project.hd('down');
    await nothingLeft(project.dir);
    for (const root of ['/sys/fs/cgroup', '/sys/fs/cgroup/memory', '/sys/fs/cgroup/pids']) {
      const groups = existsSync(join(root, 'hyperdocker')) ? readdirSync(join(root, 'hyperdocker')) : [];
      assert.deepEqual(groups.filter((name) => name.startsWith(project.containerPrefix)), []);
    }
  });

  test('a user that is not there fails the service, with the reason', async () => {
    const other = await rig.environment('nobody', '[services.web]\ncommand = "sleep 1000"\nuser = "ghost"\nrestart_policy = "never"\n');
    const up = await other.hd('up', '-d', '--wait');
    assert.equal(up.code, 1);
    assert.match(up.stdout + up.stderr, /no user named ghost/);
    await other.hd('down');
  });
});
