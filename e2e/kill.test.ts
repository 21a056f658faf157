/**
 * SIGKILL of whatever runs for an environment, in any order and at any moment: the next command recovers, what was written inside is still there unless both who could have kept it
 * were killed, and nothing remains after `hd down`. `HD_KILL_ROUNDS` says how many rounds; `HD_TEST_SEED` runs the same again.
 */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import type { HdProcess } from '@hyperdocker/testkit';
import { randomNumbers, waitForHttp, waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import { nothingRemains, processesOf } from './remains.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const skip = unable || noFuse || noBusybox;
const ROUNDS = Number(process.env['HD_KILL_ROUNDS'] ?? 6);
const SERVICES = '[services.web]\ncommand = "exec httpd -f -p 127.0.0.1:PORT"\nport = PORT\n[services.other]\ncommand = "while :; do sleep 1; done"\n';
const VICTIMS = ['cli', 'supervisor', 'host', 'init', 'guard', 'runtime'] as const;
type Victim = (typeof VICTIMS)[number];

describe('killed', { skip }, () => {
  let rig: BusyboxRig;
  let home: string;
  before(() => {
    rig = new BusyboxRig();
    home = rig.world.home;
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const inside = async (project: ProjectRig, script: string): Promise<string> => {
    const result = await project.hd('exec', '--', 'sh', '-c', script);
    assert.equal(result.code, 0, result.stderr);
    return result.stdout;
  };
  const status = async (project: ProjectRig): Promise<{ state: string; pid: number | null; services: { name: string; status: string }[] }> => JSON.parse((await project.hd('status', '--json')).stdout);
  const kill = async (victim: Victim): Promise<void> => {
    const pids = find(home, victim, undefined);
    pids.forEach(killHard);
    // Another one may be there already: a guard is replaced.
    await waitUntil(`${victim} is gone`, () => (find(home, victim, undefined).some((pid) => pids.includes(pid)) ? undefined : true));
  };

  test('the supervisor: its files are left, and the next command goes on with them', async () => {
    const project = await rig.environment('left', `[build]\nsteps = ["echo built > /built"]\n${SERVICES}`, { 'index.html': 'one', 'gone.html': 'x' });
    await project.up();
    await inside(project, 'echo kept > /root/mine; mv /home /moved; rm /built; echo own > index.html.own');
    const [host] = find(home, 'host', undefined);
    await kill('supervisor');
    assert.equal((await status(project)).state, 'left');
    assert.match((await project.hd('status')).stdout, /hd up.* goes on with it/);
    project.write('index.html', 'two');
    project.write('new.html', 'new');
    const exec = await project.hd('exec', '--', 'sh', '-c', 'cat /root/mine index.html new.html index.html.own; ls -d /moved /home /built 2>/dev/null; true');
    assert.equal(exec.stdout, 'kept\ntwonewown\n/moved\n');
    assert.match(exec.stderr, /supervisor had ended unexpectedly.*starting again: web, other/);
    assert.equal(await waitForHttp(project.url), 'two');
    assert.deepEqual(find(home, 'host', undefined), [host], 'the same process serves the same mount');
    // Once more, and by hd up this time; edits still come through afterwards.
    await kill('supervisor');
    const up = await project.up();
    assert.deepEqual(up.events.filter(({ type }) => type === 'adopted').map(({ services }) => services), [['web', 'other']]);
    await project.edit(() => project.write('index.html', 'three'));
    assert.equal(await inside(project, 'cat /root/mine index.html'), 'kept\nthree');
    await project.hd('down');
    await nothingRemains(home);
  });

  test('the supervisor, and nobody comes back in time: everything goes', async () => {
    const project = await rig.environment('abandoned', SERVICES, { 'index.html': 'x' });
    assert.equal((await project.hdWith({ HD_LEFT_SECONDS: '1' }, 'up', '-d', '--wait')).code, 0);
    // A guard is replaced while the supervisor lives.
    for (const victim of ['guard', 'supervisor'] as const) for (const pid of find(home, victim, undefined)) killHard(pid);
    await nothingRemains(home);
    assert.equal((await status(project)).state, 'not running');
  });

  test('the supervisor and then hd down, also with a guard that was killed before', async () => {
    const project = await rig.environment('dropped', SERVICES, { 'index.html': 'x' });
    for (const victims of [['supervisor'], ['supervisor', 'guard'], ['supervisor', 'guard', 'host', 'runtime']] as const) {
      await project.up();
      for (const victim of victims) for (const pid of find(home, victim, undefined)) killHard(pid);
      assert.equal((await project.hd('down')).code, 0);
      await nothingRemains(home);
    }
  });

  test('hd.toml changed while nobody was there, or does not parse', async () => {
    const project = await rig.environment('respecified', SERVICES, { 'index.html': 'x' });
    await project.up();
    await inside(project, 'echo kept > /root/mine');
    await kill('supervisor');
    const good = project.read('hd.toml');
    project.write('hd.toml', `${good}[services.broken\n`);
    assert.notEqual((await project.hd('exec', 'true')).code, 0);
    project.write('hd.toml', good.replace('base = ', 'base = "oci:../none" # '));
    const refused = await project.hd('up', '-d');
    assert.equal(refused.code, 1, refused.stdout);
    assert.equal((await status(project)).state, 'left', 'what cannot be built loses nothing');
    project.write('hd.toml', good);
    assert.equal(await inside(project, 'cat /root/mine'), 'kept\n');
    await kill('supervisor');
    project.write('hd.toml', good.replace('[services.web]', '[services.web]\nwatch = ["*.html"]'));
    const anew = await project.up();
    assert(anew.events.some(({ type, message }) => type === 'warning' && /made anew/.test(String(message))));
    assert.equal(await inside(project, 'cat /root/mine 2>/dev/null || echo fresh'), 'fresh\n');
    await project.hd('down');
    await nothingRemains(home);
  });

  test('hd build beside files that were left leaves them alone', async () => {
    const project = await rig.environment('beside', `[build]\nsteps = ["cp index.html /copied"]\n${SERVICES}`, { 'index.html': 'one' });
    await project.up();
    await inside(project, 'echo kept > /root/mine');
    await kill('supervisor');
    project.write('index.html', 'two');
    assert.equal((await project.hd('build')).code, 0);
    // The supervisor of the build can be asked for a moment longer.
    await waitUntil('it is left', async () => ((await status(project)).state === 'left' ? true : undefined));
    assert.equal(await inside(project, 'cat /root/mine /copied'), 'kept\ntwo');
    await project.hd('down');
    await nothingRemains(home);
  });

  test('the process that serves the files: noticed, mounted anew with what was written, services start again; the third time is an error', async () => {
    const project = await rig.environment('served', SERVICES, { 'index.html': 'x' });
    await project.up();
    await inside(project, 'echo kept > /root/mine; mv /home /moved');
    const { pid } = await status(project);
    for (let death = 1; death <= 2; death++) {
      const mended = await project.edit(() => find(home, 'host', undefined).forEach(killHard), { until: (event) => event.type === 'service' && event.name === 'web' && event.status === 'ready' });
      assert(mended.events.some(({ type, code }) => type === 'warning' && code === 'FUSE_HOST_DIED'));
      assert.equal(await inside(project, 'cat /root/mine; ls -d /moved /home 2>/dev/null; true'), 'kept\n/moved\n');
      assert.equal(await waitForHttp(project.url), 'x');
    }
    assert.equal((await status(project)).pid, pid);
    await project.edit(() => find(home, 'host', undefined).forEach(killHard), { until: ({ type }) => type === 'failed' });
    assert.equal((await status(project)).state, 'failed');
    await project.up();
    assert.equal(await waitForHttp(project.url), 'x');
    await project.hd('down');
    await nothingRemains(home);
  });

  test('hd down ends what hd exec runs', async () => {
    const project = await rig.environment('executing', SERVICES, { 'index.html': 'x' });
    await project.up();
    const exec = project.start('exec', 'sh', '-c', 'echo begun; sleep 1000');
    await exec.waitFor(/begun/);
    assert.equal((await project.hd('down')).code, 0);
    assert.equal((await exec.exited).code, 137);
    await nothingRemains(home);
    // Nobody is there any more who could end it but the supervisor.
    await project.up();
    const orphan = project.start('exec', 'sh', '-c', 'echo begun; exec sleep 1000');
    await orphan.waitFor(/begun/);
    for (const pid of [...find(home, 'guard', undefined), orphan.pid]) killHard(pid);
    assert.equal((await project.hd('down')).code, 0);
    await nothingRemains(home);
    // What it ran had its output, and let go of it just now.
    await orphan.exited;
  });

  test(`any of them, in any order, at any moment: ${ROUNDS} rounds`, async (t) => {
    const seed = Number(process.env['HD_TEST_SEED'] ?? Date.now() % 1_000_000);
    t.diagnostic(`HD_TEST_SEED=${seed} HD_KILL_ROUNDS=${ROUNDS}`);
    const random = randomNumbers(seed);
    const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)]!;
    const project = await rig.environment('rounds', `[build]\nsteps = ["cat input; for i in $(seq 8); do head -c 20000 /dev/urandom > out$i; sleep 0.02; done", "cat out1 input | md5sum > sum"]\n${SERVICES}`, { input: '', 'index.html': 'alive' });
    let cli: HdProcess | undefined;
    for (let round = 1; round <= ROUNDS; round++) {
      const plan: string[] = [];
      const where = (): string => `HD_TEST_SEED=${seed}, round ${round}: ${plan.join(', ')}`;
      const whileBuilding = random() < 0.4;
      if (whileBuilding) project.write('input', `round ${round}\n`);
      cli = project.start(...pick([['up'], ['up', '-d'], ['up', '-d', '--wait']]));
      if (whileBuilding) await delay(100 + random() * 1200);
      else {
        await waitForHttp(project.url);
        await inside(project, `echo ${round} > /root/mark`);
      }
      plan.push(whileBuilding ? 'building' : 'up');
      const order = VICTIMS.toSorted(() => random() - 0.5).slice(0, 1 + Math.floor(random() * VICTIMS.length));
      for (const victim of order) {
        const pids = find(home, victim, cli);
        for (const pid of pids) killHard(pid);
        const pauseMs = pick([0, 0, 5, 50, 400]);
        plan.push(`${victim} (${pids.join(' ') || 'none'}), ${pauseMs} ms`);
        if (pauseMs > 0) await delay(pauseMs);
      }
      const next = pick([['up', '-d', '--wait'], ['status', '--json'], ['exec', 'true'], ['down'], ['cas', 'gc']]);
      plan.push(`hd ${next.join(' ')}`);
      const first = await project.hd(...next);
      assert(first.code === 0 || next[0] === 'exec', `${where()}\n${first.stdout}${first.stderr}`);
      const up = await project.hd('up', '-d', '--wait');
      assert.equal(up.code, 0, `${where()}\n${up.stdout}${up.stderr}`);
      assert.equal(await waitForHttp(project.url).catch((error: Error) => error.message), 'alive', where());
      // Whoever keeps the files is killed at most: the other mends it.
      const keepers = order.filter((victim) => victim === 'supervisor' || victim === 'host').length;
      if (!whileBuilding && keepers < 2 && next[0] !== 'down') assert.equal(await inside(project, 'cat /root/mark').catch((error: Error) => error.message), `${round}\n`, where());
      assert.match(await inside(project, 'cat out1 input | md5sum | cmp - sum && echo same'), /same/, where());
      if (random() < 0.5 || round === ROUNDS) {
        const down = await project.hd('down');
        assert.equal(down.code, 0, `${where()}\n${down.stdout}${down.stderr}`);
        await nothingRemains(home).catch((error: Error) => assert.fail(`${where()}\n${String(error.cause)}`));
      }
      if (ROUNDS > 20) t.diagnostic(`round ${round}: ${plan.join(', ')}`);
      cli.signal('SIGKILL');
      await cli.exited;
    }
    const fsck = await project.hd('cas', 'fsck');
    assert.equal(fsck.code, 0, fsck.stdout + fsck.stderr);
  });
});

/** Those of this home, as they are now. */
function find(home: string, victim: Victim, cli: HdProcess | undefined): number[] {
  if (victim === 'cli') return cli === undefined ? [] : [cli.pid];
  if (victim === 'supervisor') return supervisors(home).filter((pid) => existsSync(`/proc/${pid}/exe`));
  const all = processesOf(home);
  if (victim === 'init') return all.filter(({ isInit }) => isInit).slice(0, 1).map(({ pid }) => pid);
  const pattern = { host: /fuse-host-main/, guard: /^\/bin\/sh -c .* guard .*delete --force/s, runtime: /runc .* run --bundle/ }[victim];
  return all.filter(({ args }) => pattern.test(args)).map(({ pid }) => pid);
}

function supervisors(home: string): number[] {
  const envs = join(home, 'envs');
  return (existsSync(envs) ? readdirSync(envs) : []).flatMap((name) => {
    try {
      return [(JSON.parse(readFileSync(join(envs, name, 'state.json'), 'utf8')) as { pid: number }).pid];
    } catch {
      return [];
    }
  });
}

function killHard(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
