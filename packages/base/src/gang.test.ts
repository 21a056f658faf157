import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gang } from './gang.ts';

const UNITS = 64;
const CHILD = new URL('./gang.child.ts', import.meta.url);

/** The caller takes one unit and, if told so, waits without an event loop until a worker has taken one. */
function share({ module, failsAfter, waits }: { module: URL; failsAfter: number; waits: boolean }): { done: number[]; lost: number[] } {
  const done = new Int32Array(new SharedArrayBuffer(UNITS * 4));
  const gang = new Gang(module, { workers: 2, units: UNITS, data: { done, failsAfter } });
  const first = gang.claim();
  if (first !== undefined) Atomics.add(done, first, 1);
  if (waits) Atomics.wait(done, 1, 0);
  for (let unit = gang.claim(); unit !== undefined; unit = gang.claim()) Atomics.add(done, unit, 1);
  return { lost: gang.finish(), done: [...done] };
}

test('every unit is taken once, by whoever is there', () => {
  const { done, lost } = share({ module: CHILD, failsAfter: Infinity, waits: true });
  assert.deepEqual(done, Array(UNITS).fill(1));
  assert.deepEqual(lost, []);
});

test('what a worker took before it failed is told', () => {
  const { done, lost } = share({ module: CHILD, failsAfter: 0, waits: true });
  assert.deepEqual(done, Array(UNITS).fill(1));
  assert(lost.length >= 1 && lost.length <= 2, `${lost.length} units`);
  assert(!lost.includes(0), 'the caller did that one');
});

test('workers that cannot start are not waited for', () => {
  const { done, lost } = share({ module: new URL('./no-such-file.ts', import.meta.url), failsAfter: Infinity, waits: false });
  assert.deepEqual(done, Array(UNITS).fill(1));
  assert.deepEqual(lost, []);
});
