/** docs/format/cas.md byte by byte: what the store must read, what it must refuse, and what it must never lose. Nothing here uses the store's own encoders. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import { crc32, zstdCompressSync } from 'node:zlib';
import { hasher } from '@hyperdocker/base';
import type { BlobDigest, ByteString, NodeDigest, TreeDigest } from '@hyperdocker/base';
import { sampleBytes } from './conformance.ts';
import { openStore, rebuildIndex } from './disk-store.ts';
import type { OpenOptions } from './disk-store.ts';
import { encodeTree } from './tree-codec.ts';

interface Vectors {
  pack: string;
  blob: { text: string; digest: string };
  compressed: { byte: number; length: number; digest: string };
  tree: string;
  node: string;
  recipe: { digest: string; chunks: { digest: string; text: string }[] };
}

const vectors = JSON.parse(readFileSync(new URL('./golden/store-2.json', import.meta.url), 'utf8')) as Vectors;
const root = mkdtempSync(join(tmpdir(), 'hd-format-'));
after(() => rmSync(root, { recursive: true, force: true }));
let count = 0;

const BLOB = 1;
const TREE = 2;
const NODE = 3;
const RECIPE = 4;
const digestOf = (bytes: Uint8Array): string => hasher.hash(bytes);
const blobDigest = (bytes: Uint8Array): BlobDigest => digestOf(bytes) as BlobDigest;

interface RecordParts {
  kind: number;
  digest: string;
  payload: Buffer;
  codec?: number;
  rawBytes?: number;
  magic?: string;
  version?: number;
  reserved?: number;
  crc?: number;
}

function record({ kind, digest, payload, codec = 0, rawBytes = payload.length, magic = 'HDob', version = 1, reserved = 0, crc }: RecordParts): Buffer {
  const head = Buffer.alloc(52);
  head.write(magic, 'latin1');
  head.set([version, kind, codec, reserved], 4);
  head.writeUInt32LE(payload.length, 8);
  head.writeUInt32LE(rawBytes, 12);
  head.write(digest, 16, 'hex');
  head.writeUInt32LE(crc ?? crc32(payload, crc32(head.subarray(0, 48))), 48);
  return Buffer.concat([head, payload]);
}

const blobRecord = (bytes: Buffer): Buffer => record({ kind: BLOB, digest: digestOf(bytes), payload: bytes });
const packOf = (...records: Buffer[]): Buffer => Buffer.concat([Buffer.from('HDPACK\0\x01', 'latin1'), ...records]);

interface RecipeParts {
  version?: number;
  reserved?: number;
  size?: number;
  checkFor?: string;
}

function recipePayload(digest: string, chunks: { digest: string; length: number }[], { version = 1, reserved = 0, size, checkFor = digest }: RecipeParts = {}): Buffer {
  const head = Buffer.alloc(16);
  head.set([version, reserved], 0);
  head.writeUInt32LE(chunks.length, 4);
  head.writeBigUInt64LE(BigInt(size ?? chunks.reduce((sum, { length }) => sum + length, 0)), 8);
  const entries = chunks.map((chunk) => {
    const entry = Buffer.alloc(36);
    entry.write(chunk.digest, 'hex');
    entry.writeUInt32LE(chunk.length, 32);
    return entry;
  });
  const checked = Buffer.concat([head, ...entries]);
  return Buffer.concat([checked, Buffer.from(digestOf(Buffer.concat([Buffer.from(checkFor, 'hex'), checked])), 'hex')]);
}

/** A store that has these packs, and no index yet. */
function storeDir(packs: Record<string, Buffer>, format = 'hd.store/2\n'): string {
  const dir = join(root, String(count++));
  for (const part of ['packs', 'objects', 'tmp']) mkdirSync(join(dir, part), { recursive: true });
  writeFileSync(join(dir, 'format'), format);
  for (const [name, bytes] of Object.entries(packs)) writeFileSync(join(dir, 'packs', name), bytes);
  return dir;
}

const [one, two] = [Buffer.from('the first chunk, '), Buffer.from('and the second')] as const;
const whole = Buffer.concat([one, two]);
const wholeDigest = blobDigest(whole);
const twoChunks = [one, two].map((bytes) => ({ digest: digestOf(bytes), length: bytes.length }));
const recipeRecord = (payload: Buffer, digest: string = wholeDigest): Buffer => record({ kind: RECIPE, digest, payload });

test('golden: a pack made byte by byte is the committed one, and the store reads all of it', () => {
  const tree = encodeTree([{ name: 'a' as ByteString, kind: 'file', mode: 0o644, digest: blobDigest(one), size: one.length }]);
  const node = Buffer.from('a node, of a kind that the store does not know');
  const same = Buffer.alloc(vectors.compressed.length, vectors.compressed.byte);
  // The frame is the committed one: other versions of zstd may write another.
  const frame = Buffer.from(vectors.pack, 'hex');
  const frameAt = frame.indexOf(Buffer.from([0x28, 0xb5, 0x2f, 0xfd]));
  const frameBytes = frame.subarray(frameAt, frameAt + frame.readUInt32LE(frameAt - 44));
  const made = packOf(
    blobRecord(one),
    blobRecord(two),
    record({ kind: BLOB, digest: digestOf(same), payload: frameBytes, codec: 1, rawBytes: same.length }),
    record({ kind: TREE, digest: digestOf(tree), payload: tree }),
    record({ kind: NODE, digest: digestOf(node), payload: node }),
    recipeRecord(recipePayload(wholeDigest, twoChunks)),
  );
  assert.equal(made.toString('hex'), vectors.pack);
  using store = openStore(storeDir({ 'golden.pack': Buffer.from(vectors.pack, 'hex') }), { nodeLinks: () => [] });
  assert.equal(store.getBlob(vectors.blob.digest as BlobDigest).toString(), vectors.blob.text);
  assert(store.getBlob(vectors.compressed.digest as BlobDigest).equals(same));
  assert.equal(store.getTree(vectors.tree as TreeDigest).length, 1);
  assert(store.getNode(vectors.node as NodeDigest).equals(node));
  assert.equal(store.getBlob(vectors.recipe.digest as BlobDigest).toString(), vectors.recipe.chunks.map(({ text }) => text).join(''));
  assert.deepEqual(store.fsck(), { objectsChecked: 6, problems: [] });
});

for (const [what, payload] of Object.entries<Buffer>({
  'of a later version': recipePayload(wholeDigest, twoChunks, { version: 2 }),
  'with reserved bytes set': recipePayload(wholeDigest, twoChunks, { reserved: 1 }),
  'whose lengths do not add up': recipePayload(wholeDigest, twoChunks, { size: whole.length + 1 }),
  'of another blob': recipePayload(wholeDigest, twoChunks, { checkFor: digestOf(one) }),
  'of one chunk, which names itself': recipePayload(wholeDigest, [{ digest: wholeDigest, length: whole.length }]),
  'without chunks': recipePayload(wholeDigest, []),
  'with an empty chunk': recipePayload(wholeDigest, [...twoChunks, { digest: digestOf(Buffer.alloc(0)), length: 0 }]),
  'that names a missing chunk': recipePayload(wholeDigest, [twoChunks[0]!, { digest: digestOf(Buffer.from('none')), length: two.length }]),
  'that names a recipe as its chunk': recipePayload(wholeDigest, [twoChunks[0]!, { digest: wholeDigest, length: two.length }]),
  'with a wrong length of a chunk': recipePayload(wholeDigest, [{ ...twoChunks[0]!, length: one.length - 1 }, { ...twoChunks[1]!, length: two.length + 1 }]),
  'that is cut off': recipePayload(wholeDigest, twoChunks).subarray(0, 80),
})) {
  test(`a recipe ${what} counts for nothing`, () => {
    using store = openStore(storeDir({ 'a.pack': packOf(blobRecord(one), blobRecord(two), recipeRecord(payload)) }));
    assert.equal(store.hasBlob(wholeDigest), false);
    assert.throws(() => store.getBlob(wholeDigest), { code: 'OBJECT_MISSING' });
    assert.equal(store.putBlob(whole), wholeDigest);
    assert(store.getBlob(wholeDigest).equals(whole));
  });
}

test('a recipe that makes other bytes is found out by who reads the whole', () => {
  const digest = digestOf(Buffer.from('something else')) as BlobDigest;
  using store = openStore(storeDir({ 'a.pack': packOf(blobRecord(one), blobRecord(two), recipeRecord(recipePayload(digest, twoChunks), digest)) }));
  for (const read of [() => store.getBlob(digest), () => [...store.streamBlob(digest)]]) assert.throws(read, { code: 'OBJECT_CORRUPT' });
});

for (const [what, parts] of Object.entries<Partial<RecordParts>>({
  'with another magic': { magic: 'HDoc' },
  'of a later version': { version: 2 },
  'of an unknown kind': { kind: 5 },
  'with an unknown codec': { codec: 2 },
  'with the reserved byte set': { reserved: 1 },
  'with a wrong checksum': { crc: 1 },
})) {
  test(`a record ${what} is stepped over, and costs itself alone`, () => {
    const odd = record({ kind: BLOB, digest: digestOf(one), payload: one, ...parts });
    using store = openStore(storeDir({ 'a.pack': packOf(odd, blobRecord(two)) }));
    assert.deepEqual([one, two].map((bytes) => store.hasBlob(blobDigest(bytes))), [false, true]);
  });
}

for (const [what, parts, bytes] of [
  ['a frame that inflates far beyond the header', { codec: 1, payload: zstdCompressSync(Buffer.alloc(1 << 28)), rawBytes: 10 }, Buffer.alloc(10)],
  ['a header that tells four gigabytes', { codec: 1, payload: zstdCompressSync(Buffer.alloc(10)), rawBytes: 0xffff_ffff }, Buffer.alloc(10)],
  ['a frame that is too short', { codec: 1, payload: zstdCompressSync(Buffer.alloc(9)), rawBytes: 10 }, Buffer.alloc(10)],
  ['no frame at all', { codec: 1, payload: Buffer.from('not zstd'), rawBytes: 10 }, Buffer.alloc(10)],
  ['another object', { payload: Buffer.alloc(10, 1) }, Buffer.alloc(10)],
  ['a raw object of another length', { payload: Buffer.alloc(10), rawBytes: 11 }, Buffer.alloc(10)],
] as const) {
  test(`a record that holds ${what}, with a right checksum, is not served, and a put heals it`, () => {
    const digest = blobDigest(bytes);
    const dir = storeDir({ 'a.pack': packOf(record({ kind: BLOB, digest, ...parts })) });
    {
      using store = openStore(dir);
      const before = process.memoryUsage().rss;
      for (const read of [() => store.getBlob(digest), () => store.readBlob(digest, 0, 1), () => [...store.streamBlob(digest)]]) assert.throws(read, { code: 'OBJECT_CORRUPT' });
      assert(process.memoryUsage().rss - before < 100 << 20, 'nothing was inflated');
      assert.equal(store.fsck().problems.length, 1);
      store.putBlob(bytes);
      assert(store.getBlob(digest).equals(bytes));
    }
    using again = openStore(dir);
    assert(again.getBlob(digest).equals(bytes));
    assert.deepEqual(again.fsck().problems, []);
  });
}

test('a damaged whole record is succeeded by a recipe, where large blobs are cut otherwise now', () => {
  const bytes = sampleBytes(100_000);
  const digest = blobDigest(bytes);
  const dir = storeDir({ 'a.pack': packOf(record({ kind: BLOB, digest, payload: sampleBytes(99_999), rawBytes: 100_000 })) });
  {
    using store = openStore(dir, { chunking: 'fine' });
    assert.throws(() => store.getBlob(digest), { code: 'OBJECT_CORRUPT' });
    store.putBlob(bytes);
    assert(store.getBlob(digest).equals(bytes));
  }
  using again = openStore(dir);
  assert(again.getBlob(digest).equals(bytes));
});

test('a pack of a later version and a foreign file are left alone, by gc as well', () => {
  const foreign: Record<string, Buffer> = { 'later.pack': Buffer.concat([Buffer.from('HDPACK\0\x02', 'latin1'), blobRecord(one)]), 'foreign.pack': Buffer.from('#!/bin/sh\necho a script that was put here by mistake\n'), 'README': Buffer.from('hello') };
  const dir = storeDir({ ...foreign, 'a.pack': packOf(blobRecord(two)) });
  using store = openStore(dir);
  assert.deepEqual([one, two].map((bytes) => store.hasBlob(blobDigest(bytes))), [false, true]);
  assert.equal(store.gc().chunksRemoved, 1);
  assert.deepEqual(readdirSync(join(dir, 'packs')).sort(), Object.keys(foreign).sort());
});

test('a later format, a foreign directory and a file are refused, and not touched', () => {
  for (const format of ['hd.store/3\n', 'hd.store/20\n', 'hd.store/two\n', 'something else', '']) {
    const dir = storeDir({}, format);
    for (const readOnly of [false, true]) assert.throws(() => openStore(dir, { readOnly }), { code: format.startsWith('hd.store/t') || !format.startsWith('hd') ? 'STORE_FORMAT' : 'STORE_VERSION' });
    assert.deepEqual(readdirSync(dir).sort(), ['format', 'objects', 'packs', 'tmp']);
  }
  const home = join(root, String(count++));
  mkdirSync(home);
  writeFileSync(join(home, 'thesis.txt'), 'x');
  assert.throws(() => openStore(home), { code: 'STORE_FORMAT' });
  assert.deepEqual(readdirSync(home), ['thesis.txt']);
  assert.throws(() => openStore(join(home, 'thesis.txt')), { code: /STORE_/ });
});

/** Three records, the last a recipe, known to an index. */
function indexedStore(): { dir: string; pack: string } {
  const dir = storeDir({ 'a.pack': packOf(blobRecord(one), blobRecord(two), recipeRecord(recipePayload(wholeDigest, twoChunks))) });
  using store = openStore(dir);
  assert.equal(store.hasBlob(wholeDigest), true);
  return { dir, pack: join(dir, 'packs', 'a.pack') };
}

test('the index is not believed beyond the length of the pack', () => {
  for (const lost of [1, 60, 200, 230, 260]) {
    const { dir, pack } = indexedStore();
    const { size } = statSync(pack);
    truncateSync(pack, size - lost);
    using store = openStore(dir);
    assert.equal(store.hasBlob(wholeDigest), false, `${lost} bytes lost`);
    store.putBlob(whole);
    for (const bytes of [one, two, whole]) if (store.hasBlob(blobDigest(bytes))) assert(store.getBlob(blobDigest(bytes)).equals(bytes));
    assert.deepEqual(store.fsck().problems, []);
  }
});

test('a pack that loses its end, or goes, under an open store: nothing wrong is served, and a put heals', () => {
  for (const lose of [(pack: string) => truncateSync(pack, 8 + 52 + one.length + 60), (pack: string) => rmSync(pack)]) {
    const { dir, pack } = indexedStore();
    using store = openStore(dir);
    lose(pack);
    assert.throws(() => store.getBlob(wholeDigest), { code: /OBJECT_(MISSING|CORRUPT)/ });
    assert.throws(() => store.getBlob(blobDigest(two)), { code: /OBJECT_(MISSING|CORRUPT)/ });
    for (const bytes of [whole, two]) {
      store.putBlob(bytes);
      assert(store.getBlob(blobDigest(bytes)).equals(bytes));
    }
  }
});

test('a pack whose end was never written, as after a power cut, keeps what was', () => {
  const bytes = packOf(blobRecord(one), blobRecord(two));
  for (const tail of [Buffer.alloc(4096), sampleBytes(300), blobRecord(whole).subarray(0, 60)]) {
    using store = openStore(storeDir({ 'a.pack': Buffer.concat([bytes, tail]), 'empty.pack': Buffer.alloc(0), 'zeros.pack': Buffer.alloc(100) }));
    assert.deepEqual([one, two, whole].map((blob) => store.hasBlob(blobDigest(blob))), [true, true, false]);
    assert.deepEqual(store.fsck().problems, []);
  }
});

test('a write of which a power cut left the beginning and the end: what is whole counts, what is not is no damage', () => {
  const torn = Buffer.concat([blobRecord(two).subarray(0, 60), Buffer.alloc(500)]);
  const pack = packOf(blobRecord(one), torn, blobRecord(whole));
  const dir = storeDir({ 'a.pack': pack });
  for (const isNew of [true, false]) {
    using store = openStore(dir);
    assert.deepEqual([one, two, whole].map((blob) => store.hasBlob(blobDigest(blob))), [true, false, true], `a new index: ${isNew}`);
    assert.deepEqual(store.fsck().problems, [], `a new index: ${isNew}`);
  }
  assert.deepEqual(openAndCheck(dir, { readOnly: true }), []);
  // The same bytes are damage where they were whole before, even without a row.
  const before = packOf(blobRecord(one), blobRecord(two), blobRecord(one), blobRecord(whole));
  const other = storeDir({ 'a.pack': before });
  openAndCheck(other, {});
  const copy = packOf(blobRecord(one), blobRecord(two)).length;
  writeFileSync(join(other, 'packs', 'a.pack'), before.with(copy + 60, before[copy + 60]! ^ 1));
  assert.match(openAndCheck(other, {}).join(), /bytes \d+ to \d+ are damaged/);
});

function openAndCheck(dir: string, options: OpenOptions): string[] {
  using store = openStore(dir, options);
  return store.fsck().problems.map(({ problem }) => problem);
}

test('a flipped bit anywhere in a chunk or a recipe is not served', () => {
  const records = [blobRecord(one), blobRecord(two), recipeRecord(recipePayload(wholeDigest, twoChunks))];
  const length = packOf(...records).length;
  const { dir, pack } = indexedStore();
  const right = readFileSync(pack);
  for (let at = 8; at < length; at += 3) {
    const wrong = Buffer.from(right);
    wrong[at]! ^= 1 << (at % 8);
    writeFileSync(pack, wrong);
    using store = openStore(dir, { readOnly: true });
    try {
      // The checksum, at 48 to 51 of each record, is for scans alone.
      assert(store.getBlob(wholeDigest).equals(whole), `byte ${at}`);
    } catch (error) {
      assert.equal((error as { code?: string }).code, 'OBJECT_CORRUPT', `byte ${at}: ${String(error)}`);
    }
  }
});

/** As hd.store/1 left it: a pack, a large blob as a file, and an index without a version. */
function formatOneStore(): { dir: string; large: Buffer; tree: TreeDigest } {
  const large = sampleBytes(100_000);
  const tree = encodeTree([{ name: 'large' as ByteString, kind: 'file', mode: 0o644, digest: blobDigest(large), size: large.length }]);
  const pack = packOf(blobRecord(one), record({ kind: TREE, digest: digestOf(tree), payload: tree }));
  const dir = storeDir({ 'a.pack': pack }, 'hd.store/1\n');
  const digest = digestOf(large);
  mkdirSync(join(dir, 'objects', digest.slice(0, 2)));
  writeFileSync(join(dir, 'objects', digest.slice(0, 2), digest.slice(2)), large, { mode: 0o444 });
  const index = new DatabaseSync(join(dir, 'index.sqlite'));
  index.exec(`
    PRAGMA journal_mode = WAL;
    CREATE TABLE objects (digest BLOB NOT NULL, kind INTEGER NOT NULL, pack INTEGER, offset INTEGER, stored INTEGER, raw INTEGER NOT NULL, codec INTEGER, PRIMARY KEY (digest, kind)) WITHOUT ROWID;
    CREATE TABLE packs (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, scanned INTEGER NOT NULL);
    INSERT INTO packs VALUES (1, 'a', ${pack.length});
  `);
  index.prepare('INSERT INTO objects VALUES (?, 1, NULL, NULL, NULL, ?, NULL)').run(Buffer.from(digest, 'hex'), large.length);
  index.close();
  return { dir, large, tree: digestOf(tree) as TreeDigest };
}

test('a store of format 1 is read as it is, becomes one of format 2 by being opened for writing, and loses nothing', () => {
  const { dir, large, tree } = formatOneStore();
  const check = (options: { readOnly?: boolean } = {}): void => {
    using store = openStore(dir, options);
    assert(store.getBlob(blobDigest(one)).equals(one));
    assert(store.getBlob(blobDigest(large)).equals(large));
    assert(store.readBlob(blobDigest(large), 99_000, 5000).equals(large.subarray(99_000)));
    assert(Buffer.concat([...store.streamBlob(blobDigest(large))]).equals(large));
    assert(readFileSync(store.blobFile(blobDigest(large))!).equals(large));
    assert.equal(store.getTree(tree).length, 1);
    assert.deepEqual(store.fsck().problems, []);
  };
  check({ readOnly: true });
  assert.equal(readFileSync(join(dir, 'format'), 'utf8'), 'hd.store/1\n');
  check();
  assert.equal(readFileSync(join(dir, 'format'), 'utf8'), 'hd.store/2\n');
  rebuildIndex(dir);
  check();
  using store = openStore(dir);
  const before = store.stats();
  store.putBlob(large);
  assert.equal(store.stats().chunks, before.chunks, 'what is there as a file is not stored again');
  store.setRef('r', { kind: 'tree', digest: tree });
  store.gc();
  assert(store.getBlob(blobDigest(large)).equals(large));
  store.deleteRef('r');
  store.gc();
  assert.equal(existsSync(store.blobFile(store.putBlob(large))!), true);
});

test('a damaged file of format 1 is not served, and a put makes it a record', () => {
  const { dir, large } = formatOneStore();
  const digest = blobDigest(large);
  const path = join(dir, 'objects', digest.slice(0, 2), digest.slice(2));
  chmodSync(path, 0o644);
  writeFileSync(path, sampleBytes(100_001).subarray(1));
  using store = openStore(dir);
  for (const read of [() => store.getBlob(digest), () => store.readBlob(digest, 5, 5), () => store.blobFile(digest)]) assert.throws(read, { code: 'OBJECT_CORRUPT' });
  store.putBlob(large);
  store.flush();
  assert(store.getBlob(digest).equals(large));
  assert(readFileSync(store.blobFile(digest)!).equals(large));
});

test('a file without a row counts only if it is right: copies are not synced', () => {
  const [right, wrong] = [sampleBytes(70_000), sampleBytes(70_001)];
  const dir = storeDir({});
  for (const [bytes, content] of [[right, right], [wrong, Buffer.alloc(70_001)]] as const) {
    const digest = digestOf(bytes);
    mkdirSync(join(dir, 'objects', digest.slice(0, 2)), { recursive: true });
    writeFileSync(join(dir, 'objects', digest.slice(0, 2), digest.slice(2)), content);
  }
  using store = openStore(dir);
  assert.deepEqual([right, wrong].map((bytes) => store.hasBlob(blobDigest(bytes))), [true, false]);
});
