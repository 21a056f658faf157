import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { formatMs, formatRatio, ratio, summarize } from './stats.ts';

test('a summary has the extremes and the middle', () => {
  assert.deepEqual(summarize([3]), { min: 3, median: 3, max: 3 });
  assert.deepEqual(summarize([9, 1, 2]), { min: 1, median: 2, max: 9 });
  assert.deepEqual(summarize([4, 1, 2, 3]), { min: 1, median: 2.5, max: 4 });
  assert.throws(() => summarize([]));
});

test('a summary does not depend on the order, and lies within its samples', () => {
  const samples = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1 });
  fc.assert(
    fc.property(samples, (values) => {
      const { min, median, max } = summarize(values);
      assert.ok(min <= median && median <= max);
      assert.deepEqual(summarize(values.toReversed()), { min, median, max });
      assert.ok(values.filter((value) => value <= median).length >= values.length / 2);
    }),
  );
});

test('one disturbed round moves the spread of a ratio, not its middle', () => {
  assert.deepEqual(ratio([20, 20, 20], [10, 10, 10]), { min: 2, median: 2, max: 2 });
  assert.deepEqual(ratio([20, 90, 20], [10, 10, 10]), { min: 2, median: 2, max: 9 });
  // Noise that both sides had in a round cancels out in that round.
  assert.deepEqual(ratio([20, 200, 20], [10, 100, 10]), { min: 2, median: 2, max: 2 });
  assert.throws(() => ratio([1], [1, 2]));
});

test('times and ratios are written with as many digits as mean something', () => {
  assert.deepEqual([0.04, 9.96, 994, 995, 12_345].map(formatMs), ['0.0 ms', '10 ms', '994 ms', '0.99 s', '12.3 s']);
  assert.equal(formatRatio({ min: 0.5, median: 1.04, max: 31.4 }), '1.0 (0.50–31)');
});
