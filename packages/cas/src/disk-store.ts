import { join } from 'node:path';
import { HdError, hasher } from '@hyperdocker/base';
import type { BlobDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import { Blobs, PIECE_CACHE_BYTES } from './blobs.ts';
import type { BlobWriter, FsckOptions, FsckResult, GcOptions, GcResult, NodeLinks, PutFile, Ref, RefName, RefTarget, StatsOptions, Store, StoreStats, Tree } from './contract.ts';
import { checkStore } from './disk-fsck.ts';
import { collectGarbage } from './disk-gc.ts';
import { recoverIndex } from './disk-recover.ts';
import { storeStats } from './disk-stats.ts';
import { objectMissing } from './errors.ts';
import { Chunker, PROFILES } from './fastcdc.ts';
import type { ChunkingProfile } from './fastcdc.ts';
import { Lru } from './lru.ts';
import type { IndexRow, Location, ObjectIndex } from './object-index.ts';
import { OwnPacks } from './own-packs.ts';
import { PackReader } from './pack-reader.ts';
import { PackedObjects } from './packed-objects.ts';
import { PromotedFiles } from './promoted-files.ts';
import { linksOf, markReachable } from './reach.ts';
import type { ObjectKind, Reachable } from './reach.ts';
import type { RefStore } from './ref-store.ts';
import { openIndex, openRefs, prepareDirectory, removeIndex, setFormat } from './store-directory.ts';
import { decodeTree, encodeTree } from './tree-codec.ts';

/** Weighed in entries. */
const TREE_CACHE_ENTRIES = 300_000;

export interface OpenOptions {
  /** Needed for `gc` and `fsck` of a store that holds nodes. */
  nodeLinks?: NodeLinks;
  /** Writes nothing at all; for stores on read-only media too. Puts and refs fail with STORE_WRITE. */
  readOnly?: boolean;
  /** How new large blobs are cut. Default `standard`. What is there stays as it is, and no digest depends on it. */
  chunking?: ChunkingProfile;
  /**
   * When a moved ref is on the disk. `strict`: when `setRef` returns. `batch`, the default: a power cut may undo the last moves, never half of one. Objects are on the disk
   * when `flush` returns in both.
   */
  durability?: 'batch' | 'strict';
  /** How much of what blobs are read in parts from is kept in memory. Default 64 MiB. */
  cacheBytes?: number;
  /** How many entries of directories are kept in memory. Default 300,000. */
  cacheEntries?: number;
}

/**
 * Opens the store in `dir`, making it where there is none. What a crash left half done is put right; a missing index is made again; a store of format 1 becomes one of
 * format 2 where it is, unless it is opened for reading only.
 * @throws HdError STORE_VERSION, STORE_FORMAT, STORE_WRITE, STORE_BUSY
 */
export function openStore(dir: string, options: OpenOptions = {}): Store {
  return new DiskStore(dir, options);
}

/**
 * Makes the index of a closed or open store again from its packs and loose files.
 * @throws HdError STORE_BUSY while gc runs, STORE_WRITE
 */
export function rebuildIndex(dir: string, options: { nodeLinks?: NodeLinks } = {}): { objects: number } {
  const store = new DiskStore(dir, options);
  try {
    return store.rebuild();
  } finally {
    store[Symbol.dispose]();
  }
}

/** Lays `contract.ts` over packs, files, the index and the refs. docs/format/cas.md describes the directory. */
class DiskStore implements Store {
  readonly #dir: string;
  readonly #packsDir: string;
  readonly #readOnly: boolean;
  readonly #nodeLinks: NodeLinks | undefined;
  #index: ObjectIndex;
  readonly #refs: RefStore;
  readonly #ownPacks: OwnPacks;
  readonly #packReader: PackReader;
  #objects: PackedObjects;
  readonly #files: PromotedFiles;
  readonly #chunking: ChunkingProfile;
  readonly #cacheBytes: number;
  #blobs: Blobs;
  readonly #trees: Lru<string, Tree>;
  /** From the first put to the flush, or the ref, that ends the batch: what was there already must not go meanwhile. */
  #batchLease: Disposable | undefined;
  #open = true;

  constructor(dir: string, { nodeLinks, readOnly = false, chunking = 'standard', durability = 'batch', cacheBytes = PIECE_CACHE_BYTES, cacheEntries = TREE_CACHE_ENTRIES }: OpenOptions) {
    this.#dir = dir;
    this.#packsDir = join(dir, 'packs');
    this.#readOnly = readOnly;
    this.#nodeLinks = nodeLinks;
    this.#chunking = chunking;
    this.#cacheBytes = cacheBytes;
    this.#trees = new Lru(cacheEntries);
    const format = prepareDirectory(dir, readOnly);
    this.#refs = openRefs(dir, { readOnly, strict: durability === 'strict' });
    let index: ObjectIndex | undefined;
    try {
      this.#ownPacks = new OwnPacks(this.#packsDir, (pack) => this.#refs.holdPack(pack));
      this.#packReader = new PackReader(this.#packsDir);
      this.#files = new PromotedFiles(dir);
      ({ index: this.#index, objects: this.#objects, blobs: this.#blobs } = this.#openObjects());
      index = this.#index;
      if (!readOnly) {
        this.#refs.forgetDead();
        this.#files.removeAbandoned();
      }
      if (!readOnly || !index.isComplete) this.#recover({ filesArePrimary: format === 1 });
      if (!readOnly) setFormat(dir, format);
    } catch (error) {
      index?.close();
      this.#refs.close();
      throw error;
    }
  }

  putBlob(bytes: Uint8Array): BlobDigest {
    return this.#blobs.put(bytes);
  }

  putFile(path: string | Buffer): PutFile {
    return this.#blobs.putFile(path);
  }

  blobWriter(): BlobWriter {
    this.#assertWritable();
    return this.#blobs.writer();
  }

  hasBlob(digest: BlobDigest): boolean {
    return this.#blobs.has(digest);
  }

  blobSize(digest: BlobDigest): number {
    return this.#blobs.size(digest);
  }

  getBlob(digest: BlobDigest): Buffer {
    return this.#blobs.get(digest);
  }

  readBlob(digest: BlobDigest, offset: number, length: number): Buffer {
    return this.#blobs.read(digest, offset, length);
  }

  lendBlob(digest: BlobDigest, offset: number, length: number): Buffer {
    return this.#blobs.lend(digest, offset, length);
  }

  streamBlob(digest: BlobDigest): Iterable<Buffer> {
    return this.#blobs.stream(digest);
  }

  blobFile(digest: BlobDigest): string | undefined {
    return this.#blobs.file(digest);
  }

  putTree(entries: Tree): TreeDigest {
    const encoded = encodeTree(entries);
    return this.#put('tree', hasher.hash(encoded), encoded) as TreeDigest;
  }

  hasTree(digest: TreeDigest): boolean {
    return this.#objects.locate('tree', digest) !== undefined;
  }

  getTree(digest: TreeDigest): Tree {
    let tree = this.#trees.get(digest);
    if (tree === undefined) {
      tree = decodeTree(this.#readVerified('tree', digest));
      this.#trees.set(digest, tree, tree.length + 1);
    }
    return tree;
  }

  putNode(encoded: Uint8Array): NodeDigest {
    return this.#put('node', hasher.hash(encoded), encoded) as NodeDigest;
  }

  hasNode(digest: NodeDigest): boolean {
    return this.#objects.locate('node', digest) !== undefined;
  }

  getNode(digest: NodeDigest): Buffer {
    return this.#readVerified('node', digest);
  }

  flush(): void {
    this.#flushObjects();
    this.#endBatch();
  }

  clearCaches(): void {
    this.#trees.clear();
    this.#blobs.clearCaches();
  }

  getRef(name: RefName): Ref | undefined {
    return this.#refs.get(name);
  }

  setRef(name: RefName, target: RefTarget, expected?: RefTarget | null): boolean {
    this.#assertWritable();
    this.#flushObjects();
    const moved = this.#refs.set(name, target, expected, () => this.#assertPresent(target));
    this.#endBatch();
    return moved;
  }

  deleteRef(name: RefName): boolean {
    this.#assertWritable();
    return this.#refs.delete(name);
  }

  listRefs(prefix = ''): { name: RefName; ref: Ref }[] {
    return this.#refs.list(prefix);
  }

  reflog(name: RefName): Ref[] {
    return this.#refs.reflog(name);
  }

  lease(why: string): Disposable {
    this.#assertWritable();
    return this.#refs.takeLease(why);
  }

  pin(target: RefTarget, why: string): Disposable {
    this.#assertWritable();
    return this.#refs.takePin(target, why, () => this.#assertPresent(target));
  }

  gc(options: GcOptions = {}): GcResult {
    if (options.dryRun !== true) this.#assertWritable();
    if (!this.#readOnly) {
      this.flush();
      this.#ownPacks.closeAll();
    }
    using _lock = this.#readOnly ? undefined : this.#refs.startGc(options.waitMs);
    const result = collectGarbage(
      {
        dir: this.#dir,
        packsDir: this.#packsDir,
        index: this.#index,
        refs: this.#refs,
        files: this.#files,
        mark: (roots, marked, onMark) => markReachable(this.#reachable, roots, this.#nodeLinks, marked, onMark).missing,
        copyRecords: (rows) => this.#objects.copyRecords(rows),
        closePacks: () => this.#ownPacks.closeAll(),
        forgetPack: (pack) => this.#packReader.forget(pack),
      },
      options,
    );
    this.clearCaches();
    return result;
  }

  stats(options: StatsOptions = {}): StoreStats {
    if (!this.#readOnly) this.#flushObjects();
    return storeStats(
      {
        dir: this.#dir,
        index: this.#index,
        refs: this.#refs,
        files: this.#files,
        reachable: this.#reachable,
        nodeLinks: this.#nodeLinks,
        stream: (digest) => this.#blobs.stream(digest),
        chunking: this.#chunking,
      },
      options,
    );
  }

  fsck(options: FsckOptions = {}): FsckResult {
    if (options.repair === true) this.#assertWritable();
    if (!this.#readOnly) this.flush();
    // A repair moves objects, as a collection does.
    if (options.repair === true) this.#ownPacks.closeAll();
    using _hold = this.#readOnly ? undefined : options.repair === true ? this.#refs.startGc() : this.#refs.takeLease('fsck');
    const indexDamage = this.#index.damage();
    if (indexDamage !== undefined && options.repair === true) this.#remakeIndex();
    const result = checkStore(
      {
        packsDir: this.#packsDir,
        index: this.#index,
        refs: this.#refs,
        files: this.#files,
        reachable: this.#reachable,
        nodeLinks: this.#nodeLinks,
        verify: (row) => this.#verify(row),
        readRecipe: ({ digest, location }) => this.#objects.readRecipe(digest, location),
        putFile: (path) => this.putFile(path),
        putBlob: (bytes) => this.putBlob(bytes),
        settle: () => {
          this.flush();
          this.#ownPacks.closeAll();
        },
        copyRecords: (rows) => this.#objects.copyRecords(rows),
        forgetPack: (pack) => this.#packReader.forget(pack),
        dropCaches: () => this.clearCaches(),
        indexDamage,
      },
      options,
    );
    this.clearCaches();
    return result;
  }

  /** Flushes and closes. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    // Backwards; each is closed even where an earlier one cannot write any more.
    using closing = new DisposableStack();
    closing.defer(() => this.#refs.close());
    closing.defer(() => this.#index.close());
    closing.defer(() => this.#packReader.close());
    closing.defer(() => this.#ownPacks.closeAll());
    closing.defer(() => this.#endBatch());
    if (!this.#readOnly) this.flush();
  }

  rebuild(): { objects: number } {
    using _lease = this.#refs.takeLease('rebuild of the index');
    if (this.#index.damage() !== undefined) this.#remakeIndex();
    else {
      this.#index.update((edit) => edit.clear());
      this.#recover({ filesArePrimary: false });
    }
    const { blobs, recipes, others } = this.#index.totals();
    return { objects: blobs + recipes + others };
  }

  #verify(row: IndexRow): void {
    const { kind, digest, location } = row;
    if (kind === 'blob' || kind === 'recipe') this.#blobs.verify({ kind, digest, location });
    else if (kind === 'tree') decodeTree(this.#objects.readAt(kind, digest, location));
    else this.#objects.readAt(kind, digest, location);
  }

  readonly #reachable: Reachable = {
    chunks: (digest) => this.#blobs.chunks(digest),
    tree: (digest) => (this.#objects.locate('tree', digest) === undefined ? undefined : this.getTree(digest as TreeDigest)),
    node: (digest) => (this.#objects.locate('node', digest) === undefined ? undefined : this.#readVerified('node', digest)),
  };

  /** What reads the index. */
  #openObjects(): { index: ObjectIndex; objects: PackedObjects; blobs: Blobs } {
    const index = openIndex(this.#dir, this.#readOnly);
    const objects = new PackedObjects(index, this.#ownPacks, this.#packReader);
    const profile = PROFILES[this.#chunking];
    const blobs = new Blobs({
      objects,
      files: this.#files,
      cutting: { profile, chunker: new Chunker(profile) },
      readOnly: this.#readOnly,
      cacheBytes: this.#cacheBytes,
      beginBatch: () => this.#beginBatch(),
      assertWritable: () => this.#assertWritable(),
      lease: (why) => this.lease(why),
    });
    return { index, objects, blobs };
  }

  /** In place of a file that SQLite cannot read any more. Nothing is pending. */
  #remakeIndex(): void {
    this.#index.close();
    removeIndex(this.#dir);
    ({ index: this.#index, objects: this.#objects, blobs: this.#blobs } = this.#openObjects());
    this.#recover({ filesArePrimary: false });
  }

  #beginBatch(): void {
    if (!this.#readOnly) this.#batchLease ??= this.#refs.takeLease('writes that are not flushed');
  }

  #endBatch(): void {
    this.#batchLease?.[Symbol.dispose]();
    this.#batchLease = undefined;
  }

  #flushObjects(): void {
    this.#objects.flush((change) => this.#index.update(change));
  }

  #put(kind: 'tree' | 'node', digest: string, bytes: Uint8Array): string {
    this.#beginBatch();
    if (this.#objects.isDamaged(kind, digest) || !this.#objects.hasRecord(kind, digest)) {
      this.#assertWritable();
      this.#objects.append(kind, digest, bytes);
    }
    return digest;
  }

  #recover({ filesArePrimary }: { filesArePrimary: boolean }): void {
    recoverIndex({
      packsDir: this.#packsDir,
      index: this.#index,
      files: this.#files,
      filesArePrimary,
      readOnly: this.#readOnly,
      heldPacks: () => this.#refs.heldPacks(),
      lease: () => (this.#readOnly ? undefined : this.#refs.takeLease('recovery of the index')),
      hasLinks: (row) => this.#hasLinks(row),
    });
  }

  /** Does the store hold all that an object refers to directly? Nodes of unknown kinds pass. */
  #hasLinks({ kind, digest, location }: IndexRow): boolean {
    if (kind === 'node' && this.#nodeLinks === undefined) return true;
    try {
      if (kind === 'recipe') return [...this.#objects.readRecipe(digest, location).chunks()].every((chunk) => this.#objects.locate('blob', chunk.digest)?.rawBytes === chunk.sizeBytes);
      return linksOf(this.#reachable, { kind, digest }, this.#nodeLinks)?.every((target) => this.#isPresent(target.kind, target.digest)) === true;
    } catch (error) {
      if (error instanceof HdError) return false;
      throw error;
    }
  }

  #isPresent(kind: ObjectKind, digest: string): boolean {
    return kind === 'blob' ? this.#blobs.has(digest) : this.#objects.locate(kind, digest) !== undefined;
  }

  #assertPresent({ kind, digest }: RefTarget): void {
    if (!this.#isPresent(kind, digest)) throw objectMissing(kind, digest);
  }

  #readVerified(kind: 'tree' | 'node', digest: string): Buffer {
    const location: Location | undefined = this.#objects.locate(kind, digest);
    if (location === undefined) throw objectMissing(kind, digest);
    return this.#objects.read(kind, digest, location);
  }

  #assertWritable(): void {
    if (this.#readOnly) throw new HdError('STORE_WRITE', `the store ${this.#dir} is open for reading only`, { hint: 'open it for writing' });
  }
}
