import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, readdirSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { HdResult } from '@hyperdocker/testkit';
import { runHd, startHd, waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import { processesOf } from './remains.ts';
import type { ProjectRig } from './rig.ts';
import { BuildReport, noFuse, unable } from './rig.ts';

const TIMEOUT_MS = 60_000;
/** Nobody else's. */
const SLEEP = `300.${process.pid}`;
const RUNNING = 'already running: it builds by itself whenever a file changes\n';

describe('what has built stays for the next build', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let count = 0;
  const env = (more: Record<string, string> = {}): Record<string, string> => ({ ...rig.world.env, HD_LINGER_SECONDS: '300', ...more });

  before(async () => {
    rig = new BusyboxRig();
    assert.equal((await hd(rig.world.dir, {}, 'image', 'import', join(rig.world.dir, 'busybox'), 'busybox:1.36')).code, 0);
  });
  after(async () => {
    for (const pid of servers()) process.kill(pid, 'SIGTERM');
    await none();
    await rig[Symbol.asyncDispose]();
  });

  function hd(cwd: string, more: Record<string, string>, ...args: string[]): Promise<HdResult> {
    return runHd(args, { cwd, env: env(more), timeoutMs: TIMEOUT_MS });
  }

  function dockerfileProject(dockerfile: string, files: Record<string, string> = {}): string {
    const dir = join(rig.world.dir, `served-${count++}`);
    mkdirSync(dir);
    for (const [name, text] of Object.entries({ Dockerfile: `FROM busybox:1.36\n${dockerfile}`, ...files })) writeFileSync(join(dir, name), text);
    return dir;
  }

  /** @returns the digest of the image's files */
  async function build(dir: string, more: Record<string, string> = {}, ...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await hd(dir, more, 'build', '-f', 'Dockerfile', '-t', 'served', '-q', ...args);
    assert.equal(code, 0, stderr);
    return stdout.trim();
  }

  function servers(): number[] {
    return processesOf(rig.world.home).filter(({ args }) => / .*build-server-main/.test(args)).map(({ pid }) => pid);
  }

  /** The command of a build, in its container. */
  function isAsleep(): boolean {
    return readdirSync('/proc').some((name) => /^\d+$/.test(name) && commandOf(name) === `sleep ${SLEEP}`);
  }

  function commandOf(pid: string): string {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'latin1').replaceAll('\0', ' ').trim();
    } catch {
      return '';
    }
  }

  async function none(): Promise<void> {
    await waitUntil('nothing serves builds', () => processesOf(rig.world.home).length === 0, { timeoutMs: TIMEOUT_MS });
  }

  async function ended(pid: number): Promise<void> {
    await waitUntil(`${pid} has ended`, () => !servers().includes(pid), { timeoutMs: TIMEOUT_MS });
  }

  test('one process serves build after build, two at a time too, and the result is that of a process of its own', async () => {
    const dir = dockerfileProject('COPY in .\nRUN cat in > out\n');
    // COPY keeps times.
    const write = (text: string): void => {
      writeFileSync(join(dir, 'in'), text);
      utimesSync(join(dir, 'in'), 1e9, 1e9);
    };
    write('1');
    const first = await build(dir);
    const [server, ...others] = servers();
    assert(server !== undefined && others.length === 0);
    write('2');
    const second = await build(dir);
    const slow = dockerfileProject('RUN echo slow > slow\n');
    await Promise.all([build(slow, {}, '--no-cache'), build(slow, {}, '--no-cache'), build(dir)]);
    assert.deepEqual(servers(), [server]);
    assert.equal(await build(dir), second);
    write('1');
    assert.equal(await build(dir), first, 'a switch back');
    assert.equal(await build(dir, { HD_LINGER_SECONDS: '0' }), first, 'another environment: no process');
    assert.deepEqual(servers(), [server]);
    // Between builds it holds nothing: no directory of a build, and what is collected may go.
    assert.deepEqual(readdirSync(join(rig.world.home, 'builds/running')), []);
    assert.match((await hd(rig.world.dir, {}, 'cas', 'gc', '--caches', '--dry-run')).stdout, /freed|would free/i);
  });

  test('an error is that of the build; secrets, arguments and the environment are of whoever asks', async () => {
    const failing = dockerfileProject('RUN echo told && false\n');
    const { code, stdout, stderr } = await hd(failing, {}, 'build', '-f', 'Dockerfile', '-t', 'served');
    assert.equal(code, 1);
    assert.match(`${stdout}${stderr}`, /told[^]*Dockerfile:2/);
    const dir = dockerfileProject('RUN --mount=type=secret,id=token,required=true wc -c < /run/secrets/token > length\nCOPY --from=busybox:1.36 /bin/busybox /copy\n');
    await build(dir, {}, '--secret', `id=token,src=${join(dir, 'Dockerfile')}`);
    const lacking = await hd(dir, {}, 'build', '-f', 'Dockerfile', '-t', 'served', '--no-cache', '--secret', 'id=token,env=TOKEN_OF_NOBODY');
    assert.equal(lacking.code, 1, lacking.stdout);
    const before = servers();
    assert.equal((await hd(dir, { TOKEN_OF_NOBODY: 'correct horse battery', TERM: 'vt100', SHLVL: '9' }, 'build', '-f', 'Dockerfile', '-t', 'served', '--no-cache', '--secret', 'id=token,env=TOKEN_OF_NOBODY')).code, 0);
    assert.equal(servers().length, before.length + 1, 'another environment has another server');
    const unclear = await hd(dir, { HD_LINGER_SECONDS: 'long' }, 'build', '-f', 'Dockerfile', '-t', 'served', '--no-cache');
    assert.equal(unclear.code, 1);
    assert.match(unclear.stderr, /HD_LINGER_SECONDS=long is no number of seconds from 0 to 86400/);
    await waitUntil('the one that was told so has ended', () => servers().length === before.length + 1, { timeoutMs: TIMEOUT_MS });
  });

  test('Ctrl-C stops the build and not the server; so does the death of whoever asked', async () => {
    const dir = dockerfileProject(`RUN echo begun && sleep ${SLEEP}\n`);
    const before = servers();
    for (const signal of ['SIGINT', 'SIGKILL'] as const) {
      const client = startHd(['build', '-f', 'Dockerfile', '-t', 'served', '--no-cache', '--json'], { cwd: dir, env: env() });
      await waitUntil('the command runs', () => isAsleep(), { timeoutMs: TIMEOUT_MS });
      client.signal(signal);
      const { code } = await client.exited;
      if (signal === 'SIGINT') assert.equal(code, 130);
      await waitUntil('the command is gone', () => !isAsleep(), { timeoutMs: TIMEOUT_MS });
    }
    assert.deepEqual(servers(), before);
    await waitUntil('nothing of the build is left', () => readdirSync(join(rig.world.home, 'builds/running')).length === 0);
  });

  test('killed in a build, or between two, it leaves a clear error at most, and the next build has another', async () => {
    const dir = dockerfileProject(`RUN echo begun && sleep ${SLEEP}\n`);
    for (const pid of servers()) process.kill(pid, 'SIGTERM');
    await none();
    const client = startHd(['build', '-f', 'Dockerfile', '-t', 'served', '--no-cache'], { cwd: dir, env: env() });
    await waitUntil('the command runs', () => isAsleep(), { timeoutMs: TIMEOUT_MS });
    const [first = 0] = servers();
    process.kill(first, 'SIGKILL');
    const { code, stderr } = await client.exited;
    assert.equal(code, 1);
    assert.match(stderr, /the process of the build ended unexpectedly/);
    await none();
    const quick = dockerfileProject('RUN echo quick > quick\n');
    await build(quick);
    const [second = 0] = servers();
    assert.notEqual(second, first);
    process.kill(second, 'SIGKILL');
    await ended(second);
    await build(quick, {}, '--no-cache');
    assert.notDeepEqual(servers(), []);
  });

  test('a removed home or store is no trouble, and SIGTERM ends everything of it', async () => {
    const dir = dockerfileProject('RUN echo again > again\n');
    await build(dir);
    rmSync(join(rig.world.home, 'cas'), { recursive: true });
    rmSync(join(rig.world.home, 'actions.sqlite'));
    const lacking = await hd(dir, {}, 'build', '-f', 'Dockerfile', '-t', 'served');
    assert.equal(lacking.code, 1, 'the base image is gone with the store');
    assert.equal((await hd(rig.world.dir, {}, 'image', 'import', join(rig.world.dir, 'busybox'), 'busybox:1.36')).code, 0);
    await build(dir);
    for (const pid of servers()) process.kill(pid, 'SIGTERM');
    await none();
    assert.deepEqual(readdirSync(join(rig.world.home, 'builds/servers')), []);
    assert.equal(readFileSync(join(rig.world.home, 'builds/server.log'), 'utf8'), '');
  });

  /** A project whose build goes on until the command of `isAsleep` ends. */
  function slowEnvironment(name: string, more = ''): Promise<ProjectRig> {
    return rig.environment(name, `[build]\nsteps = ["echo ${name}; sleep ${SLEEP} || true; cat in > out"]\n${more}`, { in: 'one' });
  }

  function wake(): void {
    execFileSync('kill', readdirSync('/proc').filter((name) => /^\d+$/.test(name) && commandOf(name) === `sleep ${SLEEP}`));
  }

  const lingering = { HD_LINGER_SECONDS: '300' };

  test('environments: the same server, the same root as in a process of its own, and nothing runs afterwards', async () => {
    const project = await rig.environment('plain', '[build]\nsteps = ["cat in > out"]\n[services.web]\ncommand = "sleep 1000"\n', { in: 'one' });
    const rootOf = async (): Promise<unknown> => {
      const { state, root } = JSON.parse((await project.hd('status', '--json')).stdout) as { state: string; root: unknown };
      assert.equal(state, 'not running');
      return root;
    };
    const report = async (more: Record<string, string>, ...args: string[]): Promise<BuildReport> => {
      const { code, stdout, stderr } = await project.hdWith(more, 'build', '--json', ...args);
      assert.equal(code, 0, stderr);
      const made = new BuildReport(stdout);
      assert.deepEqual(made.events.slice(-3).map(({ type }) => type), ['built', 'up', 'stopped']);
      assert.deepEqual(made.events.map(({ seq }) => seq), made.events.map((_, index) => index + 1));
      return made;
    };
    await build(dockerfileProject('RUN true\n'));
    const before = servers();
    assert.equal((await report(lingering)).ran.length, 1);
    const root = await rootOf();
    assert.equal((await report(lingering)).cached.length, 1);
    assert.equal((await report({}, '--no-cache')).ran.length, 1, 'in a process of its own');
    assert.equal(await rootOf(), root);
    project.write('in', 'two');
    assert.equal((await report(lingering)).ran.length, 1);
    assert.notEqual(await rootOf(), root);
    project.write('in', 'one');
    assert.equal((await report(lingering)).ran.length, 0);
    assert.equal(await rootOf(), root);
    assert.deepEqual(servers(), before);
    assert.deepEqual(readdirSync(join(rig.world.home, 'builds/running')), []);
  });

  test('a faulty hd.toml and a step that fails are told as ever, by a server that runs too', async () => {
    const project = await rig.environment('faulty', '[build]\nsteps = ["echo told; false"]\n', { in: 'one' });
    for (const more of [{}, lingering]) {
      const failed = await project.hdWith(more, 'build');
      assert.equal(failed.code, 1);
      assert.match(failed.stderr, /FAILED with exit code 1[^]*told[^]*hd\.toml:5:[^]*error: this step ended/);
      const events = new BuildReport((await project.hdWith(more, 'build', '--json')).stdout).events;
      assert.deepEqual(events.slice(-2).map(({ type }) => type), ['failed', 'stopped']);
    }
    const text = project.read('hd.toml');
    for (const [spoiled, code, message] of [[`${text}[services.broken\n`, 2, /hd\.toml:6:/], [text.replace('false', 'true').replace('base', 'nam = 1\nbase'), 2, /unknown key "nam"/]] as const) {
      project.write('hd.toml', spoiled);
      for (const more of [{}, lingering]) {
        const refused = await project.hdWith(more, 'build', '--json');
        assert.equal(refused.code, code, refused.stderr);
        assert.match(refused.stderr, message);
        assert.equal(refused.stdout, '');
      }
    }
  });

  test('one build of an environment at a time: another one waits, and so does hd up, which can be stopped', async () => {
    const project = await slowEnvironment('waiting', '[services.web]\ncommand = "sleep 1000"\n');
    const waits = /being built already/;
    await using first = project.startWith(lingering, 'build');
    await waitUntil('the command runs', () => isAsleep(), { timeoutMs: TIMEOUT_MS });
    await using second = project.startWith(lingering, 'build');
    await second.waitFor(waits);
    second.signal('SIGINT');
    assert.equal((await second.exited).code, 130);
    await using elsewhere = project.start('build');
    await elsewhere.waitFor(waits);
    await using stopped = project.start('up');
    await stopped.waitFor(waits);
    stopped.signal('SIGINT');
    assert.equal((await stopped.exited).code, 130);
    const attached = await elsewhere.exited;
    assert.deepEqual([attached.code, attached.stdout], [0, RUNNING], 'that one would have built it');
    await using third = project.startWith(lingering, 'build');
    await third.waitFor(waits);
    wake();
    assert.equal((await first.exited).code, 0);
    const last = await third.exited;
    assert.equal(last.code, 0, last.stderr);
    assert.match(last.stdout, /0 ran, 1 cached/);
    project.write('in', 'two');
    await using fourth = project.startWith(lingering, 'build');
    await waitUntil('the command runs', () => isAsleep(), { timeoutMs: TIMEOUT_MS });
    await using up = project.start('up', '-d', '--wait');
    await up.waitFor(waits);
    wake();
    assert.equal((await fourth.exited).code, 0);
    const { code, stdout, stderr } = await up.exited;
    assert.equal(code, 0, stderr);
    assert.match(stdout, /0 ran, 1 cached/);
    const beside = await project.hdWith(lingering, 'build');
    assert.equal(beside.code, 0);
    assert.equal(beside.stdout, 'already running: it builds by itself whenever a file changes\n');
    assert.equal((await project.hd('down')).code, 0);
  });

  test('environments: Ctrl-C stops the build and not the server, and one that was killed leaves nothing that is not cleaned up', async () => {
    const project = await slowEnvironment('stopped', '[services.web]\ncommand = "sleep 1000"\n');
    const running = join(rig.world.home, 'builds/running');
    const seen: number[] = [];
    for (const signal of ['SIGINT', 'SIGTERM'] as const) {
      const client = project.startWith(lingering, 'build', '--json');
      await waitUntil('the command runs', () => isAsleep(), { timeoutMs: TIMEOUT_MS });
      client.signal(signal);
      const { code, stdout } = await client.exited;
      assert.equal(code, 130);
      assert.deepEqual(new BuildReport(stdout).events.slice(-2).map(({ type }) => type), ['failed', 'stopped']);
      await waitUntil('the command is gone', () => !isAsleep(), { timeoutMs: TIMEOUT_MS });
      seen.push(...servers());
    }
    assert.equal(new Set(seen).size, 1);
    for (const next of [['build'], ['up', '-d', '--wait']]) {
      const client = project.startWith(lingering, 'build', '--no-cache');
      await waitUntil('the command runs', () => isAsleep(), { timeoutMs: TIMEOUT_MS });
      const [left = ''] = readdirSync(running);
      process.kill(Number(left), 'SIGKILL');
      const { code, stderr } = await client.exited;
      assert.equal(code, 1);
      assert.match(stderr, /the process of the build ended unexpectedly/);
      await waitUntil('the command is gone', () => !isAsleep(), { timeoutMs: TIMEOUT_MS });
      assert.deepEqual(readdirSync(running), [left]);
      project.replace('hd.toml', /sleep [\d.]+ \|\| true; /, '');
      const after = await project.hdWith(lingering, ...next);
      assert.equal(after.code, 0, after.stderr);
      assert.deepEqual(readdirSync(running), []);
      await project.hd('down');
      project.replace('hd.toml', 'echo stopped; ', `echo stopped; sleep ${SLEEP} || true; `);
    }
  });
});
