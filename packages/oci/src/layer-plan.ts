import { hasher, toBuffer } from '@hyperdocker/base';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { TreeBuilder, diffTrees, lookupPath, splitPath } from '@hyperdocker/cas';
import type { Store, TreeEntry } from '@hyperdocker/cas';

/**
 * How the files of an image are divided into layers, so that a small change makes a small layer new. Each layer holds other paths; where one ends is decided by the
 * paths themselves, as content-defined chunking does with bytes, so that it does not depend on what else there is: the same files have the same layers, whoever exports
 * them and whatever was exported before.
 */
interface Division { targetBytes: number; maxLayers: number }

/** The base image changes seldom, and all environments on it share its layers. */
const BASE: Division = { targetBytes: 24 << 20, maxLayers: 24 };
/** Compressed, about a third of it. */
const ABOVE: Division = { targetBytes: 3 << 20, maxLayers: 90 };
/** What an entry takes in an archive beside its content. */
const ENTRY_BYTES = 1024;

interface Item { path: ByteString; entry: TreeEntry; bytes: number }

/** The layers of `tree`, lowest first: those of `base`, then what `tree` has otherwise, as deltas with whiteouts. The caller holds a lease. */
export function planLayers(store: Store, base: TreeDigest | undefined, tree: TreeDigest): TreeDigest[] {
  return [...(base === undefined ? [] : layersOf(store, undefined, base, BASE)), ...layersOf(store, base, tree, ABOVE)];
}

function layersOf(store: Store, before: TreeDigest | undefined, after: TreeDigest, { targetBytes, maxLayers }: Division): TreeDigest[] {
  const items = [...changedItems(store, before, after)];
  for (let target = targetBytes; ; target *= 2) {
    const groups = divide(items, target);
    if (groups.length <= maxLayers) return groups.map((group) => layerTree(store, after, group));
  }
}

function* changedItems(store: Store, before: TreeDigest | undefined, after: TreeDigest): Generator<Item> {
  // What is below a removed or replaced directory goes with it.
  let hidden: string | undefined;
  for (const change of diffTrees(store, before, after)) {
    const { path } = change;
    if (change.change === 'removed') {
      if (hidden !== undefined && path.startsWith(hidden)) continue;
      hidden = `${path}/`;
      yield { path, entry: { kind: 'whiteout', name: nameOf(path), mode: 0 }, bytes: ENTRY_BYTES };
      continue;
    }
    if (change.change === 'changed' && change.before.kind === 'dir' && change.after.kind !== 'dir') hidden = `${path}/`;
    yield { path, entry: change.after, bytes: ENTRY_BYTES + (change.after.kind === 'file' ? change.after.size : 0) };
  }
}

function divide(items: readonly Item[], targetBytes: number): Item[][] {
  const groups: Item[][] = [];
  /** Hard links are such only within one layer. */
  const groupOfLinks = new Map<number, Item[]>();
  let group: Item[] = [];
  let bytes = 0;
  const cut = (): void => {
    if (group.length > 0) groups.push(group);
    group = [];
    bytes = 0;
  };
  for (const item of items) {
    const links = item.entry.meta?.linkGroup ?? 0;
    const together = links === 0 ? undefined : groupOfLinks.get(links);
    if (together !== undefined) {
      together.push(item);
      continue;
    }
    // Its own layer: a change of a small neighbour would make it new.
    const isLarge = item.bytes >= targetBytes / 2;
    if (isLarge) cut();
    group.push(item);
    bytes += item.bytes;
    if (links !== 0) groupOfLinks.set(links, group);
    if (isLarge || bytes >= 4 * targetBytes || (bytes >= targetBytes / 4 && chance(item.path) < item.bytes / targetBytes)) cut();
  }
  cut();
  return groups;
}

/** From 0 to 1, always the same for a path. */
function chance(path: ByteString): number {
  return Number.parseInt(hasher.hash(toBuffer(path)).slice(0, 8), 16) / 2 ** 32;
}

/** The items, with the directories that they are in as these are in the end. */
function layerTree(store: Store, after: TreeDigest, items: readonly Item[]): TreeDigest {
  const builder = new TreeBuilder(store);
  const described = new Set<string>();
  const describe = (path: ByteString): void => {
    const parents = splitPath(path).slice(0, -1);
    for (let depth = 1; depth <= parents.length; depth++) {
      const parent = parents.slice(0, depth).join('/') as ByteString;
      const entry = described.has(parent) ? undefined : lookupPath(store, after, parent);
      described.add(parent);
      if (entry?.kind === 'dir') builder.set(parent, directory(entry));
    }
  };
  for (const { path, entry } of items) {
    describe(path);
    if (entry.kind === 'dir' && described.has(path)) continue;
    described.add(path);
    builder.set(path, entry.kind === 'dir' ? directory(entry) : entry);
  }
  return builder.finish();
}

/** Without what it holds. */
function directory({ mode, meta }: Extract<TreeEntry, { kind: 'dir' }>): { kind: 'dir'; mode: number; meta?: NonNullable<TreeEntry['meta']> } {
  return { kind: 'dir', mode, ...(meta === undefined ? {} : { meta }) };
}

function nameOf(path: ByteString): ByteString {
  return path.slice(path.lastIndexOf('/') + 1) as ByteString;
}
