import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { GroupShare, RootGroup, Store, StoreStats } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import type { Home } from './home.ts';
import { envRef } from './home.ts';
import type { KnownEnvironment } from './known-environments.ts';
import type { StoreRoot } from './store-roots.ts';
import { groupOf, storeRoots } from './store-roots.ts';

export interface StoreReport extends Omit<StoreStats, 'groups'> {
  /** Bytes of the files of all environments, by the bytes of the pieces that are stored. Undefined without environments. */
  dedupRatio?: number;
  /** Bytes of the pieces, by what they take. Undefined for an empty store. */
  compressionRatio?: number;
  /** Of environments, images, and of the results of steps all together. */
  shares: StoreShare[];
}

export interface StoreShare {
  kind: StoreRoot['kind'] | 'results';
  name: string;
  project?: string;
  state?: KnownEnvironment['state'];
  usedMs: number;
  /** Of an environment: bytes of its files, as a copy of it on a disk would have. */
  fileBytes?: number;
  /** What it needs, as stored: what nothing else needs, and what others need too. */
  uniqueBytes: number;
  sharedBytes: number;
}

/** What the store holds, and for whom. `explain` reads all blobs. */
export function reportStore(home: Home, options: { explain?: boolean } = {}): StoreReport {
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  const roots = sharers(storeRoots(home, store, actions));
  const { groups = [], ...stats } = store.stats({ groups: roots.map(({ group }) => group), ...options });
  const sizes = new Map<TreeDigest, number>();
  const shares = roots.map(({ share }, index): StoreShare => {
    const { storedBytes = 0, exclusiveBytes = 0 }: Partial<GroupShare> = groups[index] ?? {};
    const fileBytes = share.kind === 'environment' ? environmentBytes(store, share.name, sizes) : undefined;
    return { ...share, ...(fileBytes === undefined ? {} : { fileBytes }), uniqueBytes: exclusiveBytes, sharedBytes: storedBytes - exclusiveBytes };
  });
  const fileBytes = shares.reduce((sum, share) => sum + (share.fileBytes ?? 0), 0);
  return {
    ...stats,
    ...(fileBytes === 0 || stats.uniqueBytes === 0 ? {} : { dedupRatio: fileBytes / stats.uniqueBytes }),
    ...(stats.packedBytes === 0 ? {} : { compressionRatio: stats.uniqueBytes / stats.packedBytes }),
    shares,
  };
}

type Sharer = { share: Omit<StoreShare, 'uniqueBytes' | 'sharedBytes'>; group: RootGroup };

function sharers(roots: readonly StoreRoot[]): Sharer[] {
  const own = roots.flatMap((root): Sharer[] => {
    const { kind, name, usedMs } = root;
    if (root.kind === 'result') return [];
    const { project, state } = root.kind === 'environment' ? root.environment : {};
    return [{ share: { kind, name, usedMs, ...(project === undefined ? {} : { project }), ...(state === undefined ? {} : { state }) }, group: groupOf(root) }];
  });
  const results = roots.filter((root) => root.kind === 'result');
  if (results.length === 0) return own;
  const usedMs = Math.max(...results.map((root) => root.usedMs));
  return [...own, { share: { kind: 'results', name: `${results.length}`, usedMs }, group: { name: 'results', roots: results.flatMap(({ result }) => result.roots) } }];
}

/** Undefined: it was never built whole, or a part is lost. */
function environmentBytes(store: Store, id: string, sizes: Map<TreeDigest, number>): number | undefined {
  const tree = store.getRef(envRef(id, 'tree'))?.target.digest as TreeDigest | undefined;
  try {
    return tree === undefined ? undefined : treeBytes(store, tree, sizes);
  } catch (error) {
    if (error instanceof HdError) return undefined;
    throw error;
  }
}

/** Bytes of its files, as a copy of it on a disk would have. @param sizes known ones, to which it adds */
export function treeBytes(store: Store, tree: TreeDigest, sizes: Map<TreeDigest, number>): number {
  const known = sizes.get(tree);
  if (known !== undefined) return known;
  let bytes = 0;
  for (const entry of store.getTree(tree)) bytes += entry.kind === 'file' ? entry.size : entry.kind === 'dir' ? treeBytes(store, entry.digest, sizes) : 0;
  sizes.set(tree, bytes);
  return bytes;
}
