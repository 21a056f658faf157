import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { Store, Tree, TreeEntry } from './contract.ts';

/** The entry at `path` (`''` has none: it is the root). Does not follow symbolic links. */
export declare function lookupPath(store: Store, root: TreeDigest, path: ByteString): TreeEntry | undefined;

/** Lays a delta over a tree: whiteouts remove, opaque directories replace, directories merge, everything else replaces. Untouched subtrees keep their digest and are not read. */
export declare function applyDelta(store: Store, base: TreeDigest, delta: TreeDigest): TreeDigest;

/** `root` with the entry at `path` replaced (or removed, where `entry` is undefined). Missing parents are made, mode 0o755. */
export declare function setPath(store: Store, root: TreeDigest, path: ByteString, entry: TreeEntry | undefined): TreeDigest;

export type TreeChange =
  | { path: ByteString; change: 'added'; after: TreeEntry }
  | { path: ByteString; change: 'removed'; before: TreeEntry }
  | { path: ByteString; change: 'changed'; before: TreeEntry; after: TreeEntry };

/** What differs, in path order, parents first; an added or removed directory is followed by all that it holds. Equal subtrees are not read. Directories that differ only in what they hold are not listed. */
export declare function diffTrees(store: Store, before: TreeDigest | undefined, after: TreeDigest | undefined): Generator<TreeChange>;

/** Every entry below, parents first, in path order. */
export declare function walkTree(store: Store, root: TreeDigest): Generator<{ path: ByteString; entry: TreeEntry }>;

export declare function emptyTree(store: Store): TreeDigest;
export type { Tree };
