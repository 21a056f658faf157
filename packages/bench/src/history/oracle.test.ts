import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CleanBuild } from './oracle.ts';
import { consult } from './oracle.ts';
import { maskDurations } from './results.ts';

const left = (content: string, output = ''): CleanBuild => [{ files: new Map(Object.entries({ out: content, log: `at ${output}` })), output }];

test('a step has to run where it leaves something new, and not for what is back or differs by itself', () => {
  const builds = [left('a', '1'), left('a', '2'), left('b', '3'), left('a', '4')];
  const { files, printed, noise } = consult(1, builds, new Map([[0, [{ files: new Map([['out', 'a'], ['log', 'at 9']]), output: '1' }]]]));
  assert.deepEqual(noise, [['log']]);
  assert.deepEqual(files, [[true], [false], [true], [false]]);
  assert.deepEqual(printed, [[true], [true], [true], [true]]);
});

test('a step that fails has to run, and nothing after it', () => {
  const [first = []] = [left('a')];
  const { files } = consult(2, [[...first, ...left('b')], [], [...first, ...left('b')]], new Map());
  assert.deepEqual(files, [[true, true], [true, false], [false, false]]);
});

test('durations are no news', () => {
  assert.equal(maskDurations('ok  	fzf/src	0.123s\n12 passed in 1.2s'), maskDurations('ok  	fzf/src	(cached)\n12 passed in 14.20s'));
  assert.equal(maskDurations('# duration_ms 12.5'), maskDurations('# duration_ms 8'));
  assert.notEqual(maskDurations('12 passed in 1s'), maskDurations('13 passed in 1s'));
});
