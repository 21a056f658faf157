import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout, runHd, startHd, waitUntil } from '@hyperdocker/testkit';
import type { HdResult } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import { noTerminal, startInTerminal } from './in-terminal.ts';
import type { InTerminal } from './in-terminal.ts';
import { noFuse, unable } from './rig.ts';
import type { ProjectRig } from './rig.ts';

/** Gives each program that is to be found a name of its own. */
let marks = 0;
const mark = (): string => `98${process.pid}.${++marks}`;

function runs(sleeper: string): true | undefined {
  return execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).split('\n').some((line) => line === `sleep ${sleeper}`) ? true : undefined;
}

describe('hd exec and hd shell', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('exec', '[build]\nsteps = ["echo \'zoe:x:1001:1001::/home/zoe:/bin/myshell\' >> /etc/passwd; echo \'nina:x:1002:1002::/:/sbin/nologin\' >> /etc/passwd; echo \'#!/bin/sh\' > /bin/myshell; echo \'exec sh\' >> /bin/myshell; chmod 755 /bin/myshell"]\n');
    await project.up();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const hd = (...args: string[]): Promise<HdResult> => project.hd(...args);
  const inTerminal = (...args: string[]): Promise<InTerminal> => startInTerminal(join(checkout, 'hd'), args, { cwd: project.dir, env: { ...rig.world.env, HD_DEV: '1' } });

  test('exit codes, with the reason for those that are not of the command', async () => {
    assert.equal((await hd('exec', '--', 'sh', '-c', 'exit 42')).code, 42);
    assert.equal((await hd('exec', '--', 'sh', '-c', 'kill -15 $$')).code, 143);
    const cases: [string[], number, RegExp][] = [
      [['no-such-command'], 127, /no-such-command: not found/],
      [['/no/such/command'], 127, /not found|No such file/],
      [['/etc/passwd'], 126, /[Pp]ermission denied/],
      [['/etc'], 126, /[Pp]ermission denied|[Ii]s a directory/],
      [['-u', 'nobody-here', 'true'], 125, /no user named nobody-here/],
      [['-u', 'root:no-group', 'true'], 125, /no group named no-group/],
      [['-e', '=x', 'true'], 2, /NAME=VALUE/],
      [['-t', 'true'], 1, /not a terminal/],
    ];
    for (const [args, code, message] of cases) {
      const run = await hd('exec', ...args);
      assert.equal(run.code, code, `hd exec ${args.join(' ')}: ${run.stderr}`);
      assert.match(run.stderr, message);
    }
  });

  test('a name is that of a program, also where the shell has a builtin of that name', async () => {
    assert.equal((await hd('exec', 'exit', '3')).code, 127);
    assert.equal((await hd('exec', 'readlink', '/bin/echo')).stdout, 'busybox\n');
    assert.equal((await hd('exec', 'echo', '-e', 'a\\tb')).stdout, 'a\tb\n');
  });

  test('options as people type them; after the command they are its own', async () => {
    const { stdout } = await hd('exec', '-i', '-eONE=1', '--env', 'TWO=2 two', '-udev:extra', '-w', '/tmp', 'sh', '-c', 'echo "$ONE $TWO $(id -u):$(id -g) $HOME $(pwd) $0 $*"', '-u', 'root', '--', '-x');
    assert.equal(stdout, '1 2 two 1000:2000 /home/dev /tmp -u root -- -x\n');
    assert.equal((await hd('exec', '--', 'echo', '--', '-i')).stdout, '-- -i\n');
    assert.equal((await hd('exec', '-w', 'made/for/it', 'pwd')).stdout, '/workspace/made/for/it\n');
  });

  test('standard input: 50 MB of it, its end, and none', async () => {
    const input = 'x'.repeat(50_000_000);
    const run = await runHd(['exec', '-T', '--', 'sh', '-c', 'wc -c; echo after'], { cwd: project.dir, env: rig.world.env, input });
    assert.equal(run.stdout, '50000000\nafter\n');
    assert.equal((await hd('exec', 'cat')).stdout, '');
  });

  test('signals: to the command alone, as to any process; those of the keyboard to all of its processes', async () => {
    const script = (inner: string): string => `trap "echo got USR1" USR1; trap "echo got TERM; exit 9" TERM; trap "echo got INT; exit 8" INT; ${inner} & echo waiting; while :; do wait; done`;
    for (const [signal, code, stdout] of [['SIGTERM', 9, 'got TERM'], ['SIGINT', 8, 'got INT']] as const) {
      await using process = startHd(['exec', '--', 'sh', '-c', script('sleep 1000')], { cwd: project.dir, env: rig.world.env });
      await process.waitFor(/waiting/);
      process.signal('SIGUSR1');
      await process.waitFor(/got USR1/);
      process.signal(signal);
      assert.deepEqual([(await process.exited).code, (await process.exited).stdout], [code, `waiting\ngot USR1\n${stdout}\n`]);
    }
  });

  test('SIGKILL of the client ends the command, in a terminal too', { skip: noTerminal }, async () => {
    const [piped, shown] = [mark(), mark()];
    await using client = startHd(['exec', '--', 'sh', '-c', `sleep ${piped} & sleep ${piped}`], { cwd: project.dir, env: rig.world.env });
    const terminal = await inTerminal('exec', 'sleep', shown);
    await waitUntil('both run', () => (runs(piped) === true ? runs(shown) : undefined));
    client.signal('SIGKILL');
    process.kill(terminal.pid, 'SIGKILL');
    await waitUntil('both are gone', () => (runs(piped) === undefined && runs(shown) === undefined ? true : undefined));
    await terminal.exited;
  });

  test('in a terminal: its size and later sizes, Ctrl-C, job control, the exit code', { skip: noTerminal }, async () => {
    const shell = await inTerminal('shell');
    await shell.waitFor(/# /);
    // A carriage return more where the shell has found its terminal before the runtime had changed it.
    shell.write('stty size; tty; echo "$SHELL $TERM"\r');
    await shell.waitFor(/24 80\r+\n\/dev\/pts\/0\r+\n\/bin\/sh xterm\r+\n/);
    shell.write('until [ "$(stty size)" = "33 111" ]; do sleep 0.05; done; echo resi""zed\r');
    shell.resize();
    await shell.waitFor(/\nresized\r/);
    shell.write('sh -c "echo be""gun; exec sleep 1000"\r');
    await shell.waitFor(/\nbegun\r/);
    shell.write('\u0003');
    await shell.waitFor(/# /);
    shell.write('echo "code $?"; exit 7\r');
    await shell.waitFor(/code 130\r+\n/);
    assert.equal(await shell.exited, 7);
  });

  test('in a terminal: Ctrl-C and SIGTERM reach a command that knows of neither; -T hands it no terminal', { skip: noTerminal }, async () => {
    const interrupted = await inTerminal('exec', '--', 'sh', '-c', 'echo ready; exec sleep 1000');
    await interrupted.waitFor(/ready/);
    interrupted.write('\u0003');
    assert.equal(await interrupted.exited, 130);
    const ended = await inTerminal('exec', '-it', '--', 'sh', '-c', 'echo ready; exec sleep 1000');
    await ended.waitFor(/ready/);
    process.kill(ended.pid, 'SIGTERM');
    assert.equal(await ended.exited, 143);
    const plain = await inTerminal('exec', '-T', '--', 'sh', '-c', 'for n in 0 1 2; do test -t $n && echo terminal $n; done; echo none; exit 5');
    await plain.waitFor(/^none\r+\n/);
    assert.equal(await plain.exited, 5);
  });

  test('the shell is that of the user in passwd, where it is one', { skip: noTerminal }, async () => {
    for (const [user, shell] of [['zoe', '/bin/myshell'], ['nina', '/bin/sh'], ['1234', '/bin/sh']] as const) {
      const opened = await inTerminal('shell', '-u', user);
      opened.write('echo "is $SHELL"; exit\r');
      await opened.waitFor(new RegExp(`\nis ${shell}\r+\n`));
      assert.equal(await opened.exited, 0);
    }
    assert.equal((await runHd(['shell'], { cwd: project.dir, env: rig.world.env, input: 'echo from a pipe; exit 4\n' })).stdout, 'from a pipe\n');
  });

  test('detached: it outlives the client, and says when it cannot start', async () => {
    const sleeper = mark();
    const run = await hd('exec', '-d', '-e', 'A=1', 'sh', '-c', `echo $A > /tmp/detached; exec sleep ${sleeper}`);
    assert.deepEqual([run.code, run.stdout, run.stderr], [0, '', '']);
    await waitUntil('it runs', () => runs(sleeper));
    assert.equal((await hd('exec', 'cat', '/tmp/detached')).stdout, '1\n');
    const missing = await hd('exec', '--detach', 'no-such-command');
    assert.equal(missing.code, 127);
    assert.match(missing.stderr, /no-such-command/);
    assert.equal((await hd('exec', '-d', '-u', 'nobody-here', 'true')).code, 125);
  });

  test('down ends what was started by exec, attached or not, and leaves nothing', async () => {
    const [attached, detached] = [mark(), mark()];
    await hd('exec', '-d', 'sleep', detached);
    await using client = startHd(['exec', 'sleep', attached], { cwd: project.dir, env: rig.world.env });
    await waitUntil('both run', () => (runs(attached) === true ? runs(detached) : undefined));
    assert.equal((await hd('down')).code, 0);
    const { code, stderr } = await client.exited;
    assert.equal(code, 137);
    assert.match(stderr, /the environment was stopped/);
    assert.equal(runs(detached), undefined);
    await nothingLeft(project.dir);
    assert.equal((await hd('exec', 'true')).code, 4);
  });
});
