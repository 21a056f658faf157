import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { displayWidth } from './format.ts';
import { beside, isNarrow, wrap } from './narrow.ts';

test('text is broken at spaces, else at the marks of paths and lists, else anywhere', () => {
  assert.deepEqual(wrap('one two three', 7), ['one two', 'three']);
  assert.deepEqual(wrap('/home/ada/projects/shop', 12), ['/home/ada/', 'projects/', 'shop']);
  assert.deepEqual(wrap('abcdefgh', 3), ['abc', 'def', 'gh']);
  assert.deepEqual(wrap('漢字漢字', 4), ['漢字', '漢字']);
  assert.deepEqual(wrap('', 5), ['']);
});

test('no line is too wide, and nothing but spaces at breaks is lost', () => {
  fc.assert(fc.property(fc.string({ unit: fc.constantFrom('a', ' ', '/', 'é', '漢') }), fc.integer({ min: 2, max: 12 }), (text, columns) => {
    const lines = wrap(text, columns);
    assert(lines.every((line) => displayWidth(line) <= columns), lines.join('|'));
    assert.equal(lines.join('').replaceAll(' ', ''), text.replaceAll(' ', ''));
  }));
});

test('names stand beside their text', () => {
  assert.deepEqual(beside('base', 'apt://bookworm?include=python3,git', { columns: 24, width: 6, indent: ' ' }), [' base  apt://bookworm?', '       include=python3,', '       git']);
  assert.deepEqual([isNarrow(40), isNarrow(80), isNarrow(undefined)], [true, false, false]);
});
