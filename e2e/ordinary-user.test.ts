import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { appendFileSync, chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout, waitUntil } from '@hyperdocker/testkit';
import { makeBusyboxRoot, noBusybox, nothingLeft, writeOciDir } from './busybox.ts';
import { noFuse, unable } from './rig.ts';

const USER = `hdtest${process.pid}`;
const onPath = (name: string): boolean => ['/usr/bin', '/usr/sbin', '/bin', '/sbin'].some((dir) => existsSync(join(dir, name)));
const missing = ['useradd', 'newuidmap', 'su'].find((name) => !onPath(name));

/** Others may come to this path, through all directories above it. */
function isOpenToOthers(path: string): boolean {
  const parts = path.split('/');
  return parts.every((_, depth) => {
    const stats = execFileSync('stat', ['-L', '-c', '%a', `/${parts.slice(1, depth + 1).join('/')}`], { encoding: 'utf8' });
    return (Number.parseInt(stats.trim().at(-1) ?? '0', 8) & 1) === 1;
  });
}

const cannot = unable || noFuse || noBusybox || (missing === undefined ? false : `no ${missing} on this machine`) || (isOpenToOthers(join(checkout, 'packages')) ? false : 'this checkout is not open to other users');

/** On many machines the device is open to all; where it is not, it is for these commands alone. */
const OPEN_FUSE = 'mount -t tmpfs none /mnt && mknod -m 666 /mnt/fuse c 10 229 && mount --bind /mnt/fuse /dev/fuse && umount -l /mnt || exit 1; exec su "$0" -c "$1"';

const TOML = `[environment]
name = "rootless"
base = "oci:../busybox"
[build]
steps = [
  "mkdir -p /low/deep && echo 1 > /low/deep/f && mkdir /srv && echo 2 > /srv/f && chown -R 1000:2000 /srv && chmod 700 /srv && cat hd.toml > /dev/null",
  { run = "mv /low /high && rm -r /srv/f && cat /proc/net/dev | wc -l > /devices && mkfifo /pipe", network = false },
]
[services.web]
command = "id -u > /tmp/user; ls /workspace > /tmp/files; echo up; exec sleep 1000"
watch = ["*.txt"]
ready = { log = "up" }
[options]
restart_grace = "100ms"
`;

interface Ran { code: number; stdout: string; stderr: string }

describe('an ordinary user', { skip: cannot }, () => {
  let dir: string;
  let project: string;

  before(() => {
    dir = realpathSync(mkdtempSync(join(tmpdir(), 'hd-user-')));
    chmodSync(dir, 0o755);
    project = join(dir, 'project');
    execFileSync('useradd', ['--home-dir', join(dir, 'home'), '--create-home', '--shell', '/bin/sh', USER], { stdio: 'ignore' });
    if (!readFileSync('/etc/subuid', 'utf8').includes(`${USER}:`)) execFileSync('usermod', ['--add-subuids', '700000-765535', '--add-subgids', '700000-765535', USER]);
    makeBusyboxRoot(join(dir, 'root'));
    writeOciDir(join(dir, 'busybox'), { layers: [join(dir, 'root')] });
    mkdirSync(project);
    writeFileSync(join(project, 'hd.toml'), TOML);
    writeFileSync(join(project, 'a.txt'), 'a\n');
    execFileSync('chown', ['-R', `${USER}:`, project, join(dir, 'busybox')]);
  });
  after(() => {
    execFileSync('userdel', ['--remove', '--force', USER], { stdio: 'ignore' });
    rmSync(dir, { recursive: true, force: true });
  });

  /** A command of the user's own shell; `hd` in it is this one. */
  const asUser = (script: string, path?: string): Promise<Ran> => {
    const words = `cd ${project}; export HD_DEV=1 HD_HOME=${dir}/home/.hd PATH=${path ?? '"$PATH"'}; hd() { ${join(checkout, 'hd')} "$@"; }; ${script}`;
    const child = spawn('unshare', ['--mount', '--propagation', 'slave', 'sh', '-c', OPEN_FUSE, USER, words], { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, NODE_TEST_CONTEXT: undefined, HD_HOME: undefined } });
    const ran = { stdout: '', stderr: '' };
    for (const name of ['stdout', 'stderr'] as const) child[name].setEncoding('utf8').on('data', (text: string) => (ran[name] += text));
    return new Promise((resolve, reject) => child.once('error', reject).once('close', (code) => resolve({ code: code ?? -1, ...ran })));
  };

  test('builds and runs an environment, with tracing, users and edits', async () => {
    const up = await asUser('hd up -d --wait');
    assert.equal(up.code, 0, up.stdout + up.stderr);
    assert.match(up.stdout, /Steps: 2 ran/);
    const inside = await asUser('hd exec sh -c "id -u; cat /tmp/user /high/deep/f /devices; ls -ldn /srv | cut -c1-10; stat -c %u:%g /srv; test -e /low || echo moved; touch /root/x && echo root"; hd exec -u dev sh -c "touch /home/dev/y /tmp/z; stat -c %u /tmp/z"');
    assert.equal(inside.stdout, '0\n0\n1\n3\ndrwx------\n1000:2000\nmoved\nroot\n1000\n', inside.stderr);
    assert.equal((await asUser('hd exec sh -c "exit 7"')).code, 7);
    writeFileSync(join(project, 'b.txt'), 'b\n');
    await waitUntil('the edit arrives', async () => ((await asUser('hd exec cat /tmp/files')).stdout.includes('b.txt') ? true : undefined), { timeoutMs: 60_000 });
    const again = await asUser('hd down; hd build');
    assert.match(again.stdout, /0 ran, 2 cached/, again.stdout);
  });

  test('what is written inside comes out as files of the user', async () => {
    const { stdout, stderr } = await asUser('hd up -q -d --wait && hd exec sh -c "mkdir new; echo 1 > new/f; echo 2 > a.txt; chown 7:7 new/f" && hd pull -q new a.txt && stat -c "%U %a %n" new new/f a.txt && cat a.txt; hd down -q');
    assert.equal(stdout, `${USER} 755 new\n${USER} 644 new/f\n${USER} 644 a.txt\n2\n`, stderr);
  });

  test('nothing of the machine is open to root inside', async () => {
    await asUser('hd up -d --wait');
    const { stdout } = await asUser(`hd exec sh -c 'exec 2>&1; cat /proc/self/uid_map | wc -l; echo x > /proc/sys/kernel/hostname; mknod /tmp/disk b 8 0; mount -t tmpfs none /mnt; ls /sys/fs/cgroup /sys/firmware; ls ${dir}; touch /sys/x'`);
    assert.match(stdout, /^2\n/);
    assert.equal(stdout.split('\n').filter((line) => /not permitted|denied|[Rr]ead-only|No such file|can't create/.test(line)).length, 5, stdout);
  });

  const pidOf = async (): Promise<number> => (JSON.parse((await asUser('hd status --json')).stdout) as { pid: number }).pid;
  const left = async (): Promise<string> => (await asUser(`cd ${dir}/home/.hd; find . -path "./envs/*/live*" -o -path "./envs/*/steps" -o -path "./envs/*/bundles" -o -uid +65536 -o -perm 000`)).stdout;

  test('after SIGKILL of the supervisor its files are adopted, by the same user namespace', async () => {
    await asUser('hd up -d --wait');
    await asUser('hd exec -u dev sh -c "cd /tmp && mkdir -m 700 mine && echo kept > mine/f"');
    process.kill(await pidOf(), 'SIGKILL');
    const up = await asUser('hd up -d --wait; hd exec -u dev -w /tmp cat mine/f; hd exec id -u');
    assert.match(up.stdout, /kept\n0\n$/, up.stdout + up.stderr);
    assert.match((await asUser('hd down && hd cas fsck')).stdout, /Stopped/);
    assert.equal(await left(), '');
    await nothingLeft(project);
  });

  test('after SIGKILL of all of it, the next command takes away what belongs to subordinate ids', async () => {
    await asUser('hd up -d --wait');
    await asUser('hd exec -u dev sh -c "cd /tmp && mkdir -m 700 mine && echo 1 > mine/f"');
    const supervisor = await pidOf();
    const record = JSON.parse((await asUser(`cat ${dir}/home/.hd/envs/*/live.json`)).stdout) as { host: { pid: number } };
    for (const pid of [record.host.pid, supervisor]) process.kill(pid, 'SIGKILL');
    await nothingLeft(project);
    assert.match((await asUser('hd status')).stdout, /not running/);
    assert.equal(await left(), '');
    assert.match((await asUser('hd up -d --wait && hd exec ls /tmp && hd down')).stdout, /Stopped/);
    await nothingLeft(project);
  });

  test('what is lacking is said, by hd doctor and by hd up', async () => {
    const good = await asUser('hd doctor --json');
    const checks = (JSON.parse(good.stdout) as { checks: { id: string; status: string; detail: string }[] }).checks;
    for (const id of ['user', 'user-namespaces', 'fuse', 'overlay', 'runtime']) assert.equal(checks.find((check) => check.id === id)?.status, 'ok', JSON.stringify(checks.find((check) => check.id === id)));
    assert.match(checks.find(({ id }) => id === 'cgroups')?.detail ?? '', /limits .* do not hold|version/);
    const bare = join(dir, 'bare');
    mkdirSync(bare);
    for (const name of ['sh', 'readlink', 'dirname', 'cmp', 'unshare']) execFileSync('ln', ['-s', execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim(), bare]);
    const without = await asUser('hd up -d', bare);
    assert.equal(without.code, 1);
    assert.match(without.stderr, /newuidmap is not installed[\s\S]*apt-get install uidmap/);
    const entry = readFileSync('/etc/subuid', 'utf8').split('\n').find((line) => line.startsWith(`${USER}:`)) ?? '';
    execFileSync('sed', ['-i', `/^${USER}:/d`, '/etc/subuid']);
    try {
      const { code, stdout } = await asUser('hd doctor');
      assert.equal(code, 1);
      assert.match(stdout, new RegExp(`\\[fail\\] User namespaces: no subordinate ids for ${USER} in /etc/subuid\n +fix: usermod --add-subuids`));
    } finally {
      appendFileSync('/etc/subuid', `${entry}\n`);
    }
  });
});
