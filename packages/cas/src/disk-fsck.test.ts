import assert from 'node:assert/strict';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { sampleBytes, testNode, testNodeLinks } from './conformance.ts';
import type { FsckOptions, FsckResult, Store } from './contract.ts';
import { openStore, rebuildIndex } from './disk-store.ts';
import { walkTree } from './tree-ops.ts';

const root = mkdtempSync(join(tmpdir(), 'hd-fsck-'));
after(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const newDir = (): string => join(root, String(count++));
const open = (dir: string): Store => openStore(dir, { nodeLinks: testNodeLinks, chunking: 'fine' });

const filesBelow = (dir: string): string[] => readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((name) => statSync(join(dir, name)).isFile()).sort();

function flipBit(path: string, offset: number, bit: number): void {
  const bytes = readFileSync(path);
  bytes[offset]! ^= 1 << bit;
  chmodSync(path, 0o644);
  writeFileSync(path, bytes);
}

interface World {
  dir: string;
  tree: TreeDigest;
  /** The same files on the host, by their path in the tree. */
  sources: string;
  promoted: BlobDigest;
}

/** Small files, one in chunks, one with a promoted copy, below a ref to a node. Two directories hold the same file. */
function makeWorld(): World {
  const [dir, sources] = [newDir(), newDir()];
  mkdirSync(sources);
  using store = open(dir);
  const put = (path: string, bytes: Buffer) => {
    mkdirSync(join(sources, path, '..'), { recursive: true });
    writeFileSync(join(sources, path), bytes);
    return { kind: 'file' as const, name: path.split('/').at(-1) as ByteString, mode: 0o644, digest: store.putBlob(bytes), size: bytes.length };
  };
  const large = put('lib/large', sampleBytes(70_000));
  const small = put('lib/small', Buffer.from('small and in two places'));
  const text = put('text', Buffer.from('compresses well '.repeat(200)));
  const lib = store.putTree([large, small]);
  const tree = store.putTree([text, put('small', Buffer.from('small and in two places')), { kind: 'dir', name: 'lib' as ByteString, mode: 0o755, digest: lib }]);
  store.setRef('env/one/root', { kind: 'node', digest: store.putNode(testNode([{ kind: 'tree', digest: tree }])) });
  store.setRef('env/one/tree', { kind: 'tree', digest: tree });
  assert(store.blobFile(large.digest) !== undefined);
  return { dir, tree, sources, promoted: large.digest };
}

/** The names below the ref to the tree, as paths of the project. */
function sourceIn(sources: string): NonNullable<FsckOptions['source']> {
  return ({ names }) => names.flatMap(({ ref, path }) => (ref === 'env/one/tree' ? [join(sources, path)] : []));
}

/** What a damaged store says: undefined where it cannot even be opened. */
function fsck(dir: string, options: FsckOptions = {}): FsckResult | undefined {
  try {
    using store = open(dir);
    return store.fsck(options);
  } catch (error) {
    if (error instanceof HdError) return undefined;
    throw error;
  }
}

/** All rows that count, in order: what two databases have in common if a byte that differs is dead. */
function contentOf(path: string): string {
  const db = new DatabaseSync(path, { readOnly: true });
  try {
    const tables = path.endsWith('index.sqlite') ? ['objects', 'packs'] : ['refs', 'reflog'];
    return JSON.stringify(tables.map((table) => db.prepare(`SELECT * FROM ${table} ORDER BY 1, 2`).all().map((row) => Object.values(row).map((value) => (value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value)))));
  } finally {
    db.close();
  }
}

const POSITIONS = 97;

/** All bytes of a short file, else the first, the last, and others evenly between them. */
function positionsIn(size: number): number[] {
  const count = Math.min(size, POSITIONS);
  return Array.from({ length: count }, (_, i) => Math.floor((i * (size - 1)) / (count - 1)));
}

test(`one flipped bit at each of ${POSITIONS} positions of every file is found, and repaired where there is anything to repair it from`, (t) => {
  const world = makeWorld();
  const names = filesBelow(world.dir);
  const databases = new Map(names.filter((name) => name.endsWith('.sqlite')).map((name) => [name, contentOf(join(world.dir, name))]));
  let [tried, dead] = [0, 0];
  const notRepaired = new Map<string, string>();
  for (const name of names) {
    const { size } = statSync(join(world.dir, name));
    for (const [position, offset] of positionsIn(size).entries()) {
      const dir = newDir();
      cpSync(world.dir, dir, { recursive: true });
      flipBit(join(dir, name), offset, position % 8);
      tried++;
      const found = fsck(dir);
      if (found !== undefined && found.problems.length === 0) {
        // A page of a database has bytes that belong to no row: free space, and fields that SQLite does not read. Such a byte is dead if the database says what it
        // said before; the index may also have been made again when the store was opened, as the cache that it is.
        assert(databases.has(name), `${name} at ${offset}: nothing found`);
        assert.equal(contentOf(join(dir, name)), databases.get(name), `${name} at ${offset}: nothing found, and it reads differently`);
        dead++;
      } else if (found !== undefined) {
        const repaired = fsck(dir, { repair: true, source: sourceIn(world.sources) });
        const left = repaired?.problems.filter((problem) => !problem.repaired) ?? [];
        for (const problem of left) notRepaired.set(problem.kind, `${name} at ${offset}: ${problem.problem}`);
        if (left.length === 0) {
          assert.deepEqual(fsck(dir)?.problems, [], `${name} at ${offset}: after the repair`);
          using store = open(dir);
          assert.equal([...walkTree(store, world.tree)].filter(({ entry }) => entry.kind === 'file').every(({ entry }) => entry.kind === 'file' && store.getBlob(entry.digest).length === entry.size), true);
        }
      }
      rmSync(dir, { recursive: true });
    }
  }
  t.diagnostic(`${tried} bits, ${dead} of them in dead bytes of databases; without another copy: ${[...notRepaired.keys()].join(', ')}`);
  // Trees and nodes are in no file of the project.
  assert.deepEqual([...notRepaired].filter(([kind]) => !['tree', 'node', 'ref'].includes(kind)), []);
});

test('a damaged file is named with the refs and paths that need it, and comes back from a file of the project', () => {
  const { dir, sources, promoted } = makeWorld();
  const text = readFileSync(join(sources, 'text'));
  using store = open(dir);
  store.flush();
  rmSync(join(dir, 'objects'), { recursive: true });
  damageRecord(dir, store.putBlob(text));
  damageRecord(dir, promoted);
  store.flush();
  const found = store.fsck();
  assert.deepEqual(
    found.problems.map(({ kind, names }) => ({ kind, names: names.map(({ ref, path }) => `${ref} ${path}`).sort() })).sort((a, b) => a.names.length - b.names.length),
    [
      { kind: 'blob', names: ['env/one/root lib/large', 'env/one/tree lib/large'] },
      { kind: 'blob', names: ['env/one/root text', 'env/one/tree text'] },
    ],
  );
  assert.throws(() => store.getBlob(promoted), { code: 'OBJECT_CORRUPT' });
  const asked: (number | undefined)[] = [];
  const { problems } = store.fsck({
    repair: true,
    source: (blob) => {
      asked.push(blob.size);
      return sourceIn(sources)(blob);
    },
  });
  assert.deepEqual(problems.map(({ repaired }) => repaired), [true, true]);
  assert.deepEqual(asked.sort(), [70_000, text.length].sort());
  assert.deepEqual(store.fsck().problems, []);
  assert.equal(store.getBlob(promoted).length, 70_000);
});

test('a damaged object that another pack has too needs no source; one that nothing has is taken out, and putting it heals it', () => {
  const dir = newDir();
  using store = open(dir);
  const [twice, once] = [Buffer.from('twice'), Buffer.from('once')];
  const digests = [twice, once].map((bytes) => store.putBlob(bytes));
  for (const [name, digest] of [['twice', digests[0]!], ['once', digests[1]!]] as const) store.setRef(name, { kind: 'blob', digest });
  // What two processes write at the same time is in both their packs.
  const other = newDir();
  {
    using copy = open(other);
    copy.putBlob(twice);
    copy.putBlob(Buffer.from('so that the pack is not the same'));
  }
  const [pack] = readdirSync(join(other, 'packs'));
  for (const digest of digests) damageRecord(dir, digest);
  cpSync(join(other, 'packs', pack!), join(dir, 'packs', pack!));
  const { problems } = store.fsck({ repair: true });
  const byDigest = new Map(problems.map((problem) => [problem.digest, problem.repaired]));
  assert.deepEqual(digests.map((digest) => byDigest.get(digest)), [true, false]);
  assert.equal(store.getBlob(digests[0]!).toString(), 'twice');
  assert.equal(store.hasBlob(digests[1]!), false);
  assert.equal(store.putBlob(once), digests[1]);
  store.flush();
  assert.deepEqual(store.fsck().problems, []);
});

test('after an index is made again over a damaged record, gc removes nothing until a repair has brought back what hung on it', () => {
  const { dir, sources, tree } = makeWorld();
  rmSync(join(dir, 'objects'), { recursive: true });
  const text = readFileSync(join(sources, 'text'));
  {
    using store = open(dir);
    const damaged = store.putBlob(text);
    store.flush();
    damageRecord(dir, damaged);
  }
  rebuildIndex(dir, { nodeLinks: testNodeLinks });
  using store = open(dir);
  assert.equal(store.hasTree(tree), false, 'a tree that lost a part is left out');
  const before = filesBelow(dir);
  for (const options of [{}, { dryRun: true }, { cap: { maxBytes: 1e9, groups: [{ name: 'one', roots: [], refs: ['env/one/root', 'env/one/tree'] }] } }]) {
    assert.throws(() => store.gc(options), { code: 'STORE_INCOMPLETE', message: /^env\/one\/root is not whole/ });
  }
  assert.deepEqual(filesBelow(dir), before);

  const unrepaired = store.fsck({ repair: true }).problems;
  assert(unrepaired.some(({ repaired, names }) => !repaired && names.some(({ ref, path }) => ref === 'env/one/tree' && path === 'text')), JSON.stringify(unrepaired));
  assert.throws(() => store.gc(), { code: 'STORE_INCOMPLETE' }, 'one file is lost, and the others are still there');
  const { problems } = store.fsck({ repair: true, source: sourceIn(sources) });
  assert(problems.length > 0 && problems.every(({ repaired }) => repaired), JSON.stringify(problems));
  assert.deepEqual(store.fsck().problems, []);
  assert.deepEqual([store.gc().chunksRemoved, store.gc().manifestsRemoved], [0, 0]);
  for (const { path, entry } of walkTree(store, tree)) if (entry.kind === 'file') assert(store.getBlob(entry.digest).equals(readFileSync(join(sources, path))), path);
});

test('a ref that is not whole can be given up, and the rest is collected then', () => {
  const dir = newDir();
  using store = open(dir);
  const lost = store.putTree([{ kind: 'file', name: 'lost' as ByteString, mode: 0o644, digest: 'ab'.repeat(32) as BlobDigest, size: 1 }]);
  store.setRef('broken', { kind: 'tree', digest: lost });
  store.setRef('whole', { kind: 'blob', digest: store.putBlob(Buffer.from('whole')) });
  assert.throws(() => store.gc(), { code: 'STORE_INCOMPLETE', details: { ref: 'broken' } });
  assert.equal(store.gc({ dropRefs: ['broken'] }).manifestsRemoved, 1);
  assert.deepEqual(store.listRefs().map(({ name }) => name), ['whole']);
});

test('a sample reads part of the objects, and still walks all that refs need', () => {
  const dir = newDir();
  using store = open(dir);
  for (let i = 0; i < 400; i++) store.putBlob(Buffer.from(`blob ${i}`));
  const lost = store.putTree([{ kind: 'file', name: 'lost' as ByteString, mode: 0o644, digest: 'ab'.repeat(32) as BlobDigest, size: 1 }]);
  store.setRef('broken', { kind: 'tree', digest: lost });
  const { objectsChecked, problems } = store.fsck({ sample: 0.2 });
  assert(objectsChecked > 20 && objectsChecked < 200, `${objectsChecked} of 401`);
  assert.deepEqual(problems.map(({ kind, names }) => ({ kind, names })), [{ kind: 'ref', names: [{ ref: 'broken', path: 'lost' }] }]);
});

/** Flips a bit of the payload of each record of a blob, or of its recipe and the first chunk. */
function damageRecord(dir: string, digest: BlobDigest): void {
  const db = new DatabaseSync(join(dir, 'index.sqlite'), { readOnly: true });
  const rows = db.prepare('SELECT id, offset FROM objects JOIN packs ON packs.number = objects.pack WHERE digest = ?').all(Buffer.from(digest, 'hex')) as { id: string; offset: number }[];
  db.close();
  assert(rows.length > 0);
  for (const { id, offset } of rows) flipBit(join(dir, 'packs', `${id}.pack`), offset + 53, 3);
}
