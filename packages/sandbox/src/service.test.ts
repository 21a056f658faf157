import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import fc from 'fast-check';
import type { ContainerExit } from './contract.ts';
import { makeWorld, skipReason } from './container-fixture.ts';
import { LineMatcher, waitUntilReady } from './readiness.ts';
import { NEVER_STARTED, transition, type ServiceEvent, type ServicePolicy, type ServiceState } from './service-state.ts';
import { Service, type Launched, type Timers } from './service.ts';

const RETRY: ServicePolicy = { restart: 'on_failure' };
const CHANGE = { kind: 'change', paths: ['src/a.ts'] } as const;
const REQUEST = { kind: 'request' } as const;
const exit = (code: number): ContainerExit => ({ code, signal: null });

/** Processes and a clock that do what the test says, when it says it. */
function makeRig(policy: ServicePolicy) {
  const alive: { generation: number; stopping: boolean; end(code: number, problem?: HdError): Promise<void>; becomeReady(): Promise<void>; probe: AbortSignal | undefined }[] = [];
  const pending = new Set<{ delayMs: number; callback: () => void }>();
  const launches: number[] = [];
  const states: string[] = [];
  let launchError: HdError | undefined;
  const timers: Timers = {
    after(delayMs, callback) {
      const timer = { delayMs, callback };
      pending.add(timer);
      return () => pending.delete(timer);
    },
  };
  const launch = (generation: number): Launched => {
    if (launchError !== undefined) throw launchError;
    const ended = Promise.withResolvers<ContainerExit>();
    const ready = Promise.withResolvers<void>();
    const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
    const entry: (typeof alive)[number] = {
      generation,
      stopping: false,
      probe: undefined,
      end(code, problem) {
        alive.splice(alive.indexOf(entry), 1);
        ended.resolve(problem === undefined ? exit(code) : { code, signal: null, problem });
        return settle();
      },
      becomeReady: () => (ready.resolve(), settle()),
    };
    assert.equal(alive.length, 0, 'never two generations');
    alive.push(entry);
    launches.push(generation);
    return { exit: ended.promise, stop: () => void (entry.stopping = true), ready: (signal) => ((entry.probe = signal), ready.promise) };
  };
  const service = new Service({ name: 'web', policy, timers, launcher: { launch } });
  service.subscribe((state) => states.push(state.kind));
  return {
    service,
    states,
    launches,
    alive,
    process: () => {
      const [entry] = alive;
      assert(entry !== undefined, 'a generation is alive');
      return entry;
    },
    failLaunch: (error: HdError | undefined) => void (launchError = error),
    delays: () => [...pending].map(({ delayMs }) => delayMs),
    fire: () => {
      const [timer] = pending;
      assert(timer !== undefined, 'a timer is set');
      pending.delete(timer);
      timer.callback();
    },
  };
}

test('start, ready, stop', async () => {
  const rig = makeRig(RETRY);
  rig.service.start();
  rig.service.start();
  await rig.process().becomeReady();
  rig.service.stop();
  assert.equal(rig.process().stopping, true);
  await rig.process().end(143);
  assert.deepEqual(rig.states, ['starting', 'ready', 'stopping', 'stopped']);
  assert.deepEqual(rig.launches, [1]);
});

test('a crash loop backs off from 0.1 to 10 seconds, and a change ends it at once', async () => {
  const rig = makeRig(RETRY);
  rig.service.start();
  const delays: number[] = [];
  for (let crash = 0; crash < 9; crash++) {
    await rig.process().end(1);
    delays.push(...rig.delays());
    rig.fire();
  }
  assert.deepEqual(delays, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
  await rig.process().end(1);
  rig.service.restart(CHANGE);
  assert.deepEqual([rig.service.state.kind, rig.delays()], ['starting', []]);
  await rig.process().end(1);
  assert.deepEqual(rig.delays(), [100]);
});

test('ten healthy seconds make earlier failures count no more', async () => {
  const rig = makeRig(RETRY);
  rig.service.start();
  for (const expected of [100, 200]) {
    await rig.process().end(1);
    assert.deepEqual(rig.delays(), [expected]);
    rig.fire();
  }
  await rig.process().becomeReady();
  assert.deepEqual(rig.delays(), [10_000]);
  rig.fire();
  await rig.process().end(1);
  assert.deepEqual(rig.delays(), [100]);
});

test('policies', async () => {
  for (const [restart, code, kind] of [
    ['never', 0, 'stopped'],
    ['never', 1, 'failed'],
    ['on_failure', 0, 'stopped'],
    ['on_failure', 1, 'backing-off'],
    ['always', 0, 'backing-off'],
    ['always', 1, 'backing-off'],
  ] as const) {
    const rig = makeRig({ restart });
    rig.service.start();
    await rig.process().becomeReady();
    await rig.process().end(code);
    assert.equal(rig.service.state.kind, kind, `${restart} ${code}`);
  }
});

test('what never ran is not tried again before a change', async () => {
  const rig = makeRig({ restart: 'always' });
  rig.service.start();
  await rig.process().end(127, new HdError('COMMAND_NOT_FOUND', 'no such command'));
  assert.equal(rig.service.state.kind, 'failed');
  rig.failLaunch(new HdError('MOUNT_FAILED', 'no'));
  rig.service.restart(CHANGE);
  assert.equal(rig.service.state.kind, 'failed');
  rig.failLaunch(undefined);
  rig.service.restart(CHANGE);
  assert.equal(rig.service.state.kind, 'starting');
});

test('many changes while it stops are one restart', async () => {
  const rig = makeRig(RETRY);
  rig.service.start();
  await rig.process().becomeReady();
  for (let change = 0; change < 5; change++) rig.service.restart(CHANGE);
  assert.deepEqual(rig.launches, [1]);
  await rig.process().end(143);
  assert.deepEqual([rig.launches, rig.states], [[1, 2], ['starting', 'ready', 'restarting', 'starting']]);
});

test('a stop that was asked for outlasts changes, not requests', async () => {
  const rig = makeRig(RETRY);
  rig.service.start();
  rig.service.restart(CHANGE);
  rig.service.stop();
  rig.service.restart(CHANGE);
  await rig.process().end(143);
  rig.service.restart(CHANGE);
  assert.equal(rig.service.state.kind, 'stopped');
  rig.service.restart(REQUEST);
  rig.service.stop();
  rig.service.start();
  await rig.process().end(143);
  assert.deepEqual([rig.service.state.kind, rig.launches], ['starting', [1, 2, 3]]);
});

test('what is not ready in time is stopped and counts as a failure', async () => {
  const rig = makeRig({ restart: 'on_failure', readyTimeoutMs: 5_000 });
  rig.service.start();
  assert.deepEqual(rig.delays(), [5_000]);
  const { probe } = rig.process();
  rig.fire();
  assert.deepEqual([rig.service.state.kind, probe?.aborted, rig.process().stopping], ['stopping', true, true]);
  await rig.process().end(0);
  assert.deepEqual([rig.service.state.kind, rig.delays()], ['backing-off', [100]]);
});

test('a readiness that comes late is nobody\'s', async () => {
  const rig = makeRig(RETRY);
  rig.service.start();
  const first = rig.process();
  rig.service.restart(CHANGE);
  await first.becomeReady();
  assert.equal(rig.service.state.kind, 'restarting');
  await first.end(0);
  assert.equal(rig.service.state.kind, 'starting');
});

test('whatever happens: one generation at most, one timer at most, and a stop stops', () => {
  const kinds = fc.constantFrom('start', 'stop', 'change', 'request', 'ready', 'timeout', 'exit0', 'exit1', 'stale', 'not-launched');
  const policies = fc.record({ restart: fc.constantFrom('always', 'on_failure', 'never'), readyTimeoutMs: fc.constantFrom(1, 2) });
  fc.assert(
    fc.property(policies, fc.array(kinds, { maxLength: 60 }), (policy, script) => {
      let state: ServiceState = NEVER_STARTED;
      let alive: number | undefined;
      let timer = false;
      const send = (event: ServiceEvent): void => {
        const step = transition(state, event, policy);
        if (step.state === state) assert.deepEqual(step.effects, []);
        else timer = false;
        if (event.kind === 'exited' || event.kind === 'not-launched') alive = event.generation === alive ? undefined : alive;
        state = step.state;
        for (const effect of step.effects) {
          if (effect.kind === 'launch') {
            assert.equal(alive, undefined);
            alive = effect.generation;
          } else if (effect.kind === 'terminate') assert.equal(effect.generation, alive);
          else {
            assert.equal(timer, false);
            timer = true;
          }
        }
        assert.equal(alive !== undefined, ['starting', 'ready', 'restarting', 'stopping'].includes(state.kind));
        if (state.kind === 'backing-off') assert.equal(timer, true);
      };
      const play: Record<typeof script[number], () => void> = {
        start: () => send({ kind: 'start' }),
        stop: () => send({ kind: 'stop' }),
        change: () => send({ kind: 'restart', cause: CHANGE }),
        request: () => send({ kind: 'restart', cause: REQUEST }),
        ready: () => alive !== undefined && send({ kind: 'ready', generation: alive }),
        timeout: () => timer && ((timer = false), send({ kind: 'timeout' })),
        exit0: () => alive !== undefined && send({ kind: 'exited', generation: alive, exit: exit(0) }),
        exit1: () => alive !== undefined && send({ kind: 'exited', generation: alive, exit: exit(1) }),
        stale: () => send({ kind: 'exited', generation: state.generation - 1, exit: exit(1) }),
        'not-launched': () => alive !== undefined && state.kind === 'starting' && send({ kind: 'not-launched', generation: alive, error: new HdError('X', 'x') }),
      };
      for (const name of script) play[name]();
      play.stop();
      play.exit1();
      assert.equal(state.kind === 'stopped', true);
    }),
    { numRuns: 3_000 },
  );
});

test('a real service restarts at a change and is stopped for good', { skip: skipReason }, async () => {
  await using world = makeWorld();
  const output: string[] = [];
  const service = new Service({
    name: 'web',
    policy: RETRY,
    launcher: {
      launch(generation) {
        const lines = new LineMatcher(/^listening/);
        const container = world.start(`echo listening ${generation}; sleep 1000`, { init: true });
        void container.printed('listening').then(() => {
          output.push(container.output('stdout').trim());
          lines.write(Buffer.from(container.output('stdout')));
        }, () => {});
        return { exit: container.exit, stop: () => void container.stop({ graceMs: 10_000 }), ready: (signal) => waitUntilReady({ kind: 'log', lines }, signal) };
      },
    },
  });
  service.start();
  await service.until((state) => state.kind === 'ready');
  const startedMs = performance.now();
  service.restart(CHANGE);
  await service.until((state) => state.kind === 'ready' && state.generation === 2);
  assert(performance.now() - startedMs < 5_000, 'it did not sit out the grace');
  assert.deepEqual(output, ['listening 1', 'listening 2']);
  await world.runtime.kill((await world.runtime.list())[0]?.id ?? '', 'SIGKILL');
  await service.until((state) => state.kind === 'backing-off');
  await service.until((state) => state.kind === 'ready' && state.generation === 3);
  service.stop();
  await service.until((state) => state.kind === 'stopped');
  assert.deepEqual(await world.runtime.list(), []);
});
