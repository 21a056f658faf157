import { HdError, assert, hasher, joinBytes, toText } from '@hyperdocker/base';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { DirEntry, Meta, Store, Tree, TreeEntry } from './contract.ts';

export type { Tree };

/** The mode of directories that nobody described. */
export const DEFAULT_DIR_MODE = 0o755;

export type TreeChange =
  | { path: ByteString; change: 'added'; after: TreeEntry }
  | { path: ByteString; change: 'removed'; before: TreeEntry }
  | { path: ByteString; change: 'changed'; before: TreeEntry; after: TreeEntry };

/** The entry at `path` (`''` has none: it is the root). Does not follow symbolic links. */
export function lookupPath(store: Store, root: TreeDigest, path: ByteString): TreeEntry | undefined {
  let entry: TreeEntry | undefined;
  let directory: TreeDigest | undefined = root;
  for (const name of splitPath(path)) {
    if (directory === undefined) return undefined;
    entry = findEntry(store.getTree(directory), name);
    directory = entry?.kind === 'dir' ? entry.digest : undefined;
  }
  return entry;
}

/**
 * Lays a delta over a tree: whiteouts remove, opaque directories replace, directories merge (mode and meta are the delta's),
 * everything else replaces. The result is whole. Untouched subtrees keep their digest and are not read.
 */
export function applyDelta(store: Store, base: TreeDigest, delta: TreeDigest): TreeDigest {
  if (base === delta) return base;
  const below = store.getTree(base);
  const above = store.getTree(delta);
  const merged: TreeEntry[] = [];
  for (const [before, after] of pairByName(below, above)) {
    const entry = after === undefined ? before : layEntry(store, before, after);
    if (entry !== undefined) merged.push(entry);
  }
  return store.putTree(merged);
}

/**
 * `root` with the entry at `path` replaced (or removed, where `entry` is undefined). The name is the path's. Missing parents are made, mode 0o755.
 * @throws HdError NOT_A_DIRECTORY where a parent is something else.
 */
export function setPath(store: Store, root: TreeDigest, path: ByteString, entry: TreeEntry | undefined): TreeDigest {
  const names = splitPath(path);
  assert(names.length > 0, 'the root is no entry');
  return setAt(store, root, names, 0, entry) ?? root;
}

/**
 * What differs, in path order, parents first; an added or removed directory is followed by all that it holds. Equal subtrees are not read.
 * Directories that differ only in what they hold are not listed. Lazy: reads as it is consumed.
 */
export function* diffTrees(store: Store, before: TreeDigest | undefined, after: TreeDigest | undefined, prefix = '' as ByteString): Generator<TreeChange> {
  if (before === after) return;
  for (const [old, now] of pairByName(treeOrEmpty(store, before), treeOrEmpty(store, after))) {
    if (old === now) continue;
    const path = joinBytes(prefix, (old ?? now)!.name);
    if (old === undefined) yield { path, change: 'added', after: now! };
    else if (now === undefined) yield { path, change: 'removed', before: old };
    else if (!sameEntry(old, now)) yield { path, change: 'changed', before: old, after: now };
    const oldTree = old?.kind === 'dir' ? old.digest : undefined;
    const nowTree = now?.kind === 'dir' ? now.digest : undefined;
    if (oldTree !== nowTree) yield* diffTrees(store, oldTree, nowTree, path);
  }
}

/** Every entry below, parents first, in path order. Lazy. */
export function* walkTree(store: Store, root: TreeDigest): Generator<{ path: ByteString; entry: TreeEntry }> {
  const stack = [{ prefix: '' as ByteString, tree: store.getTree(root), next: 0 }];
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const entry = top.tree[top.next++];
    if (entry === undefined) {
      stack.pop();
      continue;
    }
    const path = joinBytes(top.prefix, entry.name);
    yield { path, entry };
    if (entry.kind === 'dir') stack.push({ prefix: path, tree: store.getTree(entry.digest), next: 0 });
  }
}

export function emptyTree(store: Store): TreeDigest {
  return store.putTree([]);
}

/** Binary search. */
export function findEntry(tree: Tree, name: ByteString): TreeEntry | undefined {
  let low = 0;
  let high = tree.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    const entry = tree[middle]!;
    if (entry.name === name) return entry;
    if (entry.name < name) low = middle + 1;
    else high = middle;
  }
  return undefined;
}

/** Do two entries of one name agree in all but what a directory holds? */
export function sameEntry(a: TreeEntry, b: TreeEntry): boolean {
  if (a.kind !== b.kind || a.mode !== b.mode || !sameMeta(a.meta, b.meta)) return false;
  switch (a.kind) {
    case 'file':
      return a.digest === (b as typeof a).digest && a.size === (b as typeof a).size;
    case 'symlink':
      return a.target === (b as typeof a).target;
    case 'char':
    case 'block':
      return a.major === (b as typeof a).major && a.minor === (b as typeof a).minor;
    case 'dir':
      return (a.opaque ?? false) === ((b as typeof a).opaque ?? false);
    default:
      return true;
  }
}

/**
 * A number for `Meta.linkGroup`. Groups of a base and of a delta meet in one tree, so that counting from 1 would join strangers: 48 bits of a digest do not.
 * @param firstPath the first of the names in path order
 * @param content the digest of the file's bytes
 */
export function linkGroupFor(firstPath: ByteString, content: string): number {
  return Number.parseInt(hasher.hash(Buffer.from(`hd.link-group/1\0${content}\0${firstPath}`, 'latin1')).slice(0, 12), 16) + 1;
}

export function splitPath(path: ByteString): ByteString[] {
  return path === '' ? [] : (path.split('/') as ByteString[]);
}

function layEntry(store: Store, below: TreeEntry | undefined, above: TreeEntry): TreeEntry | undefined {
  if (above.kind === 'whiteout') return undefined;
  if (above.kind !== 'dir') return above;
  const merges = below?.kind === 'dir' && above.opaque !== true;
  return wholeDir(above, merges ? applyDelta(store, below.digest, above.digest) : wholeTree(store, above.digest));
}

/** A delta over nothing: its whiteouts and opaque marks go. */
function wholeTree(store: Store, delta: TreeDigest): TreeDigest {
  const tree = store.getTree(delta);
  let changed = false;
  const whole = tree.flatMap((entry): TreeEntry[] => {
    if (entry.kind !== 'dir' && entry.kind !== 'whiteout') return [entry];
    const laid = layEntry(store, undefined, entry);
    changed ||= laid === undefined || (entry.kind === 'dir' && (entry.opaque === true || (laid as DirEntry).digest !== entry.digest));
    return laid === undefined ? [] : [laid];
  });
  return changed ? store.putTree(whole) : delta;
}

function wholeDir({ name, mode, meta }: DirEntry, digest: TreeDigest): DirEntry {
  return { name, kind: 'dir', mode, digest, ...(meta === undefined ? {} : { meta }) };
}

/** The new digest of `directory`, or undefined where nothing changes. */
function setAt(store: Store, directory: TreeDigest | undefined, names: ByteString[], depth: number, entry: TreeEntry | undefined): TreeDigest | undefined {
  const name = names[depth]!;
  const tree = treeOrEmpty(store, directory);
  const present = findEntry(tree, name);
  let replacement: TreeEntry | undefined;
  if (depth === names.length - 1) {
    if (entry === undefined && present === undefined) return undefined;
    replacement = entry === undefined ? undefined : { ...entry, name };
  } else {
    if (present === undefined && entry === undefined) return undefined;
    if (present !== undefined && present.kind !== 'dir') throw notADirectory(names.slice(0, depth + 1));
    const digest = setAt(store, present?.digest, names, depth + 1, entry);
    if (digest === undefined) return undefined;
    replacement = present === undefined ? { name, kind: 'dir', mode: DEFAULT_DIR_MODE, digest } : { ...present, digest };
  }
  const others = tree.filter((other) => other.name !== name);
  return store.putTree(replacement === undefined ? others : [...others, replacement]);
}

export function notADirectory(names: ByteString[]): HdError {
  return new HdError('NOT_A_DIRECTORY', `${toText(names.join('/') as ByteString)} is not a directory`);
}

/** Walks two sorted trees at once. */
function* pairByName(a: Tree, b: Tree): Generator<[TreeEntry | undefined, TreeEntry | undefined]> {
  let i = 0;
  let j = 0;
  while (i < a.length || j < b.length) {
    const left = a[i];
    const right = b[j];
    if (right === undefined || (left !== undefined && left.name < right.name)) {
      yield [left, undefined];
      i++;
    } else if (left === undefined || right.name < left.name) {
      yield [undefined, right];
      j++;
    } else {
      yield [left, right];
      i++;
      j++;
    }
  }
}

function treeOrEmpty(store: Store, digest: TreeDigest | undefined): Tree {
  return digest === undefined ? [] : store.getTree(digest);
}

function sameMeta(a: Meta | undefined, b: Meta | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return (
    a.uid === b.uid && a.gid === b.gid && a.mtimeNs === b.mtimeNs && a.linkGroup === b.linkGroup &&
    (a.linkGroup === 0 || a.links === b.links) && a.xattrs.length === b.xattrs.length &&
    a.xattrs.every(([name, value], i) => name === b.xattrs[i]![0] && Buffer.compare(value, b.xattrs[i]![1]) === 0)
  );
}
