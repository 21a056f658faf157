import type { BlobDigest, ByteString, NodeDigest, TreeDigest } from '@hyperdocker/base';

/**
 * The nouns of the store. Everything here is immutable and named by the digest of its bytes, except refs.
 *
 * Identity: a blob's digest is that of its raw bytes; a tree's that of its canonical encoding (tree-codec.ts). How objects are
 * packed, chunked or compressed is in no digest.
 */
export type EntryKind = 'file' | 'dir' | 'symlink' | 'char' | 'block' | 'fifo' | 'socket' | 'whiteout';

/** What images and step outputs keep of an entry and project sources do not: an umask or a checkout time must change no root. */
export interface Meta {
  uid: number;
  gid: number;
  /** Nanoseconds since the epoch. */
  mtimeNs: bigint;
  /** Sorted by name; no `trusted.overlay.*`. */
  xattrs: readonly (readonly [name: ByteString, value: Uint8Array])[];
  /** Entries of one image with the same number above 0 are one inode with `links` names. 0: not linked. */
  linkGroup: number;
  links: number;
}

interface EntryBase {
  name: ByteString;
  /** Permission bits, 0o0000-0o7777. Sources: 0o644 or 0o755. */
  mode: number;
  /** Absent for project sources: owner 0:0, no xattrs, and a time from elsewhere. */
  meta?: Meta;
}
export interface FileEntry extends EntryBase { kind: 'file'; digest: BlobDigest; size: number }
/** `opaque`: in a delta, hides what lies below. Never in a whole tree. */
export interface DirEntry extends EntryBase { kind: 'dir'; digest: TreeDigest; opaque?: boolean }
export interface SymlinkEntry extends EntryBase { kind: 'symlink'; target: ByteString }
export interface DeviceEntry extends EntryBase { kind: 'char' | 'block'; major: number; minor: number }
export interface SpecialEntry extends EntryBase { kind: 'fifo' | 'socket' }
/** In a delta: the name is removed. Never in a whole tree. */
export interface WhiteoutEntry extends EntryBase { kind: 'whiteout' }
export type TreeEntry = FileEntry | DirEntry | SymlinkEntry | DeviceEntry | SpecialEntry | WhiteoutEntry;

/** A directory: entries sorted by the bytes of their names, each name once, none empty, `.`, `..`, or with `/` or NUL. */
export type Tree = readonly TreeEntry[];

export type RefName = string;

/**
 * A content-addressed store. All calls are synchronous: the callers are worker threads and command-line programs, and
 * per-item promises cost more than the system calls. Any number of processes may have one store open.
 *
 * Objects written become visible to other processes, and durable, at `flush`. `setRef` flushes first: the referent is
 * always on disk before the reference.
 */
export interface Store extends Disposable {
  putBlob(bytes: Uint8Array): BlobDigest;
  /** Reads the file in bounded memory. @throws HdError FILE_CHANGED if its size changes under the read. */
  putFile(path: string | Buffer): { digest: BlobDigest; size: number };
  hasBlob(digest: BlobDigest): boolean;
  blobSize(digest: BlobDigest): number;
  /** The whole blob, verified. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  getBlob(digest: BlobDigest): Buffer;
  /** Up to `length` bytes at `offset`; shorter only at the end of the blob. */
  readBlob(digest: BlobDigest, offset: number, length: number): Buffer;
  /** A read-only host file with exactly these bytes, where the store keeps the blob as one (large blobs), else undefined. */
  blobFile(digest: BlobDigest): string | undefined;

  /** Sorts; asserts the rules of `Tree`. */
  putTree(entries: Tree): TreeDigest;
  hasTree(digest: TreeDigest): boolean;
  /** Cached; treat as frozen. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  getTree(digest: TreeDigest): Tree;

  /** Encoded graph nodes. What they refer to is told by `links` given to `open`, so that the store need not know kinds. */
  putNode(encoded: Uint8Array): NodeDigest;
  hasNode(digest: NodeDigest): boolean;
  getNode(digest: NodeDigest): Buffer;

  /** Makes all objects put so far durable and visible to other processes. */
  flush(): void;

  getRef(name: RefName): Ref | undefined;
  /** `expected`: undefined = whatever it is; null = must not exist; else must be that target. false = it was not so. */
  setRef(name: RefName, target: RefTarget, expected?: RefTarget | null): boolean;
  deleteRef(name: RefName): boolean;
  listRefs(prefix?: string): { name: RefName; ref: Ref }[];
  /** Newest first. */
  reflog(name: RefName): Ref[];

  /** This process's writes between here and dispose are safe from `gc` in any process. */
  lease(why: string): Disposable;
  gc(options?: GcOptions): GcResult;
  stats(): StoreStats;
  fsck(): FsckResult;
}

/** One digest with its kind; the roots of GC. */
export interface RefTarget { kind: 'blob' | 'tree' | 'node'; digest: string }
export interface Ref { target: RefTarget; /** Milliseconds since the epoch. */ atMs: number }

export interface GcOptions {
  dryRun?: boolean;
  /** Unreferenced objects younger than this stay. Default 0: leases protect running writers. */
  graceMs?: number;
  /** Further roots, for example the results in the action cache. */
  extraRoots?: Iterable<RefTarget>;
}
export interface GcResult {
  /** Unreferenced trees and nodes removed. The seed's "Manifests". */
  manifestsRemoved: number;
  /** Unreferenced pieces of blobs removed. */
  chunksRemoved: number;
  bytesFreed: number;
}
export interface StoreStats {
  /** Stored pieces of blobs. Until blobs are chunked, one a blob. */
  chunks: number;
  /** Trees and nodes. */
  manifests: number;
  /** Bytes of all blobs, uncompressed, each once. */
  logicalBytes: number;
  /** What the store takes on disk. */
  storedBytes: number;
  packs: number;
  looseFiles: number;
}
export interface FsckResult {
  objectsChecked: number;
  problems: { kind: 'blob' | 'tree' | 'node' | 'ref'; digest: string; problem: string }[];
}

/** What a node refers to, for marking. Given by the layer that knows the kinds of nodes. */
export type NodeLinks = (encoded: Uint8Array) => RefTarget[];
