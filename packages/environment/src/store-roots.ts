import type { BlobDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { RefName, RootGroup, Store } from '@hyperdocker/cas';
import type { ActionCache, CachedResult } from '@hyperdocker/engine';
import { imageFromJson } from '@hyperdocker/oci';
import type { Home } from './home.ts';
import type { KnownEnvironment } from './known-environments.ts';
import { knownEnvironments } from './known-environments.ts';

/** What the store is kept for, one by one. */
export type StoreRoot = EnvironmentRoot | ImageRoot | ResultRoot;
interface EnvironmentRoot { kind: 'environment'; name: string; usedMs: number; environment: KnownEnvironment }
interface ImageRoot {
  kind: 'image';
  /** As in hd.toml, where its description can be read. */
  name: string;
  usedMs: number;
  refs: RefName[];
  isRunning: boolean;
}
interface ResultRoot { kind: 'result'; name: string; usedMs: number; result: CachedResult; isRunning: boolean }

/** Results of steps are kept this long after their last use. */
const KEEP_RESULTS_MS = 7 * 24 * 60 * 60 * 1000;
export const resultsSinceMs = (): number => Date.now() - KEEP_RESULTS_MS;

/** Environments, images, and results of steps used of late. */
export function storeRoots(home: Home, store: Store, actions: ActionCache): StoreRoot[] {
  const environments = knownEnvironments(home, store);
  return [
    ...environments.map((environment): StoreRoot => ({ kind: 'environment', name: environment.id, usedMs: environment.usedMs, environment })),
    ...imageRoots(store, environments),
    ...resultRoots(actions.results(resultsSinceMs()), environments),
  ];
}

/**
 * In what order they are given up, the last first: by their last use, and what has no project any more before all others. What runs is not among them, nor the image and the
 * results that it is made of. Those of others go after the environments: without an image nothing can be built where its source cannot be reached, and what is left of results
 * need not run again.
 */
export function byValue(roots: readonly StoreRoot[]): StoreRoot[] {
  const rank = (root: StoreRoot): number => (root.kind === 'environment' && root.environment.state === 'gone' ? 1 : 0);
  const order = { image: 0, result: 1, environment: 2 };
  return roots.filter((root) => !isRunning(root)).sort((a, b) => rank(a) - rank(b) || b.usedMs - a.usedMs || order[a.kind] - order[b.kind]);
}

export function isRunning(root: StoreRoot): boolean {
  return root.kind === 'environment' ? root.environment.state === 'running' : root.isRunning;
}

/** `roots` are what no ref names. */
export function groupOf(root: StoreRoot): RootGroup {
  const name = `${root.kind} ${root.name}`;
  switch (root.kind) {
    case 'environment':
      return { name, roots: [], refs: root.environment.refs };
    case 'image':
      return { name, roots: [], refs: root.refs };
    case 'result':
      return { name, roots: root.result.roots };
  }
}

function imageRoots(store: Store, environments: readonly KnownEnvironment[]): ImageRoot[] {
  const byImage = Map.groupBy(store.listRefs('image/'), ({ name }) => name.split('/').slice(0, 2).join('/'));
  return [...byImage].map(([key, refs]): ImageRoot => {
    const users = environments.filter(({ image }) => image === key);
    const description = refs.find(({ name }) => name === `${key}/image`)?.ref.target.digest as BlobDigest | undefined;
    return {
      kind: 'image', name: (description === undefined ? undefined : sourceOf(store, description)) ?? key, refs: refs.map(({ name }) => name),
      usedMs: Math.max(...refs.map(({ ref }) => ref.atMs), ...users.map(({ usedMs }) => usedMs)),
      isRunning: users.some(({ state }) => state === 'running'),
    };
  });
}

/** The newest of each definition is what the last build of an environment was made of. @param results those used last first */
function resultRoots(results: readonly CachedResult[], environments: readonly KnownEnvironment[]): ResultRoot[] {
  const users = new Map<string, KnownEnvironment[]>();
  for (const environment of environments) for (const key of environment.definitions) users.set(key, [...(users.get(key) ?? []), environment]);
  return results.map((result): ResultRoot => {
    const { definition, content } = result;
    const of = users.get(definition) ?? [];
    users.delete(definition);
    return { kind: 'result', name: `${definition}/${content}`, usedMs: Math.max(result.usedMs, ...of.map(({ usedMs }) => usedMs)), result, isRunning: of.some(({ state }) => state === 'running') };
  });
}

function sourceOf(store: Store, description: BlobDigest): string | undefined {
  try {
    return imageFromJson(store.getBlob(description).toString('utf8')).source;
  } catch (error) {
    if (error instanceof HdError) return undefined;
    throw error;
  }
}
