import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { HdError } from '@hyperdocker/base';
import { mountTargets } from './bundle.ts';
import { makeSpec, makeWorld, skipReason, type World } from './container-fixture.ts';
import { processesBeside, readPidFile } from './process-tree.ts';

function containerTest(name: string, body: (world: World, t: TestContext) => Promise<void>): void {
  test(name, { skip: skipReason }, async (t) => {
    await using world = makeWorld();
    await body(world, t);
  });
}

containerTest('exit codes, output and standard error pass through', async (world) => {
  const result = await world.run('echo out; echo err >&2; exit 7');
  assert.deepEqual(result, { code: 7, signal: null, stdout: 'out\n', stderr: 'err\n' });
  assert.equal((await world.run(['true'])).code, 0);
});

containerTest('death by a signal is 128 and its number', async (world) => {
  const result = await world.run('sh -c \'kill -s SEGV $$\'; exit $?');
  assert.deepEqual([result.code, result.signal], [139, 'SIGSEGV']);
});

containerTest('all output is there when the exit resolves', async (world) => {
  const result = await world.run('seq 1 200000');
  assert.equal(result.stdout.length, 1_288_895);
});

containerTest('a command that is missing or not executable is an outcome with a reason', async (world) => {
  const missing = await world.run(['no-such-command']);
  assert.deepEqual([missing.code, missing.problem?.code], [127, 'COMMAND_NOT_FOUND']);
  assert.match(missing.problem?.message ?? '', /no-such-command/);
  const missingPath = await world.run(['/no/such/command']);
  assert.deepEqual([missingPath.code, missingPath.problem?.code], [127, 'COMMAND_NOT_FOUND']);
  writeFileSync(join(world.dir, 'rootfs/work/script'), '#!/bin/sh\n', { mode: 0o644 });
  const forbidden = await world.run(['/work/script']);
  assert.deepEqual([forbidden.code, forbidden.problem?.code], [126, 'COMMAND_NOT_EXECUTABLE']);
  const broken = await world.run('true', { mounts: [{ destination: '/data', source: join(world.dir, 'absent'), readonly: true }] });
  assert.deepEqual([broken.code, broken.problem?.code], [125, 'CONTAINER_START_FAILED']);
  assert.match(broken.problem?.message ?? '', /absent/);
  assert.deepEqual(await world.runtime.list(), []);
  assert.deepEqual(readdirSync(world.state), []);
});

containerTest('a runtime that cannot be started is an outcome too', async (world) => {
  const { OciRuntime } = await import('./container.ts');
  const runtime = new OciRuntime({ path: join(world.dir, 'no-runtime'), root: world.state });
  const exit = await runtime.run(makeSpec(join(world.dir, 'rootfs'), 'x', 'true'), { bundleDir: join(world.dir, 'b'), stdio: 'capture' }).exit;
  assert.deepEqual([exit.code, exit.problem?.code], [125, 'CONTAINER_START_FAILED']);
});

containerTest('a command with a handler stops at SIGTERM in its own way', async (world) => {
  const container = world.start('trap "echo bye; exit 3" TERM; echo up; while :; do sleep 1000 & wait $!; done');
  await container.printed('up');
  assert.deepEqual(await container.stop({ graceMs: 20_000 }), { code: 3, signal: null });
  assert.match(container.output('stdout'), /bye/);
});

containerTest('with init, a command without a handler stops at SIGTERM at once', async (world) => {
  const container = world.start(['sh', '-c', 'echo up; exec sleep 1000'], { init: true });
  await container.printed('up');
  assert.deepEqual(await container.stop({ graceMs: 20_000 }), { code: 143, signal: 'SIGTERM' });
  assert.equal(container.output('stderr'), '');
  const missing = await world.run(['no-such-command'], { init: true });
  assert.equal(missing.code, 127);
  assert.match(missing.stderr, /no-such-command: not found/);
});

containerTest('with init, SIGINT, exit codes and arguments reach the command unchanged', async (world) => {
  const interrupted = world.start(['sh', '-c', 'echo up; exec sleep 1000'], { init: true });
  await interrupted.printed('up');
  assert.equal((await interrupted.stop({ signal: 'SIGINT', graceMs: 20_000 })).code, 130);
  const result = await world.run(['printf', '[%s]', 'a b', '$HOME', '"; exit 4'], { init: true });
  assert.equal(result.stdout, '[a b][$HOME]["; exit 4]');
  assert.equal((await world.run(['sh', '-c', 'exit 9'], { init: true })).code, 9);
});

containerTest('with init, an exit is not held up by what is left behind, nor by a crash', async (world) => {
  assert.equal((await world.run(['sh', '-c', 'sleep 1000 & exit 5'], { init: true })).code, 5);
});

containerTest('the children of a shell get the signal as well, and the time to act on it', async (world) => {
  const child = 'trap "sleep 0.1; echo child-stopped; exit 0" TERM; sleep 1000 & echo child-up; wait';
  const container = world.start(['sh', '-c', `sh -c '${child}'; echo after`], { init: true });
  await container.printed('child-up');
  await container.stop({ graceMs: 20_000 });
  assert.match(container.output('stdout'), /child-stopped/);
});

containerTest('what ignores SIGTERM is killed after the grace, with all its children', async (world) => {
  const container = world.start('trap "" TERM; sleep 1000 & setsid sleep 1001 & echo up; while :; do sleep 1000; done');
  await container.printed('up');
  const [status] = await world.runtime.list();
  const pids = processesBeside(status?.pid ?? 0);
  assert(pids.length >= 3);
  assert.deepEqual(await container.stop({ graceMs: 50 }), { code: 137, signal: 'SIGKILL' });
  assert.deepEqual(pids.filter((pid) => existsSync(`/proc/${pid}`)), []);
});

containerTest('a stop before the start has finished leaves nothing', async (world) => {
  assert.equal((await world.start('sleep 1000').kill()).code, 137);
  assert.deepEqual(await world.runtime.list(), []);
  // SIGTERM may meet the runtime in the moment before it becomes the command, which ends it with a code of its own.
  assert.notEqual((await world.start('sleep 1000').stop({ graceMs: 50 })).code, 0);
  assert.deepEqual(await world.runtime.list(), []);
});

containerTest('list shows what runs, kill signals it, and nothing is left behind', async (world) => {
  const container = world.start('echo up; sleep 1000');
  await container.printed('up');
  const [status, ...others] = await world.runtime.list();
  assert.deepEqual([status?.id, status?.status, others], [container.id, 'running', []]);
  assert.throws(() => world.runtime.run(makeSpec(join(world.dir, 'rootfs'), container.id, 'true'), { bundleDir: join(world.dir, 'b'), stdio: 'capture' }), {
    code: 'CONTAINER_EXISTS',
  });
  await world.runtime.kill(container.id, 'SIGKILL', { all: true });
  assert.equal((await container.exit).code, 137);
  assert.deepEqual(readdirSync(world.state), []);
  await assert.rejects(world.runtime.delete(container.id), { code: 'CONTAINER_DELETE_FAILED' });
  await world.runtime.delete(container.id, { force: true });
  await world.runtime.kill(container.id, 'SIGKILL');
  assert(!readFileSync('/proc/self/mounts', 'utf8').includes(world.dir));
});

containerTest('delete with force ends a container whose runtime process was killed', async (world) => {
  const container = world.start('echo up; sleep 1000');
  await container.printed('up');
  process.kill(container.pid, 'SIGKILL');
  assert.equal((await container.exit).code, 137);
  assert.deepEqual(await world.runtime.list(), []);
});

containerTest('no network but loopback with none, the network of the host with host', async (world) => {
  const server = createServer((socket) => socket.end('hello')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  const connect = [process.execPath, '-e', `require('net').connect(${port}, '127.0.0.1').on('data', (d) => console.log(String(d))).on('error', (e) => console.log(e.code))`];
  const mounts = [...makeSpec('/', 'x', '').mounts, { destination: process.execPath, source: process.execPath, readonly: true }];
  const env = { PATH: '/usr/bin:/bin', OPENSSL_CONF: '/dev/null' };
  try {
    assert.equal((await world.run(connect, { mounts, env, network: 'host' })).stdout.trim(), 'hello');
    assert.equal((await world.run(connect, { mounts, env })).stdout.trim(), 'ECONNREFUSED');
    assert.equal((await world.run('cat /proc/net/route | wc -l; cut -d: -f1 -s /proc/net/dev')).stdout.replace(/\s+/g, ' '), '1 lo ');
  } finally {
    server.close();
  }
});

containerTest('nothing of the host is visible', async (world) => {
  const result = await world.run('echo pids: $(ls /proc | grep -c "^[0-9]"); echo root: $(ls /); hostname; ls /proc/1/root/etc 2>&1; echo dev: $(ls /dev)');
  assert.match(result.stdout, /^pids: [1-5]$/m);
  const names = /^root: (.*)$/m.exec(result.stdout)?.[1]?.split(' ') ?? [];
  assert.deepEqual(names.filter((name) => !['bin', 'dev', 'lib', 'lib32', 'lib64', 'proc', 'sbin', 'sys', 'tmp', 'usr', 'work'].includes(name)), []);
  assert.match(result.stdout, /^test$/m);
  assert.match(result.stdout, /^dev: (core |console )*fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero$/m);
});

containerTest('capabilities, no new privileges and seccomp are as with Docker', async (world) => {
  const status = (await world.run('cat /proc/self/status')).stdout;
  assert.match(status, /^CapEff:\t00000000a80425fb$/m);
  assert.match(status, /^CapBnd:\t00000000a80425fb$/m);
  assert.match(status, /^CapAmb:\t0+$/m);
  assert.match(status, /^NoNewPrivs:\t1$/m);
  assert.match(status, /^Seccomp:\t2$/m);
  const user = (await world.run('cat /proc/self/status; id', { user: { uid: 1234, gid: 1235, additionalGids: [7] } })).stdout;
  assert.match(user, /^CapEff:\t0+$/m);
  assert.match(user, /uid=1234.* gid=1235.* groups=1235.*,7/);
});

containerTest('what could reach the host is refused', async (world) => {
  const attempts = [
    'mount -t tmpfs tmpfs /tmp',
    'unshare --user true',
    'unshare --mount true',
    'echo 1 > /proc/sys/kernel/sysrq',
    'echo b > /proc/sysrq-trigger',
    'mkdir /sys/fs/x',
    'touch /usr/x',
    'mknod /tmp/disk b 8 0 && cat /tmp/disk',
    'hostname other',
    'test -s /proc/kcore',
  ];
  for (const attempt of attempts) assert.notEqual((await world.run(attempt)).code, 0, attempt);
  assert.equal((await world.run('touch /x', { rootReadonly: true })).code, 1);
  assert.equal((await world.run('touch /tmp/x /dev/shm/x; mknod /tmp/null c 1 3 && echo > /tmp/null; su -s /bin/sh -c true nobody 2>/dev/null; exit 0')).code, 0);
});

containerTest('mounts, environment, directory and the targets that were made', async (world) => {
  mkdirSync(join(world.dir, 'shared'));
  writeFileSync(join(world.dir, 'conf'), 'text');
  const changes = {
    env: { PATH: '/usr/bin:/bin', A: 'x=y z', EMPTY: '' },
    cwd: '/work',
    mounts: [
      ...makeSpec('/', 'x', '').mounts,
      { destination: '/data/shared', source: join(world.dir, 'shared'), readonly: false },
      { destination: '/etc/conf', source: join(world.dir, 'conf'), readonly: true },
      { destination: '/scratch', source: '', type: 'tmpfs' as const, readonly: false },
    ],
  };
  const result = await world.run('echo "$A|$EMPTY|$(pwd)"; cat /etc/conf; echo 1 > /data/shared/new; echo 1 > /scratch/x; echo 1 > /etc/conf', changes);
  assert.equal(result.stdout, 'x=y z||/work\ntext');
  assert.notEqual(result.code, 0);
  assert.equal(readFileSync(join(world.dir, 'shared/new'), 'utf8'), '1\n');
  const targets = mountTargets(makeSpec('/', 'x', '', changes));
  assert.deepEqual(
    targets.filter(({ path }) => !/^\/(usr|bin|sbin|lib\w*)$/.test(path)),
    [
      { path: '/data/shared', kind: 'directory' },
      { path: '/dev', kind: 'directory' },
      { path: '/etc/conf', kind: 'file' },
      { path: '/proc', kind: 'directory' },
      { path: '/scratch', kind: 'directory' },
      { path: '/sys', kind: 'directory' },
    ],
  );
  for (const { path } of targets) assert(existsSync(join(world.dir, 'rootfs', path)), path);
  assert(!existsSync(join(world.dir, 'rootfs/scratch/x')));
});

containerTest('exec runs beside the command, and is stopped with its own children alone', async (world) => {
  const container = world.start('echo up; sleep 1000');
  await container.printed('up');
  const exec = (command: string, bundle: string, onOutput?: (text: string) => void) =>
    world.runtime.exec(container.id, { args: ['sh', '-c', command], env: { PATH: '/usr/bin:/bin', N: '1' }, cwd: '/tmp', user: { uid: 5, gid: 6 }, terminal: false }, {
      bundleDir: join(world.dir, bundle),
      stdio: 'capture',
      onOutput: (_stream, bytes) => onOutput?.(bytes.toString()),
    });
  let text = '';
  assert.equal((await exec('echo $N $(id -u) $(pwd); exit 5', 'e1', (bytes) => (text += bytes)).exit).code, 5);
  assert.equal(text, '1 5 /tmp\n');
  const printed = Promise.withResolvers<void>();
  const long = exec('trap "" TERM; sleep 1000 & echo on; while :; do sleep 1000; done', 'e2', () => printed.resolve());
  await printed.promise;
  assert.equal((await long.stop({ graceMs: 20 })).code, 137);
  const [status] = await world.runtime.list();
  assert.equal(status?.status, 'running');
  assert.equal((await exec('nothing-here-of-this-name', 'e3').exit).code, 127);
  await container.kill();
});

containerTest('standard input can be written to', async (world) => {
  const container = world.runtime.run(makeSpec(join(world.dir, 'rootfs'), 'input', 'read line; [ "$line" = hello ]'), {
    bundleDir: join(world.dir, 'b'),
    stdio: 'capture',
    stdin: 'pipe',
  });
  container.stdin?.end('hello\n');
  assert.equal((await container.exit).code, 0);
});

containerTest('a prefix runs the runtime elsewhere', async (world) => {
  const { OciRuntime } = await import('./container.ts');
  const { findRuntime } = await import('./runtime.ts');
  const runtime = new OciRuntime({ path: findRuntime(), root: world.state, prefix: ['env', 'PREFIX=1'] });
  assert.equal((await runtime.run(makeSpec(join(world.dir, 'rootfs'), 'prefixed', 'exit 6'), { bundleDir: join(world.dir, 'b'), stdio: 'capture' }).exit).code, 6);
  runtime.close();
});

containerTest('SIGKILL of the process that started it ends the container', async (world) => {
  const program = `
    import { makeSpec } from ${JSON.stringify(join(import.meta.dirname, 'container-fixture.ts'))};
    import { OciRuntime } from ${JSON.stringify(join(import.meta.dirname, 'container.ts'))};
    import { findRuntime } from ${JSON.stringify(join(import.meta.dirname, 'runtime.ts'))};
    const runtime = new OciRuntime({ path: findRuntime(), root: ${JSON.stringify(world.state)} });
    const rootfs = ${JSON.stringify(join(world.dir, 'rootfs'))};
    runtime.run(makeSpec(rootfs, 'ended', 'true'), { bundleDir: ${JSON.stringify(join(world.dir, 'b0'))}, stdio: 'capture' }).exit.then(() => {
      runtime.run(makeSpec(rootfs, 'orphan', 'echo up; sleep 1000'), { bundleDir: ${JSON.stringify(join(world.dir, 'b 1'))}, stdio: 'capture', onOutput: () => {
        runtime.exec('orphan', { args: ['sh', '-c', 'echo up; sleep 1000'], env: { PATH: '/usr/bin:/bin' }, cwd: '/', user: { uid: 0, gid: 0 }, terminal: false }, {
          bundleDir: ${JSON.stringify(join(world.dir, 'b 2'))}, stdio: 'capture', onOutput: () => process.send('up') });
      } });
    });`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  await once(child, 'message');
  // Output can be faster than the runtime's file with the process id.
  await until(() => ['b 1', 'b 2'].every((bundle) => readPidFile(join(world.dir, bundle, 'pid')) !== undefined));
  const inside = processesBeside(readPidFile(join(world.dir, 'b 1/pid')) ?? 0);
  assert(inside.length >= 2);
  child.kill('SIGKILL');
  // The kernel tells of each end by making its directory in /proc vanish; there is no event for processes that are not children.
  await until(() => inside.every((pid) => !isRunning(pid)) && readdirSync(world.state).length === 0);
});

test('a specification that cannot be run is refused before anything is made', { skip: skipReason }, async () => {
  await using world = makeWorld();
  for (const changes of [{ id: '../x' }, { id: '.x' }, { args: [] }, { cwd: 'work' }, { args: ['a\0b'] }]) {
    assert.throws(() => world.runtime.run(makeSpec(join(world.dir, 'rootfs'), 'x', 'true', changes), { bundleDir: join(world.dir, 'b'), stdio: 'capture' }), (error) => {
      return error instanceof HdError && error.code === 'CONTAINER_SPEC_INVALID';
    });
  }
  assert.deepEqual(readdirSync(world.state, { withFileTypes: true }), []);
});

/** A zombie has ended: whoever is process 1 here may be slow to take note. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

async function until(condition: () => boolean): Promise<void> {
  const { setTimeout: delay } = await import('node:timers/promises');
  for (let tries = 0; !condition(); tries++) {
    assert(tries < 3_000, 'it has not become true in half a minute');
    await delay(10);
  }
}
