import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout, runHd, startHd, waitUntil } from '@hyperdocker/testkit';
import type { HdResult } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import { noFuse, unable } from './rig.ts';
import type { ProjectRig } from './rig.ts';

const SENTINEL = 'sentinel-4f1d7c';

describe('isolation and exec', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('inside', '[build]\nsteps = ["env > step-env; ls -d /proc/[0-9]* > step-processes"]\n[services.web]\ncommand = "env > /tmp/service-env; echo ready; exec sleep 1000"\nready = { log = "ready" }\n', {
      'file.txt': 'from the host\n', 'dir/a.txt': 'a\n', 'dir/b.txt': 'b\n',
    });
    const up = await project.hdWith({ HD_TEST_SENTINEL: SENTINEL }, 'up', '-d', '--wait');
    assert.equal(up.code, 0, up.stderr);
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const inside = (script: string): Promise<HdResult> => project.hd('exec', '--', 'sh', '-c', script);

  test('no process, mount or directory of the host is to be seen', async () => {
    const processes = (await inside('ls -d /proc/[0-9]*; ps -o args')).stdout;
    assert(!processes.includes('supervisor') && !processes.includes(rig.world.dir), processes);
    assert((processes.match(/^\/proc\/\d+$/gm) ?? []).length < 6);
    const mounts = (await inside('cat /proc/self/mountinfo')).stdout.split('\n').filter((line) => line !== '').map((line) => line.split(' ')[4] ?? '');
    const known = /^\/$|^\/(proc|dev|sys)(\/|$)|^\/etc\/(resolv\.conf|hosts)$|^\/run\/hd\//;
    assert.deepEqual(mounts.filter((path) => !known.test(path)), []);
    for (const path of [rig.world.home, project.dir, rig.world.dir]) assert.equal((await inside(`ls '${path}'`)).code, 1);
    // /proc/1/root leads back into the container, wherever one comes from.
    assert.match((await inside('ls /proc/1/root/')).stdout, /^workspace$/m);
  });

  test('what is deleted and written inside stays inside', async () => {
    const before = execFileSync('find', [project.dir, '-type', 'f'], { encoding: 'utf8' });
    assert.equal((await inside('echo changed > file.txt; rm -rf /workspace/* && ls -A /workspace; touch /workspace/made-inside')).stdout, '');
    assert.equal(execFileSync('find', [project.dir, '-type', 'f'], { encoding: 'utf8' }), before);
    assert.equal(project.read('file.txt'), 'from the host\n');
    await project.edit(() => project.write('file.txt', 'edited on the host\n'));
    assert.equal((await inside('cat file.txt; ls')).stdout, 'edited on the host\nfile.txt\nmade-inside\n');
    await project.hd('down');
    await project.hdWith({ HD_TEST_SENTINEL: SENTINEL }, 'up', '-d', '--wait');
    assert.equal((await inside('ls')).stdout, 'dir\nfile.txt\nhd.toml\nstep-env\nstep-processes\n');
  });

  test('no variable of the host gets in: not into steps, services, exec, nor the store', async () => {
    const seen = await runHd(['exec', '--', 'sh', '-c', 'cat step-env /tmp/service-env; env'], { cwd: project.dir, env: { ...rig.world.env, HD_TEST_SENTINEL: SENTINEL } });
    assert.match(seen.stdout, /^PATH=/m);
    assert(!seen.stdout.includes(SENTINEL), seen.stdout);
    assert(!seen.stdout.includes(rig.world.home), seen.stdout);
    const files = readdirSync(rig.world.home, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile());
    const holding = files.map((entry) => join(entry.parentPath, entry.name)).filter((path) => existsSync(path) && readFileSync(path).includes(SENTINEL));
    assert.deepEqual(holding, []);
  });

  test('a step sees its own processes only', async () => {
    const { stdout } = await inside('cat step-processes');
    assert(stdout.split('\n').length < 6, stdout);
  });

  test('privileges are dropped as Docker drops them', async () => {
    const { stdout } = await inside('grep -E "^(NoNewPrivs|Seccomp|CapEff)" /proc/self/status; mount -t tmpfs none /mnt 2>&1; mknod /tmp/disk b 8 0 && head -c 1 /tmp/disk 2>&1; echo b > /proc/sysrq-trigger; cat /proc/kcore | head -c 1 | wc -c');
    assert.match(stdout, /^NoNewPrivs:\t1$/m);
    assert.match(stdout, /^Seccomp:\t2$/m);
    assert.equal(BigInt(`0x${/^CapEff:\t([0-9a-f]+)$/m.exec(stdout)?.[1] ?? 'f'}`) & (1n << 21n), 0n, 'CAP_SYS_ADMIN');
    assert.match(stdout, /permission denied|not permitted/i);
    assert.match(stdout, /^0$/m);
    const set = await inside('cp /bin/busybox /tmp/busybox && chmod 4755 /tmp/busybox && stat -c %a /tmp/busybox');
    assert.equal(set.stdout, '4755\n');
    assert.match((await project.hd('exec', '-u', 'dev', '/tmp/busybox', 'grep', '^Uid', '/proc/self/status')).stdout, /^Uid:\t1000\t1000\t1000\t1000$/m);
  });

  test('only the usual devices, none of the disks, also where one is made', async () => {
    const names = (await inside('ls /dev')).stdout.trim().split('\n');
    const usual = ['console', 'core', 'fd', 'full', 'mqueue', 'null', 'ptmx', 'pts', 'random', 'shm', 'stderr', 'stdin', 'stdout', 'tty', 'urandom', 'zero'];
    assert.deepEqual(names.filter((name) => !usual.includes(name)), []);
    // Major and minor numbers of the memory of the machine, of its disks, of FUSE and of the terminals of others.
    const disks = execFileSync('sh', ['-c', "awk 'NR > 2 { print $1, $2 }' /proc/partitions"], { encoding: 'utf8' }).trim().split('\n').slice(0, 3);
    for (const [kind, numbers] of [['c', '1 1'], ['c', '10 229'], ['c', '4 1'], ...disks.map((numbers) => ['b', numbers] as const)] as const) {
      const { stdout } = await inside(`rm -f /tmp/made; mknod /tmp/made ${kind} ${numbers} 2>&1; head -c 1 /tmp/made 2>&1 | wc -c; dd if=/dev/zero of=/tmp/made bs=1 count=0 conv=notrunc 2>&1 || true`);
      assert.match(stdout, /not permitted|[Pp]ermission denied|No such file/, `${kind} ${numbers}: ${stdout}`);
    }
  });

  test('no socket of the host or of the supervisor, and nothing of HD_HOME', async () => {
    const known = (await inside('find / -xdev -type s 2> /dev/null; find /run /var/run /tmp -type s 2> /dev/null')).stdout;
    assert.equal(known, '');
    for (const path of ['/var/run/docker.sock', '/run/docker.sock', '/run/containerd', '/run/systemd', rig.world.home, join(rig.world.home, 'cas'), checkout]) assert.equal((await inside(`ls -d '${path}'`)).code, 1, path);
    assert.equal((await inside(`for fd in /proc/self/fd/*; do readlink $fd; done | grep -c -F '${rig.world.dir}'`)).stdout, '0\n');
    // What mounts call themselves is all that is to be seen of where the files come from.
    const shown = (await inside(`cat /proc/self/mountinfo /proc/mounts /proc/self/environ /proc/self/cmdline /proc/1/environ /proc/1/cmdline | tr '\\0' '\\n'`)).stdout;
    assert(!shown.split('\n').filter((line) => !/ - overlay | overlay | \/etc\/(hosts|resolv\.conf) /.test(line)).some((line) => line.includes(rig.world.home)), shown);
  });

  test('files of the kernel that tell of the host, or act on it, are covered or refuse', async () => {
    const { stdout } = await inside(`
for file in /proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /proc/latency_stats; do test -e $file && test "$(head -c 1 $file 2>/dev/null | wc -c)" != 0 && echo "reads $file"; done
for dir in /sys/firmware /proc/acpi /proc/scsi /sys/devices/virtual/powercap; do test -d $dir && test -n "$(ls -A $dir)" && echo "lists $dir"; done
for file in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/mm/transparent_hugepage/enabled /sys/power/state; do (echo x > $file) 2>/dev/null && echo "writes $file"; done
for dir in $(find /sys/fs/cgroup -maxdepth 1 2>/dev/null); do mkdir $dir/hd-test 2>/dev/null && echo "makes a group in $dir"; (echo $$ > $dir/cgroup.procs) 2>/dev/null && echo "moves in $dir"; done
mount -o remount,rw /sys 2>/dev/null && echo remounted
mount -t proc proc /tmp 2>/dev/null && echo mounted
unshare -U true 2>/dev/null && echo "makes a user namespace"
nsenter -t 1 -m true 2>/dev/null && echo "enters a namespace"
chroot / /bin/true || echo "cannot chroot"
swapoff -a 2>/dev/null; hostname other 2>/dev/null && echo "renames the host"
date -s 2001-01-01 2>&1 | grep -q "not permitted" || echo "sets the clock"
dmesg > /dev/null 2>&1 && echo "reads the log of the kernel"
echo end`);
    assert.equal(stdout, 'end\n');
  });

  test('exit codes: of the command, 126, 127, and of signals', async () => {
    assert.equal((await inside('exit 42')).code, 42);
    assert.equal((await project.hd('exec', 'no-such-command')).code, 127);
    assert.equal((await project.hd('exec', '/etc/passwd')).code, 126);
    assert.equal((await inside('kill -9 $$')).code, 137);
  });

  test('standard input goes in, both outputs come out apart, whole and in order', async () => {
    const text = Array.from({ length: 20_000 }, (_, line) => `line ${line}\n`).join('');
    const cat = await runHd(['exec', 'cat'], { cwd: project.dir, env: rig.world.env, input: text });
    assert.equal(cat.stdout, text);
    const both = await inside('echo out; echo err >&2');
    assert.deepEqual([both.stdout, both.stderr], ['out\n', 'err\n']);
  });

  test('options: variables, user, directory', async () => {
    const run = await runHd(['exec', '-e', 'ONE=1 and more', '-e', 'PASSED', '-e', 'ABSENT', '-u', 'dev', '-w', '/etc', '--', 'sh', '-c', 'echo "$ONE|$PASSED|${ABSENT-none}|$(id -un)|$HOME|$(pwd)"'], { cwd: project.dir, env: { ...rig.world.env, PASSED: 'on' } });
    assert.equal(run.stdout, '1 and more|on|none|dev|/home/dev|/etc\n');
    assert.match((await project.hd('exec', '-u', '1234:5678', 'id')).stdout, /^uid=1234 gid=5678/);
  });

  test('a signal to hd exec reaches the command', async () => {
    await using hd = startHd(['exec', '--', 'sh', '-c', 'trap "echo told; exit 9" TERM; echo waiting; while :; do sleep 0.05; done'], { cwd: project.dir, env: rig.world.env });
    await hd.waitFor(/waiting/);
    hd.signal('SIGTERM');
    const { code, stdout } = await hd.exited;
    assert.deepEqual([code, stdout], [9, 'waiting\ntold\n']);
  });

  test('SIGKILL of hd exec leaves no process of it', async () => {
    const mark = '98765.4321';
    const running = (): boolean => execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).split('\n').some((line) => line.startsWith(`sleep ${mark}`));
    await using hd = startHd(['exec', '--', 'sh', '-c', `sleep ${mark} & echo waiting; wait`], { cwd: project.dir, env: rig.world.env });
    await hd.waitFor(/waiting/);
    await waitUntil('the process runs', () => (running() ? true : undefined));
    hd.signal('SIGKILL');
    await waitUntil('the process is gone', () => (running() ? undefined : true));
    assert.equal((await inside('echo still here')).stdout, 'still here\n');
  });

  test('a link planted inside is never followed by an edit from outside', async () => {
    const outside = join(rig.world.dir, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'a.txt'), 'untouched');
    assert.equal((await inside(`rm -rf dir && ln -s ${outside} dir && ln -s ${outside}/a.txt planted.txt`)).code, 0);
    await project.edit(() => project.write('dir/a.txt', 'must not get out'));
    await project.edit(() => project.write('planted.txt', 'must not get out either'));
    assert.equal(readFileSync(join(outside, 'a.txt'), 'utf8'), 'untouched');
    assert.deepEqual(readdirSync(outside), ['a.txt']);
    assert.equal((await inside('cat planted.txt')).stdout, 'must not get out either');
  });

  test('a link of the project that leads out of it arrives as the link that it is', async () => {
    await project.edit(() => symlinkSync('/etc/hostname', join(project.dir, 'link')));
    assert.equal((await inside('readlink link')).stdout, '/etc/hostname\n');
  });
});
