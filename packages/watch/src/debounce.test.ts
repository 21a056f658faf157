import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { debounce, IDLE, type Batch, type DebounceEvent, type DebounceState } from './debounce.ts';

const OPTIONS = { debounceMs: 50, maxWaitMs: 1_000, maxEvents: 5 };

/** Plays events against a clock, with a timer that fires exactly when it was asked for. */
function play(events: readonly (DebounceEvent & { kind: 'path' | 'rescan' })[]): { atMs: number; batch: Batch }[] {
  const batches: { atMs: number; batch: Batch }[] = [];
  let state: DebounceState = IDLE;
  let wakeAtMs: number | undefined;
  const step = (event: DebounceEvent): void => {
    const result = debounce(state, event, OPTIONS);
    ({ state, wakeAtMs } = { wakeAtMs: undefined, ...result });
    if (result.batch !== undefined) batches.push({ atMs: event.nowMs, batch: result.batch });
  };
  for (const event of events) {
    while (wakeAtMs !== undefined && wakeAtMs <= event.nowMs) step({ kind: 'timer', nowMs: wakeAtMs });
    step(event);
  }
  while (wakeAtMs !== undefined) step({ kind: 'timer', nowMs: wakeAtMs });
  assert.equal(state.kind, 'idle');
  return batches;
}

const path = (nowMs: number, name: string) => ({ kind: 'path', path: name, nowMs }) as const;

test('a batch waits for quiet', () => {
  assert.deepEqual(play([path(0, 'a'), path(40, 'b'), path(80, 'a'), path(200, 'c')]), [
    { atMs: 130, batch: new Set(['a', 'b']) },
    { atMs: 250, batch: new Set(['c']) },
  ]);
});

test('a batch never waits longer than the maximum', () => {
  const events = Array.from({ length: 60 }, (_, index) => path(index * 40, 'a'));
  assert.deepEqual(play(events).map(({ atMs }) => atMs), [1_000, 2_000, 2_410]);
});

test('a burst becomes a rescan; one path over and over does not', () => {
  assert.deepEqual(play(['a', 'b', 'a', 'b', 'a', 'b'].map((name, index) => path(index, name))), [{ atMs: 55, batch: 'rescan' }]);
  assert.deepEqual(play(Array.from({ length: 20 }, (_, index) => path(index, 'a'))), [{ atMs: 69, batch: new Set(['a']) }]);
  assert.deepEqual(play([path(0, 'a'), { kind: 'rescan', nowMs: 1 }]), [{ atMs: 51, batch: 'rescan' }]);
});

test('a timer that comes early or while idle does nothing', () => {
  assert.deepEqual(debounce(IDLE, { kind: 'timer', nowMs: 5 }, OPTIONS), { state: IDLE });
  const { state } = debounce(IDLE, path(0, 'a'), OPTIONS);
  assert.equal(debounce(state, { kind: 'timer', nowMs: 49 }, OPTIONS).wakeAtMs, 50);
});

test('no path is lost, and none waits longer than the maximum', () => {
  const steps = fc.array(fc.record({ afterMs: fc.nat(120), name: fc.constantFrom('a', 'b', 'c') }), { maxLength: 60 });
  fc.assert(
    fc.property(steps, (list) => {
      let nowMs = 0;
      const events = list.map(({ afterMs, name }) => path((nowMs += afterMs), name));
      const batches = play(events);
      for (const event of events) {
        const batch = batches.find(({ atMs }) => atMs >= event.nowMs);
        assert(batch !== undefined && batch.atMs - event.nowMs <= OPTIONS.maxWaitMs);
        assert(batch.batch === 'rescan' || batch.batch.has(event.path) || batch.atMs === event.nowMs);
      }
    }),
  );
});
