import { HdError } from '@hyperdocker/base';
import type { GcOptions, GcResult, RefName, RootGroup } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import type { Home } from './home.ts';
import { sweepMaterialized } from './materialized.ts';
import type { StoreRoot } from './store-roots.ts';
import { byValue, groupOf, isRunning, resultsSinceMs, storeRoots } from './store-roots.ts';

export interface CollectOptions {
  /** How large the store may be. Infinity: no limit. */
  maxBytes: number;
  dryRun?: boolean;
  /** Give up refs of which a part is lost, instead of refusing to collect. */
  dropLost?: boolean;
}

/** What was given up for the limit. */
export interface GivenUp {
  kind: StoreRoot['kind'];
  name: string;
  /** Of an environment: directory of its project. */
  project?: string;
  usedMs: number;
}

export interface Collected extends Omit<GcResult, 'evicted'> {
  gaveUp: GivenUp[];
  /** Refs that were given up because a part of what they need is lost. */
  lostRefs: RefName[];
  /** Of trees that were written out as files for machines without FUSE. */
  copiesFreed: number;
}

/**
 * Removes from the store what nothing needs, and, while that is more than the limit, what was used longest ago: environments that do not run, images, results of steps.
 * @throws HdError STORE_INCOMPLETE, STORE_BUSY, STORE_WRITE
 */
export function collect(home: Home, { maxBytes, dryRun = false, dropLost = false }: CollectOptions): Collected {
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  if (!dryRun) actions.prune(resultsSinceMs());
  const asked = new Map<string, StoreRoot>();
  // Looked up when the collection has begun: what starts or ends before it counts as it is then.
  const groups = lazily((): RootGroup[] => byValue(storeRoots(home, store, actions)).map((root) => {
    const group = groupOf(root);
    asked.set(group.name, root);
    return group;
  }));
  const inUse = lazily(() => storeRoots(home, store, actions).flatMap((root) => (root.kind === 'result' && isRunning(root) ? root.result.roots : [])));
  const roots = Number.isFinite(maxBytes) ? { cap: { maxBytes, groups }, extraRoots: inUse } : { extraRoots: lazily(() => actions.roots(resultsSinceMs())) };
  const { evicted, lostRefs, ...result } = collectWhole((dropRefs) => store.gc({ ...roots, dryRun, dropRefs }), dropLost);
  const gone = evicted.flatMap((name) => asked.get(name) ?? []);
  if (!dryRun) actions.forget(gone.flatMap((root) => (root.kind === 'result' ? [root.result] : [])));
  return { ...result, gaveUp: gone.map(givenUp), lostRefs, copiesFreed: sweepMaterialized(home, { dryRun }) };
}

/** One ref after the other is found not to be whole. */
function collectWhole(gc: (dropRefs: NonNullable<GcOptions['dropRefs']>) => GcResult, dropLost: boolean): GcResult & { lostRefs: RefName[] } {
  const lostRefs: RefName[] = [];
  for (;;) {
    try {
      return { ...gc(lostRefs), lostRefs };
    } catch (error) {
      const ref = error instanceof HdError && error.code === 'STORE_INCOMPLETE' ? error.details?.['ref'] : undefined;
      if (!dropLost || typeof ref !== 'string' || lostRefs.includes(ref)) throw error;
      lostRefs.push(ref);
    }
  }
}

function givenUp(root: StoreRoot): GivenUp {
  const project = root.kind === 'environment' ? root.environment.project : undefined;
  return { kind: root.kind, name: root.name, usedMs: root.usedMs, ...(project === undefined ? {} : { project }) };
}

function lazily<T>(list: () => Iterable<T>): Iterable<T> {
  return { [Symbol.iterator]: () => list()[Symbol.iterator]() };
}
