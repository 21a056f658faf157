import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { sha256Hex } from './sha256.ts';

test('the same as Node says, for every length around the ends of blocks and for text that is not ASCII', () => {
  for (let length = 0; length < 200; length++) {
    const text = Array.from({ length }, (_, index) => String.fromCodePoint(32 + ((index * 7919) % 700))).join('');
    assert.equal(sha256Hex(text), createHash('sha256').update(text).digest('hex'), `${length} characters`);
  }
});
