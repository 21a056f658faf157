import assert from 'node:assert/strict';
import { test } from 'node:test';
import { predictRuns } from './buildkit-rules.ts';

const start = { 'package.json': '1', 'lib/a.js': '1', 'README.md': '1' };
const snapshots = [start, { ...start, 'README.md': '2' }, { ...start, 'lib/a.js': '2' }, { ...start, 'package.json': '2' }, start].map((files) => new Map(Object.entries(files)));

test('what was copied decides, from the first change down, and what was built before is found again', () => {
  assert.deepEqual(predictRuns([['package*.json ./'], ['*.txt lib ./']], snapshots), [[true, true], [false, false], [false, true], [true, true], [false, false]]);
});

test('with everything copied first, everything runs', () => {
  assert.deepEqual(predictRuns([['. .'], []], snapshots), [[true, true], [true, true], [true, true], [true, true], [false, false]]);
});
