import { HdError } from '@hyperdocker/base';
import type { GcOptions, Ref, RefName, RefTarget, RootGroup } from './contract.ts';
import { storeIncomplete } from './errors.ts';
import { markWithinCap, objectKey } from './reach.ts';
import type { ObjectKey } from './reach.ts';

/** Adds all that the roots reach, and tells what of it is not there; `onMark` hears of each key that is new. */
export type Mark = (roots: Iterable<RefTarget>, marked: Set<ObjectKey>, onMark?: (key: ObjectKey) => void) => RefTarget[];

/** What a collection starts from. */
export interface GcRoots {
  mark: Mark;
  pins: readonly { name: string; target: RefTarget }[];
  refs: readonly { name: RefName; ref: Ref }[];
  /** Of these, what is missing is passed over. */
  others: () => Iterable<RefTarget>;
  /** What a marked object takes. */
  sizeOf(key: ObjectKey): number;
  /** What all that is marked takes, with what is no object. */
  usedBytes(): number;
}

/**
 * Marks what a collection keeps: pins first, of which `onPinned` is told, then refs and other roots, then as many groups as fit.
 * @returns the groups that are given up
 * @throws HdError STORE_INCOMPLETE
 */
export function markKept(roots: GcRoots, { cap, dropRefs = [] }: Pick<GcOptions, 'cap' | 'dropRefs'>, marked: Set<ObjectKey>, onPinned: () => void = () => {}): RootGroup[] {
  const { mark, pins, refs, others } = roots;
  // Asked for before the rest: it tells what the refs are for.
  const groups = [...(cap?.groups ?? [])];
  for (const pin of pins) markWhole(mark, pin, marked);
  onPinned();
  const ofGroups = new Set(groups.flatMap((group) => group.refs ?? []));
  const kept = refs.filter(({ name }) => !dropRefs.includes(name));
  for (const { name, ref } of kept) if (!ofGroups.has(name)) markWhole(mark, { name, target: ref.target }, marked);
  markPresent(mark, others(), marked);
  if (cap === undefined) return [];
  const targets = new Map(kept.map(({ name, ref }) => [name, ref.target]));
  const markGroup = (group: RootGroup, onMark: (key: ObjectKey) => void): void => {
    for (const name of group.refs ?? []) {
      const target = targets.get(name);
      if (target !== undefined) markWhole(mark, { name, target }, marked, onMark);
    }
    markPresent(mark, group.roots, marked, onMark);
  };
  return markWithinCap({ groups, maxBytes: cap.maxBytes, usedBytes: roots.usedBytes(), marked, mark: markGroup, sizeOf: roots.sizeOf });
}

/**
 * Marks from a ref or a pin. What it reaches was all there when it was made: if something is missing, or cannot be read, damage has taken it, and with it the way to what
 * lies below, which may still be there and be of use to a repair.
 */
function markWhole(mark: Mark, { name, target }: { name: string; target: RefTarget }, marked: Set<ObjectKey>, onMark?: (key: ObjectKey) => void): void {
  let missing: RefTarget | undefined;
  try {
    [missing] = mark([target], marked, onMark);
  } catch (error) {
    if (error instanceof HdError && error.code === 'OBJECT_CORRUPT') throw storeIncomplete(name, error.message, error);
    throw error;
  }
  if (missing !== undefined) throw storeIncomplete(name, `the store has no ${missing.kind} ${missing.digest}`);
}

/** Marks what is there, and leaves what is missing to be found by `markWhole`. */
function markPresent(mark: Mark, roots: Iterable<RefTarget>, marked: Set<ObjectKey>, onMark?: (key: ObjectKey) => void): void {
  for (const { kind, digest } of mark(roots, marked, onMark)) marked.delete(objectKey(kind, digest));
}
