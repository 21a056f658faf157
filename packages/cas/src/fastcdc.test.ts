import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import fc from 'fast-check';
import { MASKS, gear, moduleSource } from './fastcdc-assembler.ts';
import type { CdcParameters } from './fastcdc.ts';
import { Chunker, PROFILES } from './fastcdc.ts';

/** Beside a checkout, where there is one: the Remote Execution API's vectors, and some that another implementation made. */
const SHARED = new URL('../../../../shared/fixtures/', import.meta.url);
const skip = existsSync(SHARED) ? false : 'no ../shared/fixtures beside this checkout';
const SMALL = { minBytes: 64, averageBytes: 256, maxBytes: 1024, normalization: 1 };

test('the module is what the assembler makes', () => {
  assert.equal(readFileSync(new URL('./fastcdc-wasm.ts', import.meta.url), 'utf8'), moduleSource());
});

test('the gear table is made of MD5s; a mask has as many bits as its index says', () => {
  assert.equal(gear()[0], 0x3b5d3c7d207e37dcn);
  assert.equal(gear()[255], 0xaabd2b2a451504e1n);
  for (const [bits, mask] of MASKS.entries()) assert.equal(mask.toString(2).replaceAll('0', '').length, bits < 5 ? 0 : bits);
});

// Made by the Rust crate `fastcdc` 5.0.0.
const NATIVE: { what: string; start: number; size: number; parameters: CdcParameters; lengths: number[] }[] = [
  {
    what: 'fine', start: 0, size: 200_000, parameters: PROFILES.fine,
    lengths: [18263, 12192, 7430, 12903, 20409, 25749, 16882, 22937, 26414, 12591, 20484, 3746],
  },
  {
    what: 'fine, without the first byte, to an odd end', start: 1, size: 200_001, parameters: PROFILES.fine,
    lengths: [18262, 12192, 7430, 12903, 20409, 25749, 16882, 22937, 26414, 12591, 20484, 3748],
  },
  {
    what: 'standard', start: 0, size: 8 << 20, parameters: PROFILES.standard,
    lengths: [1006553, 682521, 559840, 452153, 556637, 721641, 234008, 551391, 713067, 587944, 406006, 672585, 302205, 634848, 307209],
  },
  {
    what: 'normalization 0, a seed', start: 0, size: 8191, parameters: { ...SMALL, normalization: 0, seed: 666n },
    lengths: [626, 66, 317, 445, 345, 112, 223, 302, 1024, 228, 515, 91, 385, 348, 89, 144, 110, 69, 664, 85, 271, 385, 240, 373, 391, 343],
  },
  {
    what: 'normalization 3, a seed', start: 0, size: 8191, parameters: { ...SMALL, normalization: 3, seed: 666n },
    lengths: [256, 266, 147, 256, 265, 267, 315, 275, 256, 301, 258, 295, 315, 258, 265, 263, 296, 296, 271, 261, 262, 292, 68, 314, 262, 264, 263, 267, 378, 293, 146],
  },
  {
    what: 'sizes that are no powers of two', start: 0, size: 65_536, parameters: { minBytes: 200, averageBytes: 3000, maxBytes: 9000, normalization: 1 },
    lengths: [1652, 1836, 4981, 8654, 1140, 4795, 5000, 2397, 7110, 320, 1973, 5165, 320, 5363, 3696, 1726, 4670, 4738],
  },
];
const GEAR = gear();
const sample = xorshift32(1, (8 << 20) + 1);

for (const { what, start, size, parameters, lengths } of NATIVE) {
  test(`cuts where the native implementation cuts: ${what}`, () => {
    assert.deepEqual(cuts(sample.subarray(start, start + size), parameters), lengths);
  });
}

test('the vectors of the Remote Execution API, seeds 0 and 666', { skip }, () => {
  const image = readFileSync(new URL('fastcdc/SekienAkashita.jpg', SHARED));
  const sections = readFileSync(new URL('fastcdc/fastcdc2020_test_vectors.txt', SHARED), 'utf8').split('# Seed: ').slice(1);
  assert.equal(sections.length, 2);
  for (const section of sections) {
    const [seed = '', ...lines] = section.trim().split('\n');
    const parameters: CdcParameters = { minBytes: 4096, averageBytes: 16_384, maxBytes: 65_535, normalization: 2, seed: BigInt(seed) };
    const expected = lines.map((line) => line.split('\t').map(String));
    assert.deepEqual(cuts(image, parameters), expected.map(([, length]) => Number(length)));
    for (const [offset, length, sha256, hash] of expected) {
      const rest = image.subarray(Number(offset));
      assert.equal(createHash('sha256').update(rest.subarray(0, Number(length))).digest('hex'), sha256);
      assert.deepEqual(oracle(rest, parameters), { length: Number(length), hash: BigInt(hash ?? '') });
    }
  }
});

test('vectors that another implementation made', { skip }, () => {
  const { cases } = JSON.parse(readFileSync(new URL('derived/fastcdc_v2020.json', SHARED), 'utf8')) as {
    cases: { name: string; size: number; min: number; avg: number; max: number; chunks: { length: number }[] }[];
  };
  const inputs: Record<string, (size: number) => Uint8Array> = {
    mod251_100k_hd: mod251,
    mod251_256k_hd: mod251,
    xorshift32_1_200k_hd: (size) => xorshift32(1, size),
    xorshift32_1_200k_insert1_hd: (size) => inserted(xorshift32(1, size - 1), 100_000),
    xorshift32_7_6M_mcpjs: (size) => xorshift32(7, size),
  };
  for (const { name, size, min, avg, max, chunks } of cases) {
    const input = inputs[name]?.(size);
    assert(input !== undefined, name);
    assert.deepEqual(cuts(input, { minBytes: min, averageBytes: avg, maxBytes: max, normalization: 1 }), chunks.map(({ length }) => length), name);
  }
});

test('data without a cut gives the longest chunks', () => {
  assert.deepEqual(cuts(new Uint8Array(150_000), PROFILES.fine), [65_536, 65_536, 18_928]);
  assert.deepEqual(cuts(mod251(150_000), PROFILES.fine), [65_536, 65_536, 18_928]);
  assert.deepEqual(cuts(new Uint8Array(2500), { ...SMALL, maxBytes: 1023 }), [1023, 1023, 454]);
});

test('the shortest inputs', () => {
  const chunker = new Chunker(SMALL);
  assert.equal(chunker.cut(sample, 5, 5, true), 0);
  for (const length of [1, 2, 63, 64, 65, 66]) {
    assert.equal(chunker.cut(sample, 0, length, true), length);
    assert.equal(chunker.cut(sample, 0, length, false), 0);
  }
});

test('a byte put in moves the cuts near it alone', () => {
  const before = cuts(sample.subarray(0, 400_000), PROFILES.fine);
  const after = cuts(inserted(sample.subarray(0, 400_000), 100_000), PROFILES.fine);
  const same = before.findIndex((length, index) => length !== after[index]);
  const sameAtEnd = before.toReversed().findIndex((length, index) => length !== after.at(-1 - index));
  assert(same >= 5 && same + sameAtEnd >= before.length - 2, `${before.join(' ')} | ${after.join(' ')}`);
});

const parameters = fc.record({
  minBytes: fc.integer({ min: 1, max: 100 }).map((half) => half * 2),
  averageBytes: fc.integer({ min: 128, max: 400 }).map((half) => half * 2),
  maxBytes: fc.integer({ min: 800, max: 3000 }),
  normalization: fc.integer({ min: 0, max: 3 }),
  seed: fc.oneof(fc.constant(0n), fc.bigInt({ min: 0n, max: 2n ** 64n - 1n })),
});
const input = fc.record({ seed: fc.integer({ min: 1, max: 0x7fffffff }), size: fc.nat({ max: 20_000 }), alphabet: fc.constantFrom(2, 7, 256) })
  .map(({ seed, size, alphabet }) => xorshift32(seed, size).map((byte) => byte % alphabet));

test('cuts where the algorithm as it is written down cuts', () => {
  fc.assert(
    fc.property(parameters, input, (chosen, bytes) => {
      const chunker = new Chunker(chosen);
      for (let at = 0; at < bytes.length; ) {
        const { length } = oracle(bytes.subarray(at), chosen);
        assert.equal(chunker.cut(bytes, at, bytes.length, true), length);
        at += length;
      }
    }),
  );
});

test('windows do not show: chunks longer than one', () => {
  for (const normalization of [0, 1, 2]) {
    const chosen = { minBytes: 2 * 1024, averageBytes: 128 * 1024, maxBytes: 300_001, normalization };
    const bytes = sample.subarray(7, 1_000_000);
    const chunker = new Chunker(chosen);
    for (let at = 0; at < bytes.length; ) {
      const { length } = oracle(bytes.subarray(at), chosen);
      assert.equal(chunker.cut(bytes, at, bytes.length, true), length);
      at += length;
    }
  }
});

test('however the input is split, the cuts are those of the whole', () => {
  fc.assert(
    fc.property(parameters, input, fc.array(fc.integer({ min: 1, max: 2000 }), { minLength: 1 }), (chosen, bytes, steps) => {
      const chunker = new Chunker(chosen);
      const streamed: number[] = [];
      let start = 0;
      for (let end = 0, step = 0; start < bytes.length; step++) {
        end = Math.min(end + (steps[step % steps.length] ?? 1), bytes.length);
        for (let length = -1; length !== 0 && start < end; start += length) {
          length = chunker.cut(bytes, start, end, end === bytes.length);
          if (length > 0) streamed.push(length);
        }
      }
      assert.deepEqual(streamed, cuts(bytes, chosen));
    }),
  );
});

test('refuses sizes that it cannot keep to', () => {
  for (const wrong of [{ minBytes: 63 }, { minBytes: 0 }, { averageBytes: 257 }, { averageBytes: 50 }, { maxBytes: 200 }, { normalization: 4 }]) {
    assert.throws(() => new Chunker({ ...SMALL, ...wrong }), { name: 'AssertionFailure' });
  }
});

/** Lengths of all chunks. */
function cuts(bytes: Uint8Array, chosen: CdcParameters): number[] {
  const chunker = new Chunker(chosen);
  const lengths: number[] = [];
  for (let at = 0; at < bytes.length; at += lengths.at(-1) ?? 0) lengths.push(chunker.cut(bytes, at, bytes.length, true));
  return lengths;
}

/** FastCDC v2020 as published: two bytes in a round, the first on tables shifted by one. */
function oracle(bytes: Uint8Array, { minBytes, averageBytes, maxBytes, normalization, seed = 0n }: CdcParameters): { length: number; hash: bigint } {
  if (bytes.length <= minBytes) return { length: bytes.length, hash: 0n };
  const table = GEAR.map((value) => value ^ seed);
  const u64 = (value: bigint): bigint => BigInt.asUintN(64, value);
  const length = Math.min(bytes.length, maxBytes);
  const center = Math.min(averageBytes, length);
  const bits = Math.round(Math.log2(averageBytes));
  let hash = 0n;
  for (let index = minBytes >> 1; index < length >> 1; index++) {
    const mask = MASKS[index < center >> 1 ? bits + normalization : bits - normalization] ?? 0n;
    const at = 2 * index;
    hash = u64((hash << 2n) + u64((table[bytes[at] ?? 0] ?? 0n) << 1n));
    if ((hash & (mask << 1n)) === 0n) return { length: at, hash };
    hash = u64(hash + (table[bytes[at + 1] ?? 0] ?? 0n));
    if ((hash & mask) === 0n) return { length: at + 1, hash };
  }
  return { length, hash };
}

function mod251(size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, index) => index % 251);
}

function inserted(bytes: Uint8Array, at: number): Uint8Array {
  return Uint8Array.from([...bytes.subarray(0, at), 0x58, ...bytes.subarray(at)]);
}

/** Little-endian words. */
function xorshift32(seed: number, size: number): Uint8Array {
  const words = new Uint32Array(Math.ceil(size / 4));
  let state = seed;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return new Uint8Array(words.buffer, 0, size);
}
