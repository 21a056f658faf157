import assert from 'node:assert/strict';
import { mkdtempSync, lstatSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Decoder, Encoder, HdError, allSys, fromBuffer, lstatIfAny, nativeHasher, portableHasher, toBuffer, toByteString, toText } from './index.ts';

/** From the BLAKE3 paper's reference vectors: input byte i is i mod 251. */
const VECTORS: [length: number, digest: string][] = [
  [0, 'af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262'],
  [1, '2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213'],
  [1024, '42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7'],
  [102400, 'bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085'],
];

for (const hasher of [nativeHasher(), portableHasher]) {
  test(`BLAKE3, ${hasher?.name ?? 'native: not loaded here'}`, { skip: hasher === undefined ? 'no native hasher on this platform' : false }, () => {
    assert(hasher !== undefined);
    for (const [length, digest] of VECTORS) {
      const input = Uint8Array.from({ length }, (_, i) => i % 251);
      assert.equal(hasher.hash(input), digest);
      const stream = hasher.stream();
      stream.update(input.subarray(0, length >> 1));
      stream.update(input.subarray(length >> 1));
      assert.equal(stream.digest(), digest);
    }
  });
}

test('byte strings keep names that are not UTF-8', () => {
  const raw = Buffer.from([0x61, 0xff, 0x62]);
  assert.deepEqual(toBuffer(fromBuffer(raw)), raw);
  assert.equal(toText(toByteString('naïve 🚀')), 'naïve 🚀');
});

test('encoding round trip, and one encoding a value', () => {
  const bytes = new Encoder('test/1').uint(0).uint(300).uint(2n ** 63n).text('é').digest('ab'.repeat(32)).finish();
  const decoder = new Decoder(bytes, 'test/1');
  assert.deepEqual([decoder.uint(), decoder.uint(), decoder.bigUint(), decoder.text(), decoder.digest()], [0, 300, 2n ** 63n, 'é', 'ab'.repeat(32)]);
  decoder.end();
});

for (const [what, bytes] of [
  ['another domain', new Encoder('other/1').uint(1).finish()],
  ['a long integer', Buffer.from([...new Encoder('test/1').finish(), 0x81, 0x00])],
  ['a cut object', new Encoder('test/1').finish()],
] as const) {
  test(`decoding refuses ${what}`, () => {
    assert.throws(() => new Decoder(bytes, 'test/1').uint(), (error: unknown) => error instanceof HdError && error.code === 'CORRUPT_OBJECT');
  });
}

test('errors hide credentials in URLs', () => {
  assert.equal(new HdError('X', 'GET https://me:pw@host/x failed').message, 'GET https://host/x failed');
});

for (const sys of allSys()) {
  test(`system calls through ${sys.backend}`, () => {
    const dir = mkdtempSync(join(tmpdir(), 'hd-sys-'));
    try {
      const file = join(dir, 'f');
      writeFileSync(file, 'x');
      sys.setTimes(file, 1n, 1_700_000_000_123_456_789n);
      assert.equal(lstatSync(file, { bigint: true }).mtimeNs, 1_700_000_000_123_456_789n);
      assert.equal(sys.getXattr(file, toByteString('user.none')), undefined);
      sys.setXattr(file, toByteString('user.a'), Buffer.from('value'));
      assert.equal(sys.getXattr(file, toByteString('user.a'))?.toString(), 'value');
      assert.deepEqual(sys.listXattrs(file), ['user.a']);
      assert.throws(() => sys.listXattrs(join(dir, 'absent')), (error: unknown) => error instanceof HdError && error.code === 'SYSTEM_CALL');
      sys.makeNode(join(dir, 'fifo'), 0o010600, 0, 0);
      assert(lstatSync(join(dir, 'fifo')).isFIFO());
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
}

test('nothing is at a path whose way is a file, or a link in a circle', () => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-base-'));
  writeFileSync(join(dir, 'file'), '');
  symlinkSync('circle', join(dir, 'circle'));
  for (const path of ['none', 'file/below', 'circle/below']) assert.equal(lstatIfAny(join(dir, path)), undefined, path);
  assert.equal(lstatIfAny(join(dir, 'circle'))?.isSymbolicLink(), true);
  rmSync(dir, { recursive: true });
});
