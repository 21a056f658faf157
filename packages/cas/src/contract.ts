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
  putFile(path: string | Buffer): PutFile;
  /** A blob that comes in parts, in bounded memory. Nothing is kept unless `finish` is called. */
  blobWriter(): BlobWriter;
  hasBlob(digest: BlobDigest): boolean;
  blobSize(digest: BlobDigest): number;
  /** The whole blob, verified. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  getBlob(digest: BlobDigest): Buffer;
  /** Up to `length` bytes at `offset`, verified; shorter only at the end of the blob. */
  readBlob(digest: BlobDigest, offset: number, length: number): Buffer;
  /** As `readBlob`, valid until the next read of any kind, and verified when this process first reads there: for who passes the bytes on at once, without changing them, and is not going to ask for them again. */
  lendBlob(digest: BlobDigest, offset: number, length: number): Buffer;
  /** The blob in parts of up to some MiB, each verified before it is given out, in bounded memory. */
  streamBlob(digest: BlobDigest): Iterable<Buffer>;
  /**
   * A read-only host file with exactly these bytes, verified, for what the kernel is to read by itself. Makes one where there is none (promotion) if the blob has
   * `PROMOTE_BYTES` or more; undefined for smaller blobs and for stores that have no files. GC removes it again after some time without use.
   */
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

  /** Lets go of what is kept in memory only to be quicker the next time. */
  clearCaches(): void;

  getRef(name: RefName): Ref | undefined;
  /** `expected`: undefined = whatever it is; null = must not exist; else must be that target. false = it was not so. */
  setRef(name: RefName, target: RefTarget, expected?: RefTarget | null): boolean;
  deleteRef(name: RefName): boolean;
  listRefs(prefix?: string): { name: RefName; ref: Ref }[];
  /** Newest first. */
  reflog(name: RefName): Ref[];

  /**
   * Between here and dispose, what this process puts, and what it finds to be there already, is safe from `gc` in any process. `gc` waits for leases to
   * end, and new ones wait for `gc`: hold one for as long as writing takes, never while waiting for people or for a step. For longer, `pin`.
   */
  lease(why: string): Disposable;
  /** `target` and all below it are a root of `gc` until dispose, or until this process ends. `gc` does not wait for pins. */
  pin(target: RefTarget, why: string): Disposable;
  /** Removes what no ref, pin or other root reaches. @throws HdError STORE_BUSY; STORE_INCOMPLETE where a ref or pin has lost a part: nothing is removed then */
  gc(options?: GcOptions): GcResult;
  stats(options?: StatsOptions): StoreStats;
  fsck(options?: FsckOptions): FsckResult;
}

export interface PutFile { digest: BlobDigest; size: number }

export interface BlobWriter extends Disposable {
  /** Copies what it needs: the caller may use its buffer again. */
  write(bytes: Uint8Array): void;
  finish(): PutFile;
}

/** One digest with its kind; the roots of GC. */
export interface RefTarget { kind: 'blob' | 'tree' | 'node'; digest: string }
export interface Ref { target: RefTarget; /** When it moved last. Milliseconds since the epoch. */ atMs: number }

/** Roots under one name, for shares and for size caps: an environment, an image, the results of steps. */
export interface RootGroup {
  name: string;
  roots: readonly RefTarget[];
  /** Refs that are roots of the group, and are deleted when it is given up. */
  refs?: readonly RefName[];
}

export interface GcOptions {
  dryRun?: boolean;
  /** Unreferenced objects younger than this stay. Default 0: leases protect running writers. */
  graceMs?: number;
  /** How long to wait for leases of live processes to end. Default 30 s. @throws HdError STORE_BUSY after it */
  waitMs?: number;
  /** Further roots, for example the results in the action cache. Missing ones are passed over. */
  extraRoots?: Iterable<RefTarget>;
  /** Refs that are deleted with it. */
  dropRefs?: readonly RefName[];
  /**
   * A cap. `groups` are given up from the last to the first, until what the rest, the refs, the pins and `extraRoots` reach is stored in at most `maxBytes`.
   * Other roots in `groups` must be in neither refs nor `extraRoots`, else giving them up frees nothing. Both are asked for when no lease is held any more.
   */
  cap?: { maxBytes: number; groups: Iterable<RootGroup> };
  /** Promoted copies that were not used for so long go. Default one week; 0: all of them that no process uses. */
  demoteAfterMs?: number;
}
export interface GcResult {
  /** Unreferenced trees and nodes removed. The seed's "Manifests". */
  manifestsRemoved: number;
  /** Unreferenced pieces of blobs removed. */
  chunksRemoved: number;
  /** By how much the files of the store shrank, as `du --apparent-size` counts; for a dry run, what it would be. */
  bytesFreed: number;
  /** Promoted copies removed; what they hold is still in the store. */
  demoted: number;
  /** Names of the groups that were given up for the cap. */
  evicted: string[];
  /** What the store's files take after it. */
  storedBytes: number;
}
export interface StatsOptions {
  /** Tells each group's share. Costs a walk over all that they reach. */
  groups?: readonly RootGroup[];
  /** Tells what every chunking profile would cost for the blobs in the store. Reads them all. */
  explain?: boolean;
}
export interface StoreStats {
  /** Stored pieces of blobs, each once. */
  chunks: number;
  /** Trees, nodes, and lists of pieces. */
  manifests: number;
  /** Bytes of all blobs, uncompressed, each once. */
  logicalBytes: number;
  /** Bytes of all pieces of blobs, uncompressed, each once. `logicalBytes / uniqueBytes` is what chunking saves. */
  uniqueBytes: number;
  /** The same pieces as they are stored. `uniqueBytes / packedBytes` is what compression saves. */
  packedBytes: number;
  /** What the store's files take, as `du --apparent-size` counts. */
  storedBytes: number;
  packs: number;
  /** Promoted copies, and their bytes. */
  looseFiles: number;
  looseBytes: number;
  /** Is there an object that cannot be read? Then what hangs on it is not counted in shares; `fsck` names it. */
  damaged: boolean;
  /** In the order of `StatsOptions.groups`. */
  groups?: GroupShare[];
  /** By profile name. */
  profiles?: ProfileCost[];
}
export interface GroupShare {
  name: string;
  /** Bytes of files as a copy of it on a disk would have, each as often as it occurs. The sum over all groups, by `logicalBytes` of what they reach, is the dedup ratio. */
  fileBytes: number;
  /** What it reaches, as stored. */
  storedBytes: number;
  /** Of these, what nothing else reaches: removing the group frees about that. */
  exclusiveBytes: number;
}
export interface ProfileCost { profile: string; inUse: boolean; chunks: number; uniqueBytes: number; packedBytes: number; ms: number }

export interface FsckOptions {
  /** Part of the objects to read, 0 to 1, chosen at random. Default 1. What refs need is always walked whole. */
  sample?: number;
  /** Put right what can be: from another copy in the store, else from what `source` gives. What cannot is taken out of the index, so that putting it again heals it. */
  repair?: boolean;
  /** Candidates for a lost or damaged blob, for example the project's files of that size. Whatever it gives is checked by digest. */
  source?: (blob: { digest: BlobDigest; size: number | undefined; names: readonly ObjectName[] }) => Iterable<string | Buffer>;
}
/** Where an object is needed: `path` below the target of `ref` (or of a pin), with names as text. */
export interface ObjectName { ref: string; path: string }
export interface FsckProblem {
  kind: 'blob' | 'tree' | 'node' | 'ref' | 'pack';
  /** Of a pack, its id. */
  digest: string;
  problem: string;
  /** The first few places that need it. Empty: nothing does. */
  names: ObjectName[];
  repaired: boolean;
}
export interface FsckResult {
  objectsChecked: number;
  problems: FsckProblem[];
}

/** What a node refers to, for marking. Given by the layer that knows the kinds of nodes. */
export type NodeLinks = (encoded: Uint8Array) => RefTarget[];
