import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { Decoder, Encoder, hasher } from '@hyperdocker/base';
import type { BlobDigest, ByteString, NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { FileEntry, GcResult, NodeLinks, RefTarget, Store } from './contract.ts';
import type { ChunkingProfile } from './fastcdc.ts';

/**
 * What every `Store` must do, as tests. Not for production code: it imports the test runner.
 *
 * @param open makes a new, empty store that reads links of nodes with `nodeLinks`. Whatever lies under it is the caller's to remove.
 */
export function storeConformance(name: string, open: (nodeLinks: NodeLinks) => Store): void {
  const it = (what: string, check: (store: Store) => void): void => {
    test(`${name}: ${what}`, () => {
      using store = open(testNodeLinks);
      check(store);
    });
  };
  blobsConform(it);
  objectsConform(it);
  collectionConforms(it);
  reportsConform(it);
}

/** Around every limit: compression, files, both profiles' whole blobs, the window. */
const BLOB_SIZES = [0, 1, 511, 513, 4096, 4097, 65_535, 65_536, 2_097_152, 2_097_153, 3_000_001, 9_000_001];

/** Names and runs one test on an empty store. */
type It = (what: string, check: (store: Store) => void) => void;

function blobsConform(it: It): void {
  for (const size of BLOB_SIZES) {
    it(`a blob of ${size} bytes, before and after flush`, (store) => {
      const bytes = sampleBytes(size);
      const digest = hasher.hash(bytes) as BlobDigest;
      assert.equal(store.hasBlob(digest), false);
      assert.throws(() => store.getBlob(digest), { code: 'OBJECT_MISSING' });
      assert.throws(() => store.blobSize(digest), { code: 'OBJECT_MISSING' });
      assert.equal(store.putBlob(bytes), digest);
      for (const stage of ['pending', 'flushed']) {
        assert.equal(store.hasBlob(digest), true, stage);
        assert.equal(store.blobSize(digest), size);
        assert(store.getBlob(digest).equals(bytes));
        assert(store.readBlob(digest, 0, size).equals(bytes));
        assert(store.readBlob(digest, size >> 1, 10).equals(bytes.subarray(size >> 1, (size >> 1) + 10)));
        assert(Buffer.concat([...store.streamBlob(digest)]).equals(bytes));
        assert.equal(store.readBlob(digest, size, 10).length, 0);
        assert.equal(store.readBlob(digest, size + 5, 10).length, 0);
        for (const [from, length] of [[0, size], [size >> 1, 10], [size >> 1, size], [0, 1], [size, 10], [size + 5, 10]] as const) {
          assert(store.lendBlob(digest, from, length).equals(bytes.subarray(from, from + length)), `${length} at ${from}, lent`);
        }
        store.flush();
      }
      const file = store.blobFile(digest);
      if (file !== undefined) {
        assert(readFileSync(file).equals(bytes));
        assert.equal(statSync(file).mode & 0o777, 0o444);
      }
    });
  }

  it('reads of parts, wherever they begin and end', (store) => {
    const bytes = sampleBytes(5_000_000);
    const digest = store.putBlob(bytes);
    for (let offset = 0; offset < bytes.length; offset += 777_777) {
      for (const length of [1, 4096, 131_072, 3_000_000]) {
        assert(store.readBlob(digest, offset, length).equals(bytes.subarray(offset, offset + length)), `${length} at ${offset}`);
        assert(store.lendBlob(digest, offset, length).equals(bytes.subarray(offset, offset + length)), `${length} at ${offset}, lent`);
      }
    }
  });

  it('a blob in parts is the blob, however it is parted', (store) => {
    for (const size of BLOB_SIZES) {
      const bytes = sampleBytes(size);
      for (const partBytes of [size, 100_003]) {
        using writer = store.blobWriter();
        const part = Buffer.alloc(partBytes);
        for (let offset = 0; offset < size; offset += partBytes) {
          const length = bytes.copy(part, 0, offset);
          writer.write(part.subarray(0, length));
          part.fill(0);
          if (offset === 0) store.flush();
        }
        assert.deepEqual(writer.finish(), { digest: hasher.hash(bytes), size });
      }
      assert(store.getBlob(hasher.hash(bytes) as BlobDigest).equals(bytes));
    }
    assert.deepEqual(store.fsck().problems, []);
  });

  it('a blob that is not finished is not there, and keeps gc off only until it is given up', (store) => {
    const bytes = sampleBytes(10_000_000);
    const writer = store.blobWriter();
    writer.write(bytes);
    store.flush();
    assert.equal(store.hasBlob(hasher.hash(bytes) as BlobDigest), false);
    writer[Symbol.dispose]();
    store.gc({ waitMs: 0 });
    assert.equal(store.stats().chunks, 0);
    assert.throws(() => [...store.streamBlob(hasher.hash(bytes) as BlobDigest)], { code: 'OBJECT_MISSING' });
  });

  it('what a reader does to its buffer does not reach the store', (store) => {
    const digest = store.putBlob(Buffer.from('kept'));
    store.getBlob(digest).fill(0);
    store.readBlob(digest, 0, 4).fill(0);
    assert.equal(store.getBlob(digest).toString(), 'kept');
    const bytes = sampleBytes(3_000_000);
    const large = store.putBlob(bytes);
    for (const read of [() => [store.readBlob(large, 1_500_000, 10)], () => store.streamBlob(large), () => [store.getBlob(large)]]) {
      for (const part of read()) part.fill(0);
      assert(store.readBlob(large, 1_500_000, 10).equals(bytes.subarray(1_500_000, 1_500_010)));
    }
    assert(store.getBlob(large).equals(bytes));
  });

  it('files of the host', (store) => {
    const dir = mkdtempSync(join(tmpdir(), 'hd-cas-'));
    try {
      for (const size of [0, 100, 65_536, 2_500_000]) {
        const bytes = sampleBytes(size);
        const path = join(dir, `f${size}`);
        writeFileSync(path, bytes);
        for (let round = 0; round < 2; round++) assert.deepEqual(store.putFile(Buffer.from(path)), { digest: hasher.hash(bytes), size });
        assert(store.getBlob(hasher.hash(bytes) as BlobDigest).equals(bytes));
      }
      assert.equal(store.stats().logicalBytes, 100 + 65_536 + 2_500_000);
      assert.throws(() => store.putFile(join(dir, 'absent')), { code: 'ENOENT' });
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
}

function objectsConform(it: It): void {
  it('trees are sorted, shared and kept apart from blobs of the same bytes', (store) => {
    const a = fileEntry(store, 'a', 'one');
    const b = fileEntry(store, 'b', 'two');
    const digest = store.putTree([b, a]);
    assert.equal(store.putTree([a, b]), digest);
    assert.deepEqual(store.getTree(digest), [a, b]);
    store.flush();
    assert.deepEqual(store.getTree(digest), [a, b]);
    assert.equal(store.hasBlob(digest as string as BlobDigest), false);
    assert.equal(store.hasTree(a.digest as string as TreeDigest), false);
    assert.throws(() => store.putTree([a, a]), { name: 'AssertionFailure' });
    assert.throws(() => store.getTree(a.digest as string as TreeDigest), { code: 'OBJECT_MISSING' });
  });

  it('nodes', (store) => {
    const encoded = testNode([]);
    const digest = store.putNode(encoded);
    assert.equal(digest, hasher.hash(encoded));
    assert.equal(store.hasNode(digest), true);
    assert(store.getNode(digest).equals(encoded));
    assert.throws(() => store.getNode(hasher.hash(Buffer.from('none')) as NodeDigest), { code: 'OBJECT_MISSING' });
  });

  it('refs move by compare-and-swap and leave a log', (store) => {
    const [one, two] = ['1', '2'].map((text): RefTarget => ({ kind: 'blob', digest: store.putBlob(Buffer.from(text)) })) as [RefTarget, RefTarget];
    assert.equal(store.getRef('env/a'), undefined);
    assert.equal(store.setRef('env/a', one, two), false);
    assert.equal(store.setRef('env/a', one, null), true);
    assert.equal(store.setRef('env/a', two, null), false);
    assert.equal(store.setRef('env/a', two, { ...two, kind: 'tree' }), false);
    assert.equal(store.setRef('env/a', two, one), true);
    assert.equal(store.setRef('env/a', one), true);
    assert.deepEqual(store.getRef('env/a')?.target, one);
    assert.deepEqual(store.reflog('env/a').map(({ target }) => target), [one, two, one]);
    assert.throws(() => store.setRef('env/a', { kind: 'tree', digest: one.digest }), { code: 'OBJECT_MISSING' });
    store.setRef('env/b', two);
    store.setRef('envy', two);
    assert.deepEqual(store.listRefs('env/').map(({ name: ref }) => ref), ['env/a', 'env/b']);
    assert.equal(store.listRefs().length, 3);
    assert.equal(store.deleteRef('env/b'), true);
    assert.equal(store.deleteRef('env/b'), false);
    assert.equal(store.getRef('env/b'), undefined);
  });
}

function collectionConforms(it: It): void {
  it('gc keeps what refs and extra roots reach through nodes and trees, and nothing else', (store) => {
    const kept = sampleGraph(store, 'kept');
    const extra = sampleGraph(store, 'extra');
    const [dropped] = ['dropped', 'too', 'as well'].map((salt) => sampleGraph(store, salt)) as [ReturnType<typeof sampleGraph>];
    store.setRef('root', { kind: 'node', digest: kept.node });
    const extraRoots: RefTarget[] = [{ kind: 'tree', digest: extra.tree }, { kind: 'tree', digest: hasher.hash(Buffer.from('never stored')) }];
    const before = store.stats().chunks;
    const dry = store.gc({ dryRun: true, extraRoots });
    assert.equal(dry.manifestsRemoved, 10);
    assert.equal(store.stats().chunks, before);
    assert.equal(store.hasNode(dropped.node), true);
    const done = store.gc({ extraRoots });
    assert.deepEqual(removed(done), { manifestsRemoved: 10, chunksRemoved: before - store.stats().chunks });
    assert.deepEqual(removed(done), removed(dry));
    assert(done.chunksRemoved >= 6, `${done.chunksRemoved} chunks`);
    assert(done.bytesFreed >= 500_000, `${done.bytesFreed} bytes freed`);
    for (const graph of [kept, extra]) {
      assert.equal(store.getTree(graph.tree).length, 3);
      assert(graph.blobs.every((digest) => store.getBlob(digest).length > 0));
    }
    assert.equal(store.hasNode(kept.node), true);
    assert.equal(store.hasNode(extra.node), false);
    assert(!store.hasNode(dropped.node) && !store.hasTree(dropped.tree) && !dropped.blobs.some((digest) => store.hasBlob(digest)));
    assert.throws(() => store.getTree(dropped.tree), { code: 'OBJECT_MISSING' });
    assert.deepEqual(store.fsck().problems, []);
    assert.deepEqual(removed(store.gc({ extraRoots })), { manifestsRemoved: 0, chunksRemoved: 0 });
    assert.deepEqual(sampleGraph(store, 'dropped'), dropped, 'what was removed can be put again');
    assert.equal(store.getTree(dropped.tree).length, 3);
  });

  it('gc spares the young, with all that they refer to', (store) => {
    const { node } = sampleGraph(store, 'young');
    store.flush();
    assert.deepEqual(removed(store.gc({ graceMs: 3_600_000 })), { manifestsRemoved: 0, chunksRemoved: 0 });
    assert.equal(store.hasNode(node), true);
    assert.equal(store.gc({ graceMs: 0 }).manifestsRemoved, 3);
  });

  it('gc keeps away from what a ref has lost a part of, until the ref is given up', (store) => {
    const lost = hasher.hash(Buffer.from('never stored'));
    const whole = sampleGraph(store, 'whole');
    const broken = store.putTree([
      { kind: 'file', name: 'kept' as ByteString, mode: 0o644, digest: store.putBlob(Buffer.from('beside what is lost')), size: 19 },
      { kind: 'file', name: 'lost' as ByteString, mode: 0o644, digest: lost as BlobDigest, size: 12 },
    ]);
    store.setRef('broken', { kind: 'tree', digest: broken });
    store.setRef('whole', { kind: 'node', digest: whole.node });
    const group = { name: 'one', roots: [], refs: ['broken'] };
    for (const options of [{}, { dryRun: true }, { extraRoots: [{ kind: 'blob', digest: lost } as const] }, { cap: { maxBytes: 1e9, groups: [group] } }, { cap: { maxBytes: 1e9, groups: [{ name: 'first', roots: [{ kind: 'blob', digest: lost } as const] }, group] } }]) {
      assert.throws(() => store.gc(options), { code: 'STORE_INCOMPLETE', details: { ref: 'broken' } });
    }
    assert.equal(store.hasTree(broken), true);
    assert.deepEqual(removed(store.gc({ dropRefs: ['broken'] })), { manifestsRemoved: 1, chunksRemoved: 1 });
    assert.deepEqual(store.listRefs().map(({ name }) => name), ['whole']);
    assert.deepEqual(store.fsck().problems, []);
  });

  it('gc gives up groups from the last to the first until the rest is within the cap, and never what others need', (store) => {
    const graphs = ['a', 'b', 'c'].map((salt) => sampleGraph(store, salt)) as [ReturnType<typeof sampleGraph>, ReturnType<typeof sampleGraph>, ReturnType<typeof sampleGraph>];
    const [a, b, c] = graphs;
    for (const [index, { node }] of graphs.entries()) store.setRef(`env/${index}`, { kind: 'node', digest: node });
    store.setRef('running', { kind: 'tree', digest: c.tree });
    const groups = [{ name: 'a', roots: [], refs: ['env/0'] }, { name: 'b', roots: [{ kind: 'tree' as const, digest: b.tree }], refs: ['env/1'] }, { name: 'c', roots: [], refs: ['env/2'] }];
    const gc = (maxBytes: number, dryRun = false) => store.gc({ cap: { maxBytes, groups }, dryRun });
    assert.deepEqual(gc(1e9).evicted, []);
    const all = store.stats().storedBytes;
    const dry = gc(all - 150_000, true);
    assert.equal(store.listRefs().length, 4);
    const done = gc(all - 150_000);
    assert.deepEqual([dry.evicted, done.evicted], [['b', 'c'], ['b', 'c']], 'c takes nothing beside what runs, and goes with b');
    assert.deepEqual(store.listRefs().map(({ name }) => name), ['env/0', 'running']);
    assert(store.hasNode(a.node) && !store.hasNode(b.node) && !store.hasTree(b.tree) && store.hasTree(c.tree));
    assert.deepEqual(gc(0).evicted.slice(0, 1), ['a']);
    assert.deepEqual(store.listRefs().map(({ name }) => name), ['running']);
    assert(c.blobs.every((digest) => store.getBlob(digest).length > 0));
    assert.deepEqual(store.fsck().problems, []);
  });

  it('gc refuses while a lease is held, and names it', (store) => {
    const lease = store.lease('building the lamp');
    const digest = store.putBlob(Buffer.from('leased'));
    assert.throws(() => store.gc({ waitMs: 0 }), { code: 'STORE_BUSY', message: /building the lamp/ });
    lease[Symbol.dispose]();
    lease[Symbol.dispose]();
    assert.equal(store.gc().chunksRemoved, 1);
    assert.equal(store.hasBlob(digest), false);
  });

  it('a pin is a root of gc until it is disposed, and gc does not wait for it', (store) => {
    const { node } = sampleGraph(store, 'pinned');
    const pin = store.pin({ kind: 'node', digest: node }, 'an environment is up');
    assert.deepEqual(removed(store.gc({ waitMs: 0 })), { manifestsRemoved: 0, chunksRemoved: 0 });
    pin[Symbol.dispose]();
    pin[Symbol.dispose]();
    assert.equal(store.gc({ waitMs: 0 }).manifestsRemoved, 3);
    assert.equal(store.stats().chunks, 0);
  });
}

function reportsConform(it: It): void {
  it('stats count each object once', (store) => {
    sampleGraph(store, 'x');
    sampleGraph(store, 'x');
    const pending = store.stats();
    store.flush();
    const { chunks, manifests, logicalBytes, uniqueBytes, packedBytes, storedBytes } = store.stats();
    assert.deepEqual({ logicalBytes, uniqueBytes }, { logicalBytes: 200_000 + 'x small'.length, uniqueBytes: 200_000 + 'x small'.length });
    assert(chunks >= 2 && manifests >= 3);
    assert.equal(pending.chunks, chunks);
    assert.equal(pending.logicalBytes, logicalBytes);
    assert(packedBytes >= 200_000 && storedBytes >= packedBytes);
  });

  it('fsck is content with a whole store and names what a ref lacks', (store) => {
    const whole = sampleGraph(store, 'whole');
    store.setRef('whole', { kind: 'node', digest: whole.node });
    const { objectsChecked, problems: none } = store.fsck();
    assert(objectsChecked >= 5);
    assert.deepEqual(none, []);
    const lost = hasher.hash(Buffer.from('lost'));
    const tree = store.putTree([{ name: 'lost' as ByteString, kind: 'file', mode: 0o644, digest: lost as BlobDigest, size: 4 }]);
    store.setRef('broken', { kind: 'tree', digest: tree });
    const { problems } = store.fsck();
    assert.deepEqual(problems.map(({ kind, digest }) => ({ kind, digest })), [{ kind: 'ref', digest: tree }]);
    assert.match(problems[0]!.problem, new RegExp(`broken.*${lost}`));
  });
}

/** Stores of one content and other settings agree on every digest, and one reads what the other wrote. `open` opens the same store each time. */
export function chunkingConformance(name: string, open: (chunking: ChunkingProfile) => Store): void {
  test(`${name}: how blobs are cut is in no digest`, () => {
    const put = (store: Store): TreeDigest => {
      const entries = [100, 5000, 100_000, 3_000_000, 12_000_000].map((size): FileEntry => ({ name: `f${size}` as ByteString, kind: 'file', mode: 0o644, digest: store.putBlob(sampleBytes(size)), size }));
      const tree = store.putTree(entries);
      store.setRef('r', { kind: 'tree', digest: tree });
      return tree;
    };
    const roots = new Set<string>();
    for (const chunking of ['fine', 'standard', 'fine'] as const) {
      using store = open(chunking);
      roots.add(put(store));
      const before = store.stats().chunks;
      put(store);
      assert.equal(store.stats().chunks, before, 'what is there is not cut again');
      for (const entry of store.getTree(put(store))) {
        assert(entry.kind === 'file' && store.getBlob(entry.digest).equals(sampleBytes(entry.size)));
        assert(store.readBlob(entry.digest, entry.size >> 1, 5000).equals(sampleBytes(entry.size).subarray(entry.size >> 1, (entry.size >> 1) + 5000)));
      }
      assert.deepEqual(store.fsck().problems, []);
    }
    assert.equal(roots.size, 1);
  });
}

/** Bytes that do not compress, other for each size. */
export function sampleBytes(size: number): Buffer {
  const bytes = Buffer.alloc(size);
  let state = size ^ 0x9e3779b9;
  for (let i = 0; i < size; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return bytes;
}

/** What a collection took away, without the bytes, which depend on how objects are stored. */
export function removed({ manifestsRemoved, chunksRemoved }: GcResult): Pick<GcResult, 'manifestsRemoved' | 'chunksRemoved'> {
  return { manifestsRemoved, chunksRemoved };
}

const TEST_NODE = 'test.node/1';
const TARGET_KINDS: RefTarget['kind'][] = ['blob', 'tree', 'node'];

export function testNode(links: RefTarget[]): Buffer {
  const encoder = new Encoder(TEST_NODE).uint(links.length);
  for (const { kind, digest } of links) encoder.uint(TARGET_KINDS.indexOf(kind)).digest(digest);
  return encoder.finish();
}

export function testNodeLinks(encoded: Uint8Array): RefTarget[] {
  const decoder = new Decoder(encoded, TEST_NODE);
  return Array.from({ length: decoder.uint() }, () => ({ kind: TARGET_KINDS[decoder.uint()]!, digest: decoder.digest() }));
}

/** A node over a tree with a subtree, a small and a large blob: five objects. */
export function sampleGraph(store: Store, salt: string): { node: NodeDigest; tree: TreeDigest; blobs: BlobDigest[] } {
  const small = fileEntry(store, 'small', `${salt} small`);
  const bytes = sampleBytes(200_000);
  // Everywhere other than with another salt: no chunk is shared.
  const key = hasher.hash(Buffer.from(salt));
  for (let i = 0; i < bytes.length; i++) bytes[i]! ^= key.charCodeAt(i % key.length);
  const large: FileEntry = { name: 'large' as ByteString, kind: 'file', mode: 0o755, digest: store.putBlob(bytes), size: bytes.length };
  const below = store.putTree([large]);
  const tree = store.putTree([small, { name: 'below' as ByteString, kind: 'dir', mode: 0o755, digest: below }, { name: 'link' as ByteString, kind: 'symlink', mode: 0o777, target: 'small' as ByteString }]);
  return { node: store.putNode(testNode([{ kind: 'tree', digest: tree }])), tree, blobs: [small.digest, large.digest] };
}

function fileEntry(store: Store, name: string, text: string): FileEntry {
  return { name: name as ByteString, kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: Buffer.byteLength(text) };
}
