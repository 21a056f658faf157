import { hasher } from '@hyperdocker/base';
import type { BlobDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { BlobWriter, FsckResult, GcOptions, GcResult, NodeLinks, PutFile, Ref, RefName, RefTarget, Store, StoreStats, Tree } from './contract.ts';
import { objectMissing, storeBusy } from './errors.ts';
import { readWhole } from './files.ts';
import { markKept } from './gc-roots.ts';
import { markReachable, objectKey } from './reach.ts';
import type { ObjectKey, ObjectKind, Reachable } from './reach.ts';
import { decodeTree, encodeTree } from './tree-codec.ts';

/** What `streamBlob` gives out at once. */
const PART_BYTES = 1 << 20;

interface StoredObject {
  kind: ObjectKind;
  digest: string;
  bytes: Buffer;
  /** Of a tree, from the first `getTree` on. */
  tree?: Tree;
  putAtMs: number;
}

/** A store in this process's memory, for tests and for dry runs. Keeps the whole contract but durability. */
export function openMemoryStore(options: { nodeLinks?: NodeLinks } = {}): Store {
  return new MemoryStore(options.nodeLinks);
}

class MemoryStore implements Store {
  readonly #objects = new Map<ObjectKey, StoredObject>();
  readonly #refs = new Map<RefName, Ref>();
  readonly #reflogs = new Map<RefName, Ref[]>();
  readonly #leases = new Set<{ why: string }>();
  readonly #pins = new Set<RefTarget>();
  readonly #nodeLinks: NodeLinks | undefined;

  constructor(nodeLinks: NodeLinks | undefined) {
    this.#nodeLinks = nodeLinks;
  }

  putBlob(bytes: Uint8Array): BlobDigest {
    return this.#put('blob', bytes) as BlobDigest;
  }

  putFile(path: string | Buffer): PutFile {
    const bytes = readWhole(path);
    return { digest: this.putBlob(bytes), size: bytes.length };
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

  hasBlob(digest: BlobDigest): boolean {
    return this.#objects.has(objectKey('blob', digest));
  }

  blobSize(digest: BlobDigest): number {
    return this.#get('blob', digest).bytes.length;
  }

  getBlob(digest: BlobDigest): Buffer {
    return Buffer.from(this.#get('blob', digest).bytes);
  }

  readBlob(digest: BlobDigest, offset: number, length: number): Buffer {
    return Buffer.from(this.#get('blob', digest).bytes.subarray(offset, offset + length));
  }

  lendBlob(digest: BlobDigest, offset: number, length: number): Buffer {
    return this.readBlob(digest, offset, length);
  }

  *streamBlob(digest: BlobDigest): Iterable<Buffer> {
    const { bytes } = this.#get('blob', digest);
    for (let offset = 0; offset < bytes.length; offset += PART_BYTES) yield Buffer.from(bytes.subarray(offset, offset + PART_BYTES));
  }

  blobFile(): string | undefined {
    return undefined;
  }

  putTree(entries: Tree): TreeDigest {
    return this.#put('tree', encodeTree(entries)) as TreeDigest;
  }

  hasTree(digest: TreeDigest): boolean {
    return this.#objects.has(objectKey('tree', digest));
  }

  getTree(digest: TreeDigest): Tree {
    const object = this.#get('tree', digest);
    return (object.tree ??= decodeTree(object.bytes));
  }

  putNode(encoded: Uint8Array): NodeDigest {
    return this.#put('node', encoded) as NodeDigest;
  }

  hasNode(digest: NodeDigest): boolean {
    return this.#objects.has(objectKey('node', digest));
  }

  getNode(digest: NodeDigest): Buffer {
    return Buffer.from(this.#get('node', digest).bytes);
  }

  flush(): void {}

  clearCaches(): void {}

  getRef(name: RefName): Ref | undefined {
    return this.#refs.get(name);
  }

  setRef(name: RefName, target: RefTarget, expected?: RefTarget | null): boolean {
    this.#get(target.kind, target.digest);
    const present = this.#refs.get(name)?.target;
    if (expected === null && present !== undefined) return false;
    if (expected && (present?.kind !== expected.kind || present.digest !== expected.digest)) return false;
    const ref: Ref = { target: { kind: target.kind, digest: target.digest }, atMs: Date.now() };
    this.#refs.set(name, ref);
    this.#reflogs.set(name, [ref, ...(this.#reflogs.get(name) ?? [])]);
    return true;
  }

  deleteRef(name: RefName): boolean {
    return this.#refs.delete(name);
  }

  listRefs(prefix = ''): { name: RefName; ref: Ref }[] {
    const names = [...this.#refs.keys()].filter((name) => name.startsWith(prefix)).sort();
    return names.map((name) => ({ name, ref: this.#refs.get(name)! }));
  }

  reflog(name: RefName): Ref[] {
    return [...(this.#reflogs.get(name) ?? [])];
  }

  lease(why: string): Disposable {
    const lease = { why };
    this.#leases.add(lease);
    return { [Symbol.dispose]: () => void this.#leases.delete(lease) };
  }

  pin(target: RefTarget): Disposable {
    const pin = { ...target };
    this.#pins.add(pin);
    return { [Symbol.dispose]: () => void this.#pins.delete(pin) };
  }

  gc(options: GcOptions = {}): GcResult {
    for (const { why } of this.#leases) throw storeBusy(`${why} (this process)`);
    const youngerThanMs = Date.now() - (options.graceMs ?? 0);
    const marked = new Set<ObjectKey>();
    const sizeOf = (key: ObjectKey): number => this.#objects.get(key)?.bytes.length ?? 0;
    const evicted = markKept(
      {
        mark: (roots, into, onMark) => markReachable(this.#reachable, roots, this.#nodeLinks, into, onMark).missing,
        pins: [...this.#pins].map((target) => ({ name: 'a pin', target })),
        refs: this.listRefs(),
        others: () => [...(options.extraRoots ?? []), ...[...this.#objects.values()].filter(({ putAtMs }) => putAtMs > youngerThanMs)],
        sizeOf,
        usedBytes: () => [...marked].reduce((sum, key) => sum + sizeOf(key), 0),
      },
      options,
      marked,
    );
    if (options.dryRun !== true) for (const name of [...(options.dropRefs ?? []), ...evicted.flatMap(({ refs = [] }) => refs)]) this.#refs.delete(name);
    const result: GcResult = { manifestsRemoved: 0, chunksRemoved: 0, bytesFreed: 0, demoted: 0, evicted: evicted.map(({ name }) => name), storedBytes: 0 };
    for (const [key, { kind, bytes }] of this.#objects) {
      if (marked.has(key)) {
        result.storedBytes += bytes.length;
        continue;
      }
      if (kind === 'blob') result.chunksRemoved++;
      else result.manifestsRemoved++;
      result.bytesFreed += bytes.length;
      if (options.dryRun !== true) this.#objects.delete(key);
    }
    return result;
  }

  stats(): StoreStats {
    const stats: StoreStats = { chunks: 0, manifests: 0, logicalBytes: 0, uniqueBytes: 0, packedBytes: 0, storedBytes: 0, packs: 0, looseFiles: 0, looseBytes: 0, damaged: false };
    for (const { kind, bytes } of this.#objects.values()) {
      stats.storedBytes += bytes.length;
      if (kind === 'blob') {
        stats.chunks++;
        stats.logicalBytes += bytes.length;
      } else stats.manifests++;
    }
    stats.uniqueBytes = stats.packedBytes = stats.logicalBytes;
    return stats;
  }

  fsck(): FsckResult {
    const problems: FsckResult['problems'] = [];
    for (const { kind, digest, bytes } of this.#objects.values()) {
      if (hasher.hash(bytes) !== digest) problems.push({ kind, digest, problem: 'its bytes have another digest', names: [], repaired: false });
    }
    for (const [name, { target }] of this.#refs) {
      const { missing } = markReachable(this.#reachable, [target], this.#nodeLinks, new Set());
      for (const lost of missing) {
        problems.push({ kind: 'ref', digest: target.digest, problem: `ref ${name}: ${lost.kind} ${lost.digest} is missing`, names: [{ ref: name, path: '' }], repaired: false });
      }
    }
    return { objectsChecked: this.#objects.size, problems };
  }

  [Symbol.dispose](): void {}

  readonly #reachable: Reachable = {
    chunks: (digest) => (this.#objects.has(objectKey('blob', digest)) ? [] : undefined),
    tree: (digest) => (this.#objects.has(objectKey('tree', digest)) ? this.getTree(digest as TreeDigest) : undefined),
    node: (digest) => this.#objects.get(objectKey('node', digest))?.bytes,
  };

  #put(kind: ObjectKind, bytes: Uint8Array): string {
    const digest = hasher.hash(bytes);
    const key = objectKey(kind, digest);
    if (!this.#objects.has(key)) this.#objects.set(key, { kind, digest, bytes: Buffer.from(bytes), putAtMs: Date.now() });
    return digest;
  }

  #get(kind: ObjectKind, digest: string): StoredObject {
    const object = this.#objects.get(objectKey(kind, digest));
    if (object === undefined) throw objectMissing(kind, digest);
    return object;
  }
}
