import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { DirEntry, Store, TreeEntry } from '@hyperdocker/cas';
import { emptyTree, lookupPath, setPath, walkTree } from '@hyperdocker/cas';

/** What became of what a step wrote outside of its outputs. */
export interface KeptOutputs {
  delta: TreeDigest;
  /** Files, links and deletions that were dropped. */
  dropped: number;
  /** The first of them. */
  firstDropped?: ByteString;
  /** Outputs that are not there when the step is done. */
  missing: ByteString[];
}

/**
 * Of a delta, the part at or below `outputs`.
 * @param before the tree that the step started from
 * @param after the tree that it left: `before` with all of the delta
 */
export function keepOutputs(store: Store, trees: { before: TreeDigest; delta: TreeDigest; after: TreeDigest }, outputs: readonly ByteString[]): KeptOutputs {
  if (outputs.includes('' as ByteString)) return { delta: trees.delta, dropped: 0, missing: [] };
  let delta = emptyTree(store);
  const missing: ByteString[] = [];
  for (const path of outputs) {
    const written = writtenAt(store, trees, path);
    // What was removed had its parents before; they may be gone as well.
    if (written !== undefined) delta = setWithParents(store, delta, written.kind === 'whiteout' ? trees.before : trees.after, path, written);
    if (lookupPath(store, trees.after, path) === undefined) missing.push(path);
  }
  const isKept = (path: ByteString): boolean => outputs.some((output) => path === output || path.startsWith(`${output}/`));
  const rest = [...walkTree(store, trees.delta)].filter(({ path, entry }) => entry.kind !== 'dir' && !isKept(path));
  const [first] = rest;
  return { delta, dropped: rest.length, missing, ...(first === undefined ? {} : { firstDropped: first.path }) };
}

/** What the delta says of a path, whether by an entry of its own or by what it did to a directory above. */
function writtenAt(store: Store, { before, delta, after }: { before: TreeDigest; delta: TreeDigest; after: TreeDigest }, path: ByteString): TreeEntry | undefined {
  const entry = lookupPath(store, delta, path);
  if (entry !== undefined) return entry.kind === 'dir' && isReplaced(store, delta, path) ? { ...entry, opaque: true } : entry;
  const isGone = lookupPath(store, before, path) !== undefined && lookupPath(store, after, path) === undefined;
  return isGone ? { kind: 'whiteout', name: '' as ByteString, mode: 0 } : undefined;
}

/** Does a directory above hide all that was there before? */
function isReplaced(store: Store, delta: TreeDigest, path: ByteString): boolean {
  return parentsOf(path).some((parent) => {
    const entry = lookupPath(store, delta, parent);
    return entry?.kind === 'dir' && entry.opaque === true;
  });
}

/** `setPath` on a delta, where parents that the delta lacks keep the modes and owners that they have in the whole tree. */
export function setWithParents(store: Store, delta: TreeDigest, whole: TreeDigest, path: ByteString, entry: TreeEntry): TreeDigest {
  let result = delta;
  for (const parent of parentsOf(path)) {
    const existing = lookupPath(store, whole, parent);
    if (lookupPath(store, result, parent) === undefined && existing?.kind === 'dir') {
      result = setPath(store, result, parent, { ...existing, digest: emptyTree(store) } satisfies DirEntry);
    }
  }
  return setPath(store, result, path, entry);
}

/** `a/b/c` → `a`, `a/b`. */
function parentsOf(path: ByteString): ByteString[] {
  const parts = path.split('/');
  return parts.slice(0, -1).map((_, index) => parts.slice(0, index + 1).join('/') as ByteString);
}
