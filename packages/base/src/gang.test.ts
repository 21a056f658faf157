import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Gang } from './gang.ts';

const JOBS = 64;
const CHILD = new URL('./gang.child.ts', import.meta.url);

interface Shared { done: Int32Array; closed: Int32Array; failsAfter: number }

/** Gives some jobs before and some after the threads are there, and waits, without an event loop, until a worker has performed some. */
function share({ module, failsAfter, waitsFor }: { module: URL; failsAfter: number; waitsFor: number[] }): { shared: Shared; results: string[]; again: number[] } {
  const shared: Shared = { done: new Int32Array(new SharedArrayBuffer(JOBS * 4)), closed: new Int32Array(new SharedArrayBuffer(4)), failsAfter };
  const gang = new Gang<{ number: number }, string>(module, shared);
  gang.give({ number: 0 });
  gang.hire();
  gang.hire();
  if (waitsFor.includes(0)) Atomics.wait(shared.done, 0, 0);
  for (let number = 1; number < JOBS; number++) gang.give({ number });
  if (waitsFor.includes(1)) Atomics.wait(shared.done, 1, 0);
  const again: number[] = [];
  const results = gang.finish(({ number }, isAgain) => {
    if (isAgain) again.push(number);
    else Atomics.add(shared.done, number, 1);
    return `${number} by the caller`;
  });
  return { shared, results, again };
}

test('every job is performed once, by whoever is there, and results come in order', () => {
  const { shared, results, again } = share({ module: CHILD, failsAfter: Infinity, waitsFor: [0, 1] });
  assert.deepEqual([...shared.done], Array(JOBS).fill(1));
  assert.deepEqual(results.map((result) => Number.parseInt(result, 10)), [...Array(JOBS).keys()]);
  assert.match(results[0] ?? '', /by a worker/);
  assert.deepEqual(again, []);
  assert(shared.closed[0] === 1 || shared.closed[0] === 2, 'who came has closed');
});

test('what a worker did before it failed does not count, and is done again', () => {
  const { shared, results, again } = share({ module: CHILD, failsAfter: 0, waitsFor: [0] });
  assert(again.includes(0), 'a worker had done that one');
  assert.deepEqual(results.map((result) => Number.parseInt(result, 10)), [...Array(JOBS).keys()]);
  assert(shared.done.every((times, number) => times === 1 || (times === 0 && again.includes(number))), 'nothing is done twice before');
});

test('what can be done ahead is done once, with what is there, while workers do the last jobs; what turns out to be void is told again', () => {
  for (const failsAfter of [Infinity, 0]) {
    const shared: Shared = { done: new Int32Array(new SharedArrayBuffer(JOBS * 4)), closed: new Int32Array(new SharedArrayBuffer(4)), failsAfter };
    const gang = new Gang<{ number: number }, string>(CHILD, shared);
    for (let number = 0; number < JOBS; number++) gang.give({ number });
    gang.hire();
    Atomics.wait(shared.done, 0, 0);
    const seen: string[][] = [];
    const results = gang.finish(({ number }, isAgain) => `${number} by the caller${isAgain ? ', again' : ''}`, { ms: 1e6, work: (soFar) => void seen.push([...soFar].map(([number, result]) => `${number} ${result}`)) });
    assert.equal(seen.length, 1);
    assert(seen[0]?.every((told) => /^(\d+) \1 by /.test(told)));
    assert.deepEqual(results.map((result) => Number.parseInt(result, 10)), [...Array(JOBS).keys()]);
    if (failsAfter === 0) assert.equal(results[0], '0 by the caller, again');
  }
});

test('workers that cannot start are not waited for', () => {
  const { results, again } = share({ module: new URL('./no-such-file.ts', import.meta.url), failsAfter: Infinity, waitsFor: [] });
  assert.equal(results.length, JOBS);
  assert.deepEqual(again, []);
});

test('a gang that is dismissed does no more', () => {
  const shared: Shared = { done: new Int32Array(new SharedArrayBuffer(JOBS * 4)), closed: new Int32Array(new SharedArrayBuffer(4)), failsAfter: Infinity };
  {
    using gang = new Gang<{ number: number }, string>(CHILD, shared);
    gang.hire();
    gang.give({ number: 0 });
    Atomics.wait(shared.done, 0, 0);
  }
  Atomics.wait(shared.closed, 0, 0);
  assert.equal(shared.closed[0], 1);
});
