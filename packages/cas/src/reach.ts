import { HdError, assert } from '@hyperdocker/base';
import type { NodeLinks, RefTarget, RootGroup, Tree } from './contract.ts';

export type ObjectKind = RefTarget['kind'];
/** `kind:digest`. Kinds are apart: a blob may hold the very bytes of a tree. */
export type ObjectKey = string;

export function objectKey(kind: ObjectKind, digest: string): ObjectKey {
  return `${kind}:${digest}`;
}

export function targetOfKey(key: ObjectKey): RefTarget {
  const [kind = '', digest = ''] = key.split(':');
  return { kind: kind as ObjectKind, digest };
}

/** A recipe is part of its blob. */
export function keyOfRow({ kind, digest }: { kind: ObjectKind | 'recipe'; digest: string }): ObjectKey {
  return objectKey(kind === 'recipe' ? 'blob' : kind, digest);
}

/** What marking needs to see of a store. `undefined`: not there. */
export interface Reachable {
  /** What a blob is stored as beside itself: nothing for one that is whole. */
  chunks(digest: string): Iterable<{ digest: string; sizeBytes: number }> | undefined;
  tree(digest: string): Tree | undefined;
  node(digest: string): Uint8Array | undefined;
}

/** Damaged objects refer to nothing. @param onDamaged hears of each look at one */
export function lenient(store: Reachable, onDamaged: () => void = () => {}): Reachable {
  const read = <T>(look: () => T | undefined, none: T | undefined): T | undefined => {
    try {
      return look();
    } catch (error) {
      if (error instanceof HdError && error.code === 'OBJECT_MISSING') return undefined;
      if (!(error instanceof HdError && error.code === 'OBJECT_CORRUPT')) throw error;
      onDamaged();
      return none;
    }
  };
  return {
    chunks: (digest) => read(() => store.chunks(digest), []),
    tree: (digest) => read(() => store.tree(digest), []),
    node: (digest) => read(() => store.node(digest), undefined),
  };
}

/**
 * Adds all that `roots` reach to `marked`, and tells which of it the store lacks. What is in `marked` already is taken as done.
 * @param onMark hears of each key that is new
 */
export function markReachable(store: Reachable, roots: Iterable<RefTarget>, nodeLinks: NodeLinks | undefined, marked: Set<ObjectKey>, onMark?: (key: ObjectKey) => void): { missing: RefTarget[] } {
  const missing: RefTarget[] = [];
  const todo: RefTarget[] = [];
  const mark = (kind: ObjectKind, digest: string): void => {
    const key = objectKey(kind, digest);
    if (marked.has(key)) return;
    marked.add(key);
    onMark?.(key);
    todo.push({ kind, digest });
  };
  for (const root of roots) {
    mark(root.kind, root.digest);
    for (let target = todo.pop(); target !== undefined; target = todo.pop()) {
      const links = linksOf(store, target, nodeLinks);
      if (links === undefined) missing.push(target);
      else for (const link of links) mark(link.kind, link.digest);
    }
  }
  return { missing };
}

/** What an object refers to; undefined where the store lacks it. */
export function linksOf(store: Reachable, { kind, digest }: RefTarget, nodeLinks: NodeLinks | undefined): RefTarget[] | undefined {
  if (kind === 'blob') {
    const chunks = store.chunks(digest);
    return chunks === undefined ? undefined : Array.from(chunks, (chunk) => ({ kind, digest: chunk.digest }));
  }
  if (kind === 'tree') {
    return store.tree(digest)?.flatMap((entry): RefTarget[] => {
      if (entry.kind === 'file') return [{ kind: 'blob', digest: entry.digest }];
      return entry.kind === 'dir' ? [{ kind: 'tree', digest: entry.digest }] : [];
    });
  }
  const encoded = store.node(digest);
  if (encoded === undefined) return undefined;
  assert(nodeLinks !== undefined, 'a store that holds nodes must be opened with nodeLinks before gc or fsck');
  return nodeLinks(encoded);
}

/**
 * Marks one group after the other while all that is marked takes at most `maxBytes`; what only the others reach stays unmarked.
 * @param usedBytes what is marked already takes
 * @returns the groups that did not fit, from the first such one on
 */
export function markWithinCap(space: {
  groups: readonly RootGroup[];
  maxBytes: number;
  usedBytes: number;
  marked: Set<ObjectKey>;
  /** Adds what the group reaches to `marked`. */
  mark(group: RootGroup, onMark: (key: ObjectKey) => void): void;
  sizeOf(key: ObjectKey): number;
}): RootGroup[] {
  let usedBytes = space.usedBytes;
  for (const [at, group] of space.groups.entries()) {
    const added: ObjectKey[] = [];
    space.mark(group, (key) => {
      added.push(key);
      usedBytes += space.sizeOf(key);
    });
    if (usedBytes <= space.maxBytes) continue;
    for (const key of added) space.marked.delete(key);
    return space.groups.slice(at);
  }
  return [];
}
