import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { threadId } from 'node:worker_threads';
import { processStartTime } from '@hyperdocker/base';
import type { BlobDigest, TreeDigest } from '@hyperdocker/base';
import { chunkingConformance, removed, sampleBytes, sampleGraph, storeConformance, testNodeLinks } from './conformance.ts';
import type { Store } from './contract.ts';
import { PROMOTE_BYTES } from './blobs.ts';
import { openStore, rebuildIndex } from './disk-store.ts';
import { ownProcess } from './process-id.ts';
import { RefStore } from './ref-store.ts';
import { walkTree } from './tree-ops.ts';

/** How often the writer is killed. */
const KILL_ROUNDS = Number(process.env['HD_KILL_ROUNDS'] ?? 30);
const root = mkdtempSync(join(tmpdir(), 'hd-store-'));
after(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const newDir = (): string => join(root, String(count++));
const open = (dir: string): Store => openStore(dir, { nodeLinks: testNodeLinks });

storeConformance('disk', (nodeLinks) => openStore(newDir(), { nodeLinks }));
storeConformance('disk, fine chunks, strict', (nodeLinks) => openStore(newDir(), { nodeLinks, chunking: 'fine', durability: 'strict' }));
for (const [name, dirOf] of [['one store', () => join(root, 'cut')], ['a store each', newDir]] as const) chunkingConformance(name, (chunking) => openStore(dirOf(), { chunking }));

const files = (dir: string, suffix = ''): string[] => (existsSync(dir) ? readdirSync(dir, { recursive: true, encoding: 'utf8' }) : []).map((name) => join(dir, name)).filter((path) => path.endsWith(suffix) && statSync(path).isFile());

function flipBit(path: string, offset: number): void {
  const bytes = readFileSync(path);
  bytes[offset]! ^= 0x10;
  chmodSync(path, 0o644);
  const fd = openSync(path, 'r+');
  writeSync(fd, bytes);
  closeSync(fd);
}

/** A process with the store open; see disk-store.child.ts. */
class Child {
  readonly process: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: AsyncIterator<string>;

  constructor(dir: string, mode: string) {
    const script = fileURLToPath(new URL('disk-store.child.ts', import.meta.url));
    this.process = spawn(process.execPath, [script, dir, mode], { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#lines = createInterface(this.process.stdout)[Symbol.asyncIterator]();
  }

  async line(): Promise<string> {
    const { value, done } = await this.#lines.next();
    assert(!done, 'the child ended early');
    return value;
  }

  async kill(): Promise<void> {
    const ended = once(this.process, 'exit');
    if (this.process.exitCode === null && this.process.signalCode === null) {
      this.process.kill('SIGKILL');
      await ended;
    }
  }
}

test('objects and refs survive closing; a reader sees what another store flushed, not before', () => {
  const dir = newDir();
  using reader = open(dir);
  const writer = open(dir);
  const graph = sampleGraph(writer, 'x');
  assert.equal(reader.hasNode(graph.node), false);
  writer.flush();
  assert.equal(reader.getTree(graph.tree).length, 3);
  writer.setRef('r', { kind: 'node', digest: graph.node });
  writer[Symbol.dispose]();
  writer[Symbol.dispose]();
  using again = open(dir);
  assert.equal(again.getRef('r')?.target.digest, graph.node);
  assert.deepEqual(again.fsck(), { objectsChecked: 5, problems: [] });
});

test('an object that is there is not written again', () => {
  const dir = newDir();
  {
    using store = open(dir);
    sampleGraph(store, 'x');
  }
  const before = files(dir, '.pack').length;
  using store = open(dir);
  sampleGraph(store, 'x');
  store.flush();
  assert.equal(files(dir, '.pack').length, before);
  assert.equal(files(join(dir, 'tmp')).length, 0);
});

test('a flipped bit in a pack is never served', () => {
  const dir = newDir();
  const bytes = sampleBytes(4000);
  let digest: BlobDigest;
  {
    using store = open(dir);
    digest = store.putBlob(bytes);
  }
  const pack = files(dir, '.pack')[0]!;
  for (const offset of [8, 13, 16, 30, 100, 3000]) {
    flipBit(pack, offset);
    using store = open(dir);
    for (const read of [() => store.getBlob(digest), () => store.readBlob(digest, 0, 1)]) assert.throws(read, { code: 'OBJECT_CORRUPT' }, `offset ${offset}`);
    assert.deepEqual(store.fsck().problems.map((problem) => problem.digest), [digest]);
    flipBit(pack, offset);
  }
  using store = open(dir);
  assert(store.getBlob(digest).equals(bytes));
});

test('a promoted copy is made once, belongs to the blob, and is made again where it is damaged or gone', () => {
  const dir = newDir();
  const bytes = sampleBytes(100_000);
  let digest: BlobDigest;
  {
    using store = open(dir);
    digest = store.putBlob(bytes);
    assert.equal(store.blobFile(store.putBlob(sampleBytes(PROMOTE_BYTES - 1))), undefined);
  }
  using store = open(dir);
  const path = store.blobFile(digest)!;
  const { ino } = statSync(path);
  assert.equal(store.blobFile(digest), path);
  assert.equal(statSync(path).ino, ino);
  assert.deepEqual(files(join(dir, 'tmp')), []);
  flipBit(path, 99_999);
  assert(store.getBlob(digest).equals(bytes) && store.readBlob(digest, 99_999, 1).equals(bytes.subarray(99_999)), 'reads go back to the packs');
  for (const spoil of [() => flipBit(path, 5), () => rmSync(path)]) {
    spoil();
    assert.equal(store.blobFile(digest), path);
    assert(readFileSync(path).equals(bytes));
  }
  assert.deepEqual(store.fsck().problems, []);
  using reader = openStore(dir, { readOnly: true });
  assert.equal(reader.blobFile(digest), path);
  rmSync(path);
  assert.equal(reader.blobFile(digest), undefined, 'makes none');
});

for (const [what, damage] of [
  ['deleted', (dir: string) => files(dir).filter((path) => path.includes('index.sqlite')).forEach((path) => rmSync(path))],
  ['overwritten', (dir: string) => writeFileSync(join(dir, 'index.sqlite'), 'not a database, and long enough to be read as one'.repeat(20))],
  ['rebuilt on demand', (dir: string) => assert.equal(rebuildIndex(dir, { nodeLinks: testNodeLinks }).objects, 5)],
] as const) {
  test(`an index that is ${what} comes back whole, and refs do not need it`, () => {
    const dir = newDir();
    let graph: ReturnType<typeof sampleGraph>;
    {
      using store = open(dir);
      graph = sampleGraph(store, 'x');
      store.setRef('r', { kind: 'node', digest: graph.node });
    }
    damage(dir);
    using store = open(dir);
    assert.equal(store.getRef('r')?.target.digest, graph.node);
    assert.deepEqual(store.fsck(), { objectsChecked: 5, problems: [] });
    assert.equal(store.stats().chunks, 2);
  });
}

test('an index that lost its last transaction, as after a power cut, is brought up to date', () => {
  const dir = newDir();
  const index = join(dir, 'index.sqlite');
  open(dir)[Symbol.dispose]();
  const old = readFileSync(index);
  let graph: ReturnType<typeof sampleGraph>;
  {
    using store = open(dir);
    graph = sampleGraph(store, 'x');
    store.setRef('r', { kind: 'node', digest: graph.node });
  }
  for (const suffix of ['-wal', '-shm']) rmSync(index + suffix, { force: true });
  writeFileSync(index, old);
  using store = open(dir);
  assert.deepEqual(store.fsck(), { objectsChecked: 5, problems: [] });
  assert.equal(store.getTree(graph.tree).length, 3);
});

test('rebuilding steps over damaged records and leaves out trees that lost a part', () => {
  const dir = newDir();
  let trees: TreeDigest[];
  {
    using store = open(dir);
    trees = ['one', 'two'].map((salt) => {
      const digest = store.putBlob(Buffer.from(salt));
      return store.putTree([{ name: 'f' as never, kind: 'file', mode: 0o644, digest, size: 3 }]);
    });
  }
  const pack = files(dir, '.pack')[0]!;
  flipBit(pack, 8 + 52);
  assert.equal(rebuildIndex(dir).objects, 2);
  using store = open(dir);
  assert.deepEqual(trees.map((tree) => store.hasTree(tree)), [false, true]);
});

test('an open store finds objects that gc in another one has moved', () => {
  const dir = newDir();
  using collector = open(dir);
  const kept = sampleBytes(9000);
  const digest = collector.putBlob(kept);
  for (let i = 1; i <= 5; i++) collector.putBlob(sampleBytes(9000 + i));
  collector.setRef('kept', { kind: 'blob', digest });
  using reader = open(dir);
  assert.equal(collector.gc().chunksRemoved, 5);
  assert(reader.getBlob(digest).equals(kept));
});

test('a pack that another open store still appends to outlives gc, though not what nobody needs in it', () => {
  const dir = newDir();
  using writer = open(dir);
  const kept = writer.putBlob(Buffer.from('kept'));
  const lost = writer.putBlob(Buffer.from('lost'));
  writer.setRef('kept', { kind: 'blob', digest: kept });
  using collector = open(dir);
  assert.equal(collector.gc().chunksRemoved, 1);
  const after = writer.putBlob(Buffer.from('after'));
  assert.equal(writer.hasBlob(lost), false);
  assert.equal(writer.putBlob(Buffer.from('lost')), lost);
  writer.flush();
  assert.equal([kept, after, lost].map((digest) => collector.getBlob(digest).toString()).join(), 'kept,after,lost');
});

test('writes that are not flushed keep gc in another store off, also from what was there already', () => {
  const dir = newDir();
  using collector = open(dir);
  const old = collector.putBlob(Buffer.from('unreferenced so far'));
  collector.flush();
  using writer = open(dir);
  assert.equal(writer.putBlob(Buffer.from('unreferenced so far')), old);
  const tree = writer.putTree([{ name: 'f' as never, kind: 'file', mode: 0o644, digest: old, size: 19 }]);
  assert.throws(() => collector.gc({ waitMs: 0 }), { code: 'STORE_BUSY', message: /not flushed/ });
  writer.setRef('r', { kind: 'tree', digest: tree });
  assert.deepEqual(removed(collector.gc()), { manifestsRemoved: 0, chunksRemoved: 0 });
  assert.deepEqual(collector.fsck(), { objectsChecked: 2, problems: [] });
});

test('two processes write and read at once', async () => {
  const dir = newDir();
  const children = [new Child(dir, 'fill:a'), new Child(dir, 'fill:b')];
  const trees = await Promise.all(children.map((child) => child.line()));
  await Promise.all(children.map(({ process }) => process.exitCode === null && once(process, 'exit')));
  assert.equal(trees[0], trees[1], 'both wrote the same tree');
  using store = open(dir);
  assert.equal([...walkTree(store, trees[0] as TreeDigest)].length, 500);
  assert.deepEqual(store.fsck().problems, []);
  assert.deepEqual(store.listRefs().map(({ name }) => name), ['counter', 'fill/a', 'fill/b']);
  const counter = store.reflog('counter').map(({ target }) => store.getBlob(target.digest as BlobDigest).toString());
  assert.deepEqual(counter, Array.from({ length: 40 }, (_, i) => String(40 - i)), 'no swap was lost');
});

test('a lease in another live process blocks gc; one of a killed process does not', async () => {
  const dir = newDir();
  using store = open(dir);
  const child = new Child(dir, 'lease');
  const digest = (await child.line()) as BlobDigest;
  assert.throws(() => store.gc({ waitMs: 0 }), { code: 'STORE_BUSY', message: new RegExp(`child at work.*${child.process.pid}`) });
  assert.throws(() => store.gc({ dryRun: true, waitMs: 0 }), { code: 'STORE_BUSY' });
  assert.equal(store.hasBlob(digest), true);
  await child.kill();
  assert.equal(store.gc().chunksRemoved, 1);
});

test('leases and refs wait while another process collects; the lock of a killed one is void', async () => {
  const dir = newDir();
  using store = open(dir);
  const digest = store.putBlob(Buffer.from('x'));
  store.flush();
  const child = new Child(dir, 'gc');
  assert.equal(await child.line(), 'collecting');
  assert.throws(() => store.gc({ waitMs: 0 }), { code: 'STORE_BUSY', message: /garbage collection/ });
  // The child lets go when it reads this, while the call below blocks this process.
  child.process.stdin.write('end\n');
  store.lease('after gc')[Symbol.dispose]();
  assert.equal(await child.line(), 'ended');
  const killed = new Child(dir, 'gc');
  assert.equal(await killed.line(), 'collecting');
  await killed.kill();
  await child.kill();
  assert.equal(store.setRef('r', { kind: 'blob', digest }), true);
});

test('a row of this thread that it does not hold is in nobody\'s way, and goes', () => {
  const dir = newDir();
  const rows = (): unknown[] => {
    using refs = new DatabaseSync(join(dir, 'refs.sqlite'));
    return refs.prepare('SELECT what FROM holders').all();
  };
  {
    using store = open(dir);
    using refs = new DatabaseSync(join(dir, 'refs.sqlite'));
    const { pid, startTicks } = ownProcess();
    refs.prepare('INSERT INTO holders (role, pid, start_ticks, what, thread) VALUES (?, ?, ?, ?, ?)').run('lease', pid, startTicks, 'could not be removed', threadId);
    store.gc({ waitMs: 0 });
    refs.prepare("UPDATE holders SET role = 'gc'").run();
    assert(store.setRef('r', { kind: 'blob', digest: store.putBlob(Buffer.from('here')) }));
    assert.equal(rows().length, 2, 'and a pack');
  }
  open(dir)[Symbol.dispose]();
  assert.deepEqual(rows(), []);
});

test('a claim that could not be committed is none: whoever gets its number keeps it', () => {
  const dir = newDir();
  using store = open(dir);
  using refs = new DatabaseSync(join(dir, 'refs.sqlite'));
  // A commit fails where a deferred foreign key points nowhere.
  refs.exec(`CREATE TABLE owners (id INTEGER PRIMARY KEY); CREATE TABLE owned (id INTEGER REFERENCES owners (id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TRIGGER fail AFTER INSERT ON holders BEGIN INSERT INTO owned VALUES (1); END;`);
  assert.throws(() => store.lease('in vain'), { code: 'STORE_WRITE' });
  refs.exec('DROP TRIGGER fail');
  refs.prepare("INSERT INTO holders (role, pid, start_ticks, what) VALUES ('lease', 1, ?, 'of another process')").run(processStartTime(1)!);
  assert.throws(() => store.gc({ waitMs: 0 }), { code: 'STORE_BUSY' });
  store[Symbol.dispose]();
  assert.equal(refs.prepare('SELECT count(*) AS count FROM holders').get()!['count'], 1);
});

test('a pack that nobody wrote to goes at the next open, unless its writer lives', () => {
  const dir = newDir();
  open(dir)[Symbol.dispose]();
  const paths = ['0'.repeat(12), '1'.repeat(12), '2'.repeat(12)].map((time) => join(dir, 'packs', `${time}-${'0'.repeat(16)}.pack`));
  paths.forEach((path, i) => writeFileSync(path, i === 0 ? '' : 'HDPACK\0\x01'));
  const refs = new RefStore(join(dir, 'refs.sqlite'), { readOnly: false });
  refs.holdPack(basename(paths[2]!, '.pack'));
  open(dir)[Symbol.dispose]();
  assert.deepEqual(files(dir, '.pack'), paths.slice(2));
  refs.close();
  open(dir)[Symbol.dispose]();
  assert.deepEqual(files(dir, '.pack'), []);
});

test('kill -9 at any moment leaves a whole store with every ref that was told', async (t) => {
  const dir = newDir();
  let told = 0;
  for (let round = 0; round < KILL_ROUNDS; round++) {
    const child = new Child(dir, 'commit');
    // Other moments each round: after some commits and then somewhere inside the next, or while the store is opened and put right.
    if (round % 5 === 4) await delay(((round * 7) % 40) * 5);
    else for (let i = 0; i <= round % 4; i++) told = Number(await child.line());
    if (round % 2 === 1) await delay(round % 16);
    await child.kill();
    using store = open(dir);
    assert.deepEqual(files(dir, '.pack').filter((path) => statSync(path).size <= 8), [], `empty packs, round ${round}`);
    assert.deepEqual(store.fsck().problems, [], `round ${round}`);
    const { target } = store.getRef('head')!;
    const reached = Number(store.getBlob(store.getTree(target.digest as TreeDigest).flatMap((entry) => (entry.name === 'number' && entry.kind === 'file' ? [entry.digest] : []))[0]!));
    assert(reached >= told, `round ${round}: told ${told}, found ${reached}`);
    assert.equal(files(join(dir, 'tmp')).length, 0);
    if (round % 10 === 9) store.gc();
  }
  t.diagnostic(`${KILL_ROUNDS} rounds, ${told} commits`);
});

test('a store of a later version is refused', () => {
  const dir = newDir();
  open(dir)[Symbol.dispose]();
  writeFileSync(join(dir, 'format'), 'hd.store/3\n');
  assert.throws(() => open(dir), { code: 'STORE_VERSION' });
  writeFileSync(join(dir, 'format'), 'something else');
  assert.throws(() => open(dir), { code: 'STORE_FORMAT' });
});

test('read-only: reads, writes nothing, does without an index', () => {
  const dir = newDir();
  assert.throws(() => openStore(dir, { readOnly: true }), { code: 'STORE_FORMAT' });
  let graph: ReturnType<typeof sampleGraph>;
  {
    using store = open(dir);
    graph = sampleGraph(store, 'x');
    store.setRef('r', { kind: 'node', digest: graph.node });
  }
  files(dir).filter((path) => path.includes('index.sqlite')).forEach((path) => rmSync(path));
  const before = files(dir).filter((path) => !/-(wal|shm)$/.test(path));
  {
    using store = openStore(dir, { readOnly: true, nodeLinks: testNodeLinks });
    assert.equal(store.getTree(graph.tree).length, 3);
    assert.equal(store.putTree(store.getTree(graph.tree)), graph.tree, 'what is there need not be written');
    for (const write of [() => store.putBlob(Buffer.from('new')), () => store.putBlob(sampleBytes(70_000)), () => store.setRef('q', { kind: 'node', digest: graph.node }), () => store.gc(), () => store.lease('x')]) {
      assert.throws(write, { code: 'STORE_WRITE' });
    }
    assert.deepEqual(store.fsck().problems, []);
  }
  assert.deepEqual(files(dir).filter((path) => !/-(wal|shm)$/.test(path)), before);
});

function mountTmpfs(dir: string, options: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', options, 'hd-test', dir], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

test('small parts of what does not compress are lent by themselves, and a damaged chunk is noticed at its first part', () => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-lend-'));
  try {
    const bytes = randomBytes(5 << 20);
    let digest: BlobDigest;
    {
      using store = openStore(dir);
      digest = store.putBlob(bytes);
      store.flush();
    }
    const places = Array.from({ length: 200 }, (_, i) => (i * 2_654_435_761) % (bytes.length - 4096));
    {
      using store = openStore(dir, { readOnly: true, cacheBytes: 1 });
      for (const at of [...places, ...places]) assert(store.lendBlob(digest, at, 4096).equals(bytes.subarray(at, at + 4096)), String(at));
      for (const length of [1 << 20, 300_000, 70_000]) for (let at = 0; at < bytes.length; at += length) assert(store.lendBlob(digest, at, length).equals(bytes.subarray(at, at + length)), `${length} at ${at}`);
    }
    const [pack] = readdirSync(join(dir, 'packs'));
    assert(pack !== undefined);
    const path = join(dir, 'packs', pack);
    const stored = readFileSync(path);
    const at = stored.indexOf(bytes.subarray(3_000_000, 3_000_032));
    stored[at]! ^= 1;
    writeFileSync(path, stored);
    using store = openStore(dir, { readOnly: true });
    assert(store.lendBlob(digest, 0, 4096).equals(bytes.subarray(0, 4096)));
    assert.throws(() => store.lendBlob(digest, 3_000_000, 512), { code: 'OBJECT_CORRUPT' });
    assert.throws(() => store.lendBlob(digest, 3_000_000, 512), { code: 'OBJECT_CORRUPT' });
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
});

test('a full disk gives STORE_WRITE, loses nothing, and works on once there is room; then read-only media', (t) => {
  const dir = newDir();
  mkdirSync(dir);
  if (!mountTmpfs(dir, 'size=5m')) {
    t.skip('mounting a tmpfs is not permitted here');
    return;
  }
  try {
    const graph = fillDisk(dir);
    execFileSync('mount', ['-o', 'remount,ro', dir]);
    assert.throws(() => open(dir), { code: 'STORE_WRITE', message: /read-only/ });
    using store = openStore(dir, { readOnly: true, nodeLinks: testNodeLinks });
    assert.equal(store.getRef('kept')?.target.digest, graph.node);
    assert.deepEqual(store.fsck().problems, []);
  } finally {
    execFileSync('umount', [dir]);
  }
});

function fillDisk(dir: string): ReturnType<typeof sampleGraph> {
  using store = open(dir);
  const graph = sampleGraph(store, 'kept');
  store.setRef('kept', { kind: 'node', digest: graph.node });
  const first = store.putBlob(Buffer.from('before it was full'));
  const ballast = openSync(join(dir, 'ballast'), 'w');
  assert.throws(() => { for (;;) writeSync(ballast, Buffer.alloc(4096)); }, { code: 'ENOSPC' });
  closeSync(ballast);
  const small = Array.from({ length: 20 }, (_, i) => store.putBlob(sampleBytes(20_000 + i)));
  assert.throws(() => store.putBlob(sampleBytes(1_900_000)), { code: 'STORE_WRITE', message: /disk is full/ });
  assert.throws(() => store.flush(), { code: 'STORE_WRITE', message: /disk is full/ });
  assert.equal(store.getRef('kept')?.target.digest, graph.node);
  assert.deepEqual(graph.blobs.map((digest) => store.getBlob(digest).length > 0), [true, true]);
  rmSync(join(dir, 'ballast'));
  store.flush();
  assert.equal(store.getBlob(first).toString(), 'before it was full');
  assert.equal(store.getBlob(small[19]!).length, 20_019);
  assert.deepEqual(store.fsck().problems, []);
  return graph;
}
