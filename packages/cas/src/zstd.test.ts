import assert from 'node:assert/strict';
import { test } from 'node:test';
import { zstdCompressSync, zstdDecompressSync } from 'node:zlib';
import fc from 'fast-check';
import { compressZstd, decompressZstd, zstdSpace } from './zstd.ts';

const text = fc.tuple(fc.string({ minLength: 1 }), fc.integer({ min: 1, max: 40_000 })).map(([part, times]) => Buffer.from(part.repeat(times)).subarray(0, 5 << 20));

test('frames are those of any zstd, whatever came before', () => {
  fc.assert(
    fc.property(fc.oneof(text, fc.uint8Array({ maxLength: 5_000 }).map((bytes) => Buffer.from(bytes))), (bytes) => {
      const into = Buffer.alloc(zstdSpace(bytes.length));
      const length = compressZstd(bytes, into);
      assert(length !== undefined, 'the space is enough for anything');
      const frame = into.subarray(0, length);
      assert(zstdDecompressSync(frame).equals(bytes));
      assert(decompressZstd(frame, bytes.length).equals(bytes));
      assert.equal(compressZstd(bytes, into.subarray(0, length - 1)), undefined, 'a frame that does not fit is none');
      assert(decompressZstd(zstdCompressSync(bytes), bytes.length).equals(bytes));
    }),
    { numRuns: 300 },
  );
});

test('what is no whole frame of that size is refused, and the next one is read', () => {
  const bytes = Buffer.from('a frame '.repeat(1_000));
  const frame = zstdCompressSync(bytes);
  for (const wrong of [bytes.length - 1, bytes.length + 1, 0, 1 << 20]) assert.throws(() => decompressZstd(frame, wrong), RangeError);
  for (const broken of [frame.subarray(0, frame.length - 3), frame.subarray(1), Buffer.alloc(0), Buffer.from('no frame')]) {
    assert.throws(() => decompressZstd(broken, bytes.length), RangeError);
    assert(decompressZstd(frame, bytes.length).equals(bytes));
  }
});
