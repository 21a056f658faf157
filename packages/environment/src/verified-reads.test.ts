/** A corrupted object is never served: one flipped bit in a pack, and every way in which files leave the store. */
import assert from 'node:assert/strict';
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import type { FileEntry, Store } from '@hyperdocker/cas';
import { TreeBuilder, lookupPath, openStore } from '@hyperdocker/cas';
import { Projection, materialize, materializeEntry } from '@hyperdocker/mount';
import { importTar, writeLayer } from '@hyperdocker/oci';

const root = mkdtempSync(join(tmpdir(), 'hd-verified-'));
after(() => rmSync(root, { recursive: true }));
let count = 0;
const newDir = (): string => join(root, String(count++));

const SMALL = Buffer.from('a small file, stored as it is');
const TEXT = Buffer.from('a file that compresses well '.repeat(1_000));
/** In chunks. */
const LARGE = Buffer.alloc(5 << 20, 0);
for (let i = 0, state = 1; i < LARGE.length; i++) LARGE[i] = (state = (state * 48_271) % 2_147_483_647) & 0xff;
const FILES = { small: SMALL, text: TEXT, large: LARGE };
/** Enough files for threads to help. */
const MANY = 600;

const whole = newDir();
const tree = ((): TreeDigest => {
  using store = openStore(whole);
  const builder = new TreeBuilder(store);
  const meta = { uid: 0, gid: 0, mtimeNs: 1_700_000_000_000_000_000n, xattrs: [], linkGroup: 0, links: 1 };
  const add = (path: string, bytes: Buffer): void => builder.set(path as ByteString, { kind: 'file', mode: 0o644, digest: store.putBlob(bytes), size: bytes.length, meta });
  for (const [name, bytes] of Object.entries(FILES)) add(`dir/${name}`, bytes);
  for (let i = 0; i < MANY; i++) add(`many/${i}`, Buffer.from(`file ${i}`));
  const digest = builder.finish();
  store.setRef('tree', { kind: 'tree', digest });
  return digest;
})();

/** A copy of the store in which one bit of what `digest` names is wrong: of a record, or of the last chunk of a blob. */
function damaged(digest: string): string {
  const dir = newDir();
  cpSync(whole, dir, { recursive: true });
  // A copy made before would be right.
  rmSync(join(dir, 'objects'), { recursive: true, force: true });
  using db = new DatabaseSync(join(dir, 'index.sqlite'));
  const place = (of: string) => db.prepare('SELECT packs.id, offset, stored, kind FROM objects JOIN packs ON packs.number = objects.pack WHERE digest = ?').get(Buffer.from(of, 'hex')) as { id: string; offset: number; stored: number; kind: number };
  const packOf = (id: string): string => join(dir, 'packs', `${id}.pack`);
  let found = place(digest);
  if (found.kind === RECIPE) {
    const payload = readFileSync(packOf(found.id)).subarray(found.offset + HEADER_BYTES, found.offset + HEADER_BYTES + found.stored);
    found = place(payload.subarray(-(32 + 36), -(32 + 4)).toString('hex'));
  }
  const bytes = readFileSync(packOf(found.id));
  bytes[found.offset + HEADER_BYTES + Math.floor(found.stored / 2)]! ^= 1;
  chmodSync(packOf(found.id), 0o644);
  writeFileSync(packOf(found.id), bytes);
  return dir;
}
const RECIPE = 4;
const HEADER_BYTES = 52;

const entryOf = (store: Store, path: string): FileEntry => {
  const entry = lookupPath(store, tree, path as ByteString);
  assert(entry?.kind === 'file');
  return entry;
};

/** Every way out. Each gives out all of `dir/<name>`, or throws. */
const WAYS: Record<string, (store: Store, dir: string, name: string) => Buffer> = {
  'getBlob': (store, _, name) => store.getBlob(entryOf(store, `dir/${name}`).digest),
  'readBlob': (store, _, name) => inParts(entryOf(store, `dir/${name}`).size, (offset, length) => store.readBlob(entryOf(store, `dir/${name}`).digest, offset, length)),
  'streamBlob': (store, _, name) => Buffer.concat([...store.streamBlob(entryOf(store, `dir/${name}`).digest)]),
  'a promoted copy': (store, _, name) => {
    const { digest } = entryOf(store, `dir/${name}`);
    const path = store.blobFile(digest);
    return path === undefined ? store.getBlob(digest) : readFileSync(path);
  },
  'projection': (store, _, name) => {
    const projection = new Projection(store, tree);
    const dir = projection.lookup(1, 'dir' as ByteString)!;
    const file = projection.lookup(dir.ino, name as ByteString)!;
    // What it reads is lent until the next read.
    return inParts(entryOf(store, `dir/${name}`).size, (offset, length) => Buffer.from(projection.read(file.ino, offset, length)));
  },
  'materialize': (store, _, name) => readFileSync(join(materialize(store, tree, made(newDir())), 'dir', name)),
  'materialize, with threads': (store, dir, name) => readFileSync(join(materialize(store, tree, made(newDir()), dir), 'dir', name)),
  'one file put in place': (store, _, name) => {
    const target = made(newDir());
    materializeEntry(store, target, 'file' as ByteString, entryOf(store, `dir/${name}`));
    return readFileSync(join(target, 'file'));
  },
  'export as a layer': (store, _, name) => {
    const tar = Buffer.concat([...writeLayer(store, tree)]);
    assert(tar.includes(FILES[name as keyof typeof FILES]));
    return FILES[name as keyof typeof FILES];
  },
};

for (const [way, read] of Object.entries(WAYS)) {
  test(`${way}: gives out what was put, and nothing of a damaged store`, () => {
    {
      using store = openStore(whole);
      for (const [name, bytes] of Object.entries(FILES)) assert(read(store, whole, name).equals(bytes), name);
    }
    for (const name of Object.keys(FILES)) {
      const dir = damaged(digestOf(`dir/${name}`));
      using store = openStore(dir);
      assert.throws(() => read(store, dir, name), { code: 'OBJECT_CORRUPT' }, name);
      const others = Object.keys(FILES).filter((other) => other !== name);
      // Those that take the whole tree fail as a whole.
      if (!/materialize|layer/.test(way)) for (const other of others) assert(read(store, dir, other).equals(FILES[other as keyof typeof FILES]), `${other} beside ${name}`);
    }
  });
}

test('a promoted copy that is damaged on the disk is not handed out, and is made again', () => {
  const dir = newDir();
  cpSync(whole, dir, { recursive: true });
  const { path, digest } = ((): { path: string; digest: BlobDigest } => {
    using store = openStore(dir);
    const entry = entryOf(store, 'dir/large');
    return { path: store.blobFile(entry.digest)!, digest: entry.digest };
  })();
  const bytes = readFileSync(path);
  bytes[1000]! ^= 1;
  chmodSync(path, 0o644);
  writeFileSync(path, bytes);
  using store = openStore(dir);
  assert(store.getBlob(digest).equals(LARGE));
  assert(readFileSync(store.blobFile(digest)!).equals(LARGE));
});

test('a damaged directory is not listed, written out or exported', () => {
  const dir = damaged(digestOf('dir'));
  using store = openStore(dir);
  const projection = new Projection(store, tree);
  const { ino } = projection.lookup(1, 'dir' as ByteString)!;
  for (const read of [() => projection.list(ino), () => projection.lookup(ino, 'small' as ByteString), () => materialize(store, tree, made(newDir())), () => [...writeLayer(store, tree)]]) assert.throws(read, { code: 'OBJECT_CORRUPT' });
});

test('writing out what cannot be read leaves nothing, and writing out leaves no copies in the store', () => {
  const cache = made(newDir());
  const dir = damaged(digestOf('dir/text'));
  {
    using store = openStore(dir);
    assert.throws(() => materialize(store, tree, cache, dir), { code: 'OBJECT_CORRUPT' });
  }
  assert.deepEqual(readdirSync(cache), []);
  const fresh = newDir();
  cpSync(whole, fresh, { recursive: true });
  rmSync(join(fresh, 'objects'), { recursive: true, force: true });
  using store = openStore(fresh);
  materialize(store, tree, cache, fresh);
  materialize(store, tree, made(newDir()));
  const objects = join(fresh, 'objects');
  assert.deepEqual(existsSync(objects) ? readdirSync(objects, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()) : [], []);
  assert.equal(store.stats().looseFiles, 0);
});

test('what comes back from an export is what went in', async () => {
  using store = openStore(whole);
  async function* layer(): AsyncGenerator<Uint8Array> {
    yield* writeLayer(store, tree);
  }
  assert.equal(lookupPath(store, await importTar(store, layer()), 'dir/large' as ByteString)?.kind, 'file');
});

function digestOf(path: string): string {
  using store = openStore(whole, { readOnly: true });
  const entry = lookupPath(store, tree, path as ByteString);
  assert(entry?.kind === 'file' || entry?.kind === 'dir');
  return entry.digest as BlobDigest;
}

/** As a kernel reads. */
function inParts(size: number, read: (offset: number, length: number) => Buffer): Buffer {
  const parts: Buffer[] = [];
  for (let offset = 0; offset < size; offset += 1 << 17) parts.push(read(offset, 1 << 17));
  return Buffer.concat(parts);
}

function made(dir: string): string {
  mkdirSync(dir);
  return dir;
}
