import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, joinBytes, toByteString, toText } from '@hyperdocker/base';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { lookupPath } from '@hyperdocker/cas';
import { globMatcher, hasWildcard } from '@hyperdocker/frontend';

const HOPS_MAX = 40;

/** What a tree, or one that is being made, has at a path. Links are not followed. */
export type LookUp = (path: ByteString) => { kind: string; target?: ByteString } | undefined;

/** The path with all links followed, inside of the tree; what is missing is taken as written. @throws HdError COPY_FAILED where links lead round */
export function followLinks(lookUp: LookUp, path: ByteString): ByteString {
  const todo = split(path).reverse();
  const done: ByteString[] = [];
  let hops = 0;
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (name === '..') {
      done.pop();
      continue;
    }
    const here = [...done, name].join('/') as ByteString;
    const entry = lookUp(here);
    if (entry?.kind !== 'symlink') {
      done.push(name);
      continue;
    }
    if (++hops > HOPS_MAX) throw new HdError('COPY_FAILED', `/${toText(path)}: symbolic links lead round in a circle`);
    const target = entry.target ?? ('' as ByteString);
    if (target.startsWith('/')) done.length = 0;
    todo.push(...split(target).reverse());
  }
  return done.join('/') as ByteString;
}

export function lookUpIn(store: Store, tree: TreeDigest): LookUp {
  return (path) => lookupPath(store, tree, path);
}

/** The names of a path, without empty ones and `.`. */
export function split<Path extends string>(path: Path): Path[] {
  return path.split('/').filter((name) => name !== '' && name !== '.') as Path[];
}

/** A path as a pattern that means it alone. */
export function literal(path: string): string {
  return path.replace(/[\\*?[]/g, '\\$&');
}

/** Paths that a source with wild cards means, in order. Without wild cards: the path itself, there or not. */
export function matchingPaths(store: Store, tree: TreeDigest, pattern: string): ByteString[] {
  let found: ByteString[] = ['' as ByteString];
  for (const part of split(pattern)) {
    if (!hasWildcard(part)) {
      found = found.map((parent) => joinBytes(parent, toByteString(part.replace(/\\(.)/g, '$1'))));
      continue;
    }
    const isMatch = globMatcher(part);
    found = found.flatMap((parent) => entriesOf(store, tree, parent).map(({ name }) => name).filter((name) => isMatch(toText(name))).map((name) => joinBytes(parent, name)));
  }
  return found.length === 1 || !hasWildcard(pattern) ? found : found.filter((path) => lookupPath(store, tree, followLinks(lookUpIn(store, tree), path)) !== undefined);
}

function entriesOf(store: Store, tree: TreeDigest, path: ByteString): readonly TreeEntry[] {
  const real = followLinks(lookUpIn(store, tree), path);
  if (real === '') return store.getTree(tree);
  const entry = lookupPath(store, tree, real);
  return entry?.kind === 'dir' ? store.getTree(entry.digest) : [];
}
