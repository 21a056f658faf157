import { closeSync, fstatSync, openSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { HdError, assert, hasher, isErrno } from '@hyperdocker/base';
import type { BlobDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { BlobWriter, FsckOptions, FsckResult, GcOptions, GcResult, NodeLinks, Ref, RefName, RefTarget, Store, StoreStats, Tree } from './contract.ts';
import { checkStore } from './disk-fsck.ts';
import { collectGarbage } from './disk-gc.ts';
import { recoverIndex } from './disk-recover.ts';
import { storeStats } from './disk-stats.ts';
import { objectCorrupt, objectMissing, sqliteCode, storeWrite } from './errors.ts';
import { readAt, readStable, syncPath, withFile } from './files.ts';
import { LooseFiles } from './loose-files.ts';
import { Lru } from './lru.ts';
import { locationOf } from './object-index.ts';
import type { IndexRow, Location, ObjectIndex } from './object-index.ts';
import { RECORD_HEADER_BYTES, decodePayload, decodeRecordHeader, encodeRecord } from './pack-format.ts';
import { PackWriter } from './pack-writer.ts';
import { linksOf, markReachable, objectKey } from './reach.ts';
import type { ObjectKey, ObjectKind, Reachable } from './reach.ts';
import type { RefStore } from './ref-store.ts';
import { openIndex, openRefs, prepareDirectory } from './store-directory.ts';
import { decodeTree, encodeTree } from './tree-codec.ts';

/** Blobs of this size and above are files of their own. */
export const LOOSE_BYTES = 64 << 10;
/** A pack that has grown beyond this is closed at the next flush or record. */
const MAX_PACK_BYTES = 64 << 20;
const BLOB_CACHE_BYTES = 32 << 20;
/** Weighed in entries. */
const TREE_CACHE_ENTRIES = 300_000;
const MAX_OPEN_PACKS = 64;

export interface OpenOptions {
  /** Needed for `gc` and `fsck` of a store that holds nodes. */
  nodeLinks?: NodeLinks;
  /** Writes nothing at all; for stores on read-only media too. Puts and refs fail with STORE_WRITE. */
  readOnly?: boolean;
}

/**
 * Opens the store in `dir`, making it where there is none. What a crash left half done is put right; a missing index is made again.
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

interface OwnPack {
  writer: PackWriter;
  /** Keeps collections of other processes off it. */
  hold: Disposable;
  isNew: boolean;
}

/** Lays `contract.ts` over packs, loose files, the index and the refs. docs/format/cas.md describes the directory. */
class DiskStore implements Store {
  readonly #dir: string;
  readonly #packsDir: string;
  readonly #readOnly: boolean;
  readonly #nodeLinks: NodeLinks | undefined;
  readonly #index: ObjectIndex;
  readonly #refs: RefStore;
  readonly #loose: LooseFiles;
  /** Appended to since the last flush, or still open for more; the last is the current one. */
  #ownPacks: OwnPack[] = [];
  /** In own packs, not in the index yet. */
  readonly #pending = new Map<ObjectKey, IndexRow>();
  readonly #packFds = new Map<string, number>();
  readonly #blobs = new Lru<string, Buffer>(BLOB_CACHE_BYTES);
  readonly #trees = new Lru<string, Tree>(TREE_CACHE_ENTRIES);
  /** From the first put to the flush, or the ref, that ends the batch: what was there already must not go meanwhile. */
  #batchLease: Disposable | undefined;
  #open = true;

  constructor(dir: string, { nodeLinks, readOnly = false }: OpenOptions) {
    this.#dir = dir;
    this.#packsDir = join(dir, 'packs');
    this.#readOnly = readOnly;
    this.#nodeLinks = nodeLinks;
    this.#loose = new LooseFiles(dir);
    prepareDirectory(dir, readOnly);
    this.#refs = openRefs(dir, readOnly);
    let opened: ReturnType<typeof openIndex> | undefined;
    try {
      opened = openIndex(dir, readOnly);
      this.#index = opened.index;
      if (!readOnly) {
        this.#refs.forgetDead();
        this.#loose.removeAbandoned();
      }
      if (!readOnly || opened.isNew) this.#recover(opened.isNew);
    } catch (error) {
      opened?.index.close();
      this.#refs.close();
      throw error;
    }
  }

  putBlob(bytes: Uint8Array): BlobDigest {
    this.#beginBatch();
    const digest = hasher.hash(bytes);
    if (bytes.byteLength < LOOSE_BYTES) this.#putPacked('blob', digest, bytes);
    else if (this.#locate('blob', digest) === undefined) {
      this.#assertWritable();
      this.#loose.put(digest, bytes);
    }
    return digest as BlobDigest;
  }

  putFile(path: string | Buffer): { digest: BlobDigest; size: number } {
    return withFile(path, (fd) => {
      const { size } = fstatSync(fd);
      if (size < LOOSE_BYTES) return { digest: this.putBlob(readStable(fd, size, path)), size };
      this.#assertWritable();
      this.#beginBatch();
      const digest = this.#loose.copyIn(fd, size, path, (known) => this.#locate('blob', known) !== undefined);
      return { digest: digest as BlobDigest, size };
    });
  }

  hasBlob(digest: BlobDigest): boolean {
    return this.#locate('blob', digest) !== undefined;
  }

  blobSize(digest: BlobDigest): number {
    return this.#find('blob', digest).rawBytes;
  }

  getBlob(digest: BlobDigest): Buffer {
    const cached = this.#blobs.get(digest);
    if (cached !== undefined) return Buffer.from(cached);
    const location = this.#find('blob', digest);
    if (location.place === 'loose') return this.#loose.read(digest, 0, location.rawBytes);
    return Buffer.from(this.#cacheBlob(digest, location));
  }

  readBlob(digest: BlobDigest, offset: number, length: number): Buffer {
    let whole = this.#blobs.get(digest);
    if (whole === undefined) {
      const location = this.#find('blob', digest);
      if (location.place === 'loose') return this.#loose.read(digest, offset, length);
      whole = this.#cacheBlob(digest, location);
    }
    return Buffer.from(whole.subarray(offset, offset + length));
  }

  blobWriter(): BlobWriter {
    const parts: Buffer[] = [];
    return {
      write: (bytes) => void parts.push(Buffer.from(bytes)),
      finish: () => {
        const bytes = Buffer.concat(parts);
        return { digest: this.putBlob(bytes), size: bytes.length };
      },
      [Symbol.dispose]: () => void parts.splice(0),
    };
  }

  *streamBlob(digest: BlobDigest): Iterable<Buffer> {
    const size = this.blobSize(digest);
    for (let offset = 0; offset < size; offset += 1 << 20) yield this.readBlob(digest, offset, 1 << 20);
  }

  blobFile(digest: BlobDigest): string | undefined {
    if (this.#find('blob', digest).place !== 'loose') return undefined;
    // A file that is still pending has no lasting name yet.
    if (this.#loose.isPending(digest)) this.#flushObjects();
    this.#loose.verify(digest);
    return this.#loose.finalPath(digest);
  }

  putTree(entries: Tree): TreeDigest {
    const encoded = encodeTree(entries);
    return this.#putPacked('tree', hasher.hash(encoded), encoded) as TreeDigest;
  }

  hasTree(digest: TreeDigest): boolean {
    return this.#locate('tree', digest) !== undefined;
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
    return this.#putPacked('node', hasher.hash(encoded), encoded) as NodeDigest;
  }

  hasNode(digest: NodeDigest): boolean {
    return this.#locate('node', digest) !== undefined;
  }

  getNode(digest: NodeDigest): Buffer {
    return Buffer.from(this.#readVerified('node', digest));
  }

  flush(): void {
    this.#flushObjects();
    this.#endBatch();
  }

  getRef(name: RefName): Ref | undefined {
    return this.#refs.get(name);
  }

  setRef(name: RefName, target: RefTarget, expected?: RefTarget | null): boolean {
    this.#assertWritable();
    this.#flushObjects();
    const moved = this.#refs.set(name, target, expected, () => void this.#find(target.kind, target.digest));
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
    return this.#refs.takePin(target, why, () => void this.#find(target.kind, target.digest));
  }

  gc(options: GcOptions = {}): GcResult {
    if (options.dryRun !== true) this.#assertWritable();
    if (!this.#readOnly) {
      this.flush();
      this.#closeOwnPacks(undefined);
    }
    using _lock = this.#readOnly ? undefined : this.#refs.startGc(options.waitMs);
    const result = collectGarbage(
      {
        dir: this.#dir,
        packsDir: this.#packsDir,
        index: this.#index,
        refs: this.#refs,
        loose: this.#loose,
        mark: (roots, marked, onMark) => void markReachable(this.#reachable, roots, this.#nodeLinks, marked, onMark),
        copyRecords: (rows) => this.#copyRecords(rows),
        forgetPack: (pack) => this.#closePackFd(pack),
      },
      options,
    );
    this.#trees.clear();
    this.#blobs.clear();
    return result;
  }

  stats(): StoreStats {
    return storeStats({ dir: this.#dir, index: this.#index, pending: this.#pending.values(), loose: this.#loose });
  }

  fsck(options: FsckOptions = {}): FsckResult {
    if (!this.#readOnly) this.#flushObjects();
    return checkStore(
      {
        index: this.#index,
        refs: this.#refs,
        verify: (row) => this.#verify(row),
        mark: (roots, marked) => markReachable(this.#reachable, roots, this.#nodeLinks, marked),
      },
      options,
    );
  }

  /** Flushes and closes. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    try {
      if (!this.#readOnly) this.flush();
    } finally {
      this.#endBatch();
      this.#closeOwnPacks(undefined);
      for (const fd of this.#packFds.values()) closeSync(fd);
      this.#packFds.clear();
      this.#index.close();
      this.#refs.close();
    }
  }

  rebuild(): { objects: number } {
    using _lease = this.#refs.takeLease('rebuild of the index');
    this.#updateIndex((edit) => edit.clear());
    this.#recover(true);
    const { blobs, others } = this.#index.totals();
    return { objects: blobs + others };
  }

  #verify({ kind, digest, location }: IndexRow): void {
    if (location.place === 'loose') this.#loose.verify(digest, { again: true });
    else if (kind === 'tree') decodeTree(this.#readRecord(kind, digest, location));
    else this.#readRecord(kind, digest, location);
  }

  readonly #reachable: Reachable = {
    pieces: (digest) => (this.#locate('blob', digest) === undefined ? undefined : []),
    tree: (digest) => this.#ifPresent('tree', digest, () => this.getTree(digest as TreeDigest)),
    node: (digest) => this.#ifPresent('node', digest, () => this.#readVerified('node', digest)),
  };

  #beginBatch(): void {
    if (!this.#readOnly) this.#batchLease ??= this.#refs.takeLease('writes that are not flushed');
  }

  #endBatch(): void {
    this.#batchLease?.[Symbol.dispose]();
    this.#batchLease = undefined;
  }

  #flushObjects(): void {
    const loose = this.#loose.pendingSizes;
    if (this.#pending.size === 0 && loose.size === 0) return;
    for (const { writer } of this.#ownPacks) writer.sync();
    this.#syncNewPacks();
    this.#loose.publish();
    this.#updateIndex((edit) => {
      for (const row of this.#pending.values()) edit.add(row);
      for (const { writer } of this.#ownPacks) edit.setScanned(writer.id, writer.lengthBytes);
      for (const [digest, rawBytes] of loose) edit.add({ kind: 'blob', digest, location: { place: 'loose', rawBytes } });
    });
    this.#pending.clear();
    this.#loose.settle();
    const current = this.#ownPacks.at(-1);
    this.#closeOwnPacks(current !== undefined && current.writer.lengthBytes < MAX_PACK_BYTES ? current : undefined);
  }

  #ifPresent<T>(kind: ObjectKind, digest: string, read: () => T): T | undefined {
    return this.#locate(kind, digest) === undefined ? undefined : read();
  }

  #putPacked(kind: ObjectKind, digest: string, bytes: Uint8Array): string {
    this.#beginBatch();
    if (this.#lookUp(kind, digest) !== undefined) return digest;
    this.#assertWritable();
    const { header, record } = encodeRecord(kind, digest, bytes);
    const { writer } = this.#currentPack();
    const offset = writer.append(record);
    this.#pending.set(objectKey(kind, digest), { kind, digest, location: locationOf(writer.id, offset, header) });
    writer.drain();
    return digest;
  }

  #currentPack(): OwnPack {
    const current = this.#ownPacks.at(-1);
    if (current !== undefined && current.writer.lengthBytes < MAX_PACK_BYTES) return current;
    const id = `${Date.now().toString(16).padStart(12, '0')}-${randomBytes(8).toString('hex')}`;
    // The hold comes first: a collection that sees the file sees the hold.
    const hold = this.#refs.holdPack(id);
    try {
      const pack = { writer: new PackWriter(this.#packsDir, id), hold, isNew: true };
      this.#ownPacks.push(pack);
      return pack;
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }

  #closeOwnPacks(keep: OwnPack | undefined): void {
    for (const pack of this.#ownPacks) {
      if (pack === keep) continue;
      pack.writer.close();
      pack.hold[Symbol.dispose]();
    }
    this.#ownPacks = keep === undefined ? [] : [keep];
  }

  #syncNewPacks(): void {
    if (!this.#ownPacks.some(({ isNew }) => isNew)) return;
    syncPath(this.#packsDir);
    for (const pack of this.#ownPacks) pack.isNew = false;
  }

  /** Copies records as they are into a new pack, for gc. The new pack is synced. @returns their new rows, with the packs' lengths */
  #copyRecords(rows: IndexRow[]): { rows: IndexRow[]; packs: Map<string, number> } {
    const copied = rows.map((row): IndexRow => {
      const { location } = row;
      assert(location.place === 'pack', 'only packs are rewritten');
      const record = this.#readPack(location.pack, location.offset, RECORD_HEADER_BYTES + location.storedBytes);
      const { writer } = this.#currentPack();
      const offset = writer.append(record);
      writer.drain();
      return { ...row, location: { ...location, pack: writer.id, offset } };
    });
    for (const { writer } of this.#ownPacks) writer.sync();
    this.#syncNewPacks();
    const packs = new Map(this.#ownPacks.map(({ writer }) => [writer.id, writer.lengthBytes]));
    return { rows: copied, packs };
  }

  #updateIndex(change: Parameters<ObjectIndex['update']>[0]): void {
    try {
      this.#index.update(change);
    } catch (error) {
      throw sqliteCode(error) === undefined ? error : storeWrite(join(this.#dir, 'index.sqlite'), error);
    }
  }

  #recover(everything: boolean): void {
    recoverIndex(
      {
        packsDir: this.#packsDir,
        index: this.#index,
        loose: this.#loose,
        heldPacks: () => this.#refs.heldPacks(),
        lease: () => (this.#readOnly ? undefined : this.#refs.takeLease('recovery of the index')),
        hasLinks: (target) => this.#hasLinks(target),
      },
      everything,
    );
  }

  /** Does the store hold all that a tree or node refers to directly? Nodes of unknown kinds pass. */
  #hasLinks(target: RefTarget): boolean {
    if (target.kind === 'node' && this.#nodeLinks === undefined) return true;
    try {
      return linksOf(this.#reachable, target, this.#nodeLinks)?.every(({ kind, digest }) => this.#locate(kind, digest) !== undefined) === true;
    } catch (error) {
      if (error instanceof HdError) return false;
      throw error;
    }
  }

  #locate(kind: ObjectKind, digest: string): Location | undefined {
    const found = this.#lookUp(kind, digest);
    if (found !== undefined || kind !== 'blob') return found;
    // A named loose file is whole, whether or not the index heard of it.
    const rawBytes = this.#loose.sizeOf(digest);
    return rawBytes === undefined ? undefined : { place: 'loose', rawBytes };
  }

  #lookUp(kind: ObjectKind, digest: string): Location | undefined {
    return this.#pending.get(objectKey(kind, digest))?.location ?? this.#index.find(kind, digest);
  }

  #find(kind: ObjectKind, digest: string): Location {
    const location = this.#locate(kind, digest);
    if (location === undefined) throw objectMissing(kind, digest);
    return location;
  }

  #cacheBlob(digest: string, location: Location): Buffer {
    const bytes = this.#readLocated('blob', digest, location);
    this.#blobs.set(digest, bytes, bytes.length + 128);
    return bytes;
  }

  #readVerified(kind: ObjectKind, digest: string): Buffer {
    return this.#readLocated(kind, digest, this.#find(kind, digest));
  }

  /** Looks once more where a collection in another process has moved the object meanwhile. */
  #readLocated(kind: ObjectKind, digest: string, location: Location): Buffer {
    try {
      return this.#readRecord(kind, digest, location);
    } catch (error) {
      if (!(error instanceof HdError) || error.code !== 'OBJECT_MISSING') throw error;
      return this.#readRecord(kind, digest, this.#find(kind, digest));
    }
  }

  /** @throws HdError OBJECT_MISSING (the pack is gone), OBJECT_CORRUPT */
  #readRecord(kind: ObjectKind, digest: string, location: Location): Buffer {
    assert(location.place === 'pack', 'large blobs are read in parts');
    const { pack, offset, storedBytes, rawBytes } = location;
    let record: Buffer;
    try {
      record = this.#readPack(pack, offset, RECORD_HEADER_BYTES + storedBytes);
    } catch (error) {
      throw isErrno(error, 'ENOENT') ? objectMissing(kind, digest) : error;
    }
    const header = decodeRecordHeader(record);
    if (header === undefined || header.kind !== kind || header.digest !== digest || header.storedBytes !== storedBytes || header.rawBytes !== rawBytes) {
      throw objectCorrupt(kind, digest, `pack ${pack}`);
    }
    let bytes: Buffer;
    try {
      bytes = decodePayload(header, record.subarray(RECORD_HEADER_BYTES));
    } catch (error) {
      throw objectCorrupt(kind, digest, `pack ${pack}`, error);
    }
    if (hasher.hash(bytes) !== digest) throw objectCorrupt(kind, digest, `pack ${pack}`);
    return bytes;
  }

  #readPack(pack: string, offset: number, length: number): Buffer {
    const own = this.#ownPacks.find(({ writer }) => writer.id === pack);
    if (own !== undefined) return own.writer.read(offset, length);
    let fd = this.#packFds.get(pack);
    if (fd === undefined) {
      fd = openSync(join(this.#packsDir, `${pack}.pack`), 'r');
      for (const [oldest] of this.#packFds) {
        if (this.#packFds.size < MAX_OPEN_PACKS) break;
        this.#closePackFd(oldest);
      }
      this.#packFds.set(pack, fd);
    }
    return readAt(fd, offset, length);
  }

  #closePackFd(pack: string): void {
    const fd = this.#packFds.get(pack);
    if (fd === undefined) return;
    closeSync(fd);
    this.#packFds.delete(pack);
  }

  #assertWritable(): void {
    if (this.#readOnly) throw new HdError('STORE_WRITE', `the store ${this.#dir} is open for reading only`, { hint: 'open it for writing' });
  }
}
