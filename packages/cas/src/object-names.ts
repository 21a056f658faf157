import { joinBytes, toText } from '@hyperdocker/base';
import type { ByteString } from '@hyperdocker/base';
import type { NodeLinks, ObjectName, RefTarget } from './contract.ts';
import { linksOf, objectKey } from './reach.ts';
import type { ObjectKey, Reachable } from './reach.ts';

/** Names told for one object. */
const MAX_NAMES = 5;

export interface NamedRoot { name: string; target: RefTarget }

/**
 * Where objects are needed: the paths at which the roots reach them, a few for each. Trees are looked into once, and again only where something wanted is below.
 * What cannot be read has nothing below it.
 */
export function findNames(store: Reachable, roots: readonly NamedRoot[], nodeLinks: NodeLinks | undefined, wanted: ReadonlySet<ObjectKey>): Map<ObjectKey, ObjectName[]> {
  const names = new Map<ObjectKey, ObjectName[]>();
  const holds = new Map<ObjectKey, boolean>();

  const leadsThere = (target: RefTarget): boolean => {
    const key = objectKey(target.kind, target.digest);
    const known = holds.get(key);
    if (known !== undefined) return known;
    const found = wanted.has(key);
    holds.set(key, found);
    // All of them are looked at, so that each is known when names are collected.
    const below = (linksOf(store, target, nodeLinks) ?? []).map(leadsThere).some((leads) => leads);
    holds.set(key, found || below);
    return found || below;
  };

  const collect = (target: RefTarget, ref: string, path: ByteString): void => {
    const key = objectKey(target.kind, target.digest);
    if (holds.get(key) !== true) return;
    if (wanted.has(key)) {
      const known = names.get(key) ?? [];
      if (known.length < MAX_NAMES) names.set(key, [...known, { ref, path: toText(path) }]);
    }
    if (target.kind !== 'tree') {
      for (const link of linksOf(store, target, nodeLinks) ?? []) collect(link, ref, path);
      return;
    }
    for (const entry of store.tree(target.digest) ?? []) {
      if (entry.kind === 'dir') collect({ kind: 'tree', digest: entry.digest }, ref, joinBytes(path, entry.name));
      else if (entry.kind === 'file') collect({ kind: 'blob', digest: entry.digest }, ref, joinBytes(path, entry.name));
    }
  };

  for (const { name, target } of roots) if (leadsThere(target)) collect(target, name, '' as ByteString);
  return names;
}
