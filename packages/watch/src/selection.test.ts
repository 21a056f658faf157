import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createSelection } from './selection.ts';

const known = new Set(['', 'src', 'web']);
const takes = (patterns: string[], path: string): boolean => createSelection(patterns, (directory) => known.has(directory)).takes(path);
const mayContain = (patterns: string[], directory: string): boolean => createSelection(patterns, (other) => known.has(other)).mayContain(directory);

test('a name is taken in known directories, a path anywhere', () => {
  const table: [patterns: string[], path: string, taken: boolean][] = [
    [['*.lock'], 'a.lock', true],
    [['*.lock'], 'src/a.lock', true],
    [['*.lock'], 'node_modules/x/a.lock', false],
    [['node_modules/**/*.lock'], 'node_modules/x/a.lock', true],
    [['**/*.lock'], 'anywhere/a.lock', true],
    [['**'], 'any/where', true],
    [['**', '!*.log'], 'any/where.log', false],
    [['!*.log', '**'], 'any/where.log', true],
    [['/coverage'], 'coverage/deep/report', true],
    [['/coverage'], 'src/coverage', false],
    [['a.lock'], 'b.lock', false],
    [[], 'a.lock', false],
  ];
  for (const [patterns, path, taken] of table) assert.equal(takes(patterns, path), taken, `${patterns.join()} on ${path}`);
});

test('directories that hold nothing are not searched', () => {
  assert.equal(mayContain(['*.lock'], 'src'), true);
  assert.equal(mayContain(['*.lock'], 'node_modules'), false);
  assert.equal(mayContain(['/coverage'], 'coverage/deep'), true);
  assert.equal(mayContain(['/coverage'], 'other'), false);
  assert.equal(mayContain(['**'], 'any/where'), true);
});
