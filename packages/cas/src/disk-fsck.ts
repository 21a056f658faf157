import { HdError } from '@hyperdocker/base';
import type { FsckOptions, FsckProblem, FsckResult, RefTarget } from './contract.ts';
import type { IndexRow, ObjectIndex } from './object-index.ts';
import type { ObjectKey } from './reach.ts';
import type { RefStore } from './ref-store.ts';

interface FsckSpace {
  index: ObjectIndex;
  refs: RefStore;
  /** Reads the row's object from where it lies and checks it, past all caches. @throws HdError */
  verify(row: IndexRow): void;
  /** Adds all that the roots reach; tells what the store lacks of it. */
  mark(roots: Iterable<RefTarget>, marked: Set<ObjectKey>): { missing: RefTarget[] };
}

/** Reads objects, all of them or a sample, and walks what refs need. */
export function checkStore(space: FsckSpace, options: FsckOptions): FsckResult {
  const problems: FsckProblem[] = [];
  const sample = options.sample ?? 1;
  let objectsChecked = 0;
  for (const row of space.index.all()) {
    if (sample < 1 && Math.random() >= sample) continue;
    objectsChecked++;
    const problem = problemOf(() => space.verify(row));
    if (problem !== undefined) problems.push({ kind: row.kind, digest: row.digest, problem, names: [], repaired: false });
  }
  problems.push(...refProblems(space));
  return { objectsChecked, problems };
}

/** What refs need and the store cannot give. All at once first, since mostly all is well. */
function refProblems(space: FsckSpace): FsckProblem[] {
  const refs = space.refs.list('');
  if (lostFrom(space, refs.map(({ ref }) => ref.target)).length === 0) return [];
  return refs.flatMap(({ name, ref: { target } }) =>
    lostFrom(space, [target]).map((problem): FsckProblem => ({ kind: 'ref', digest: target.digest, problem: `ref ${name}: ${problem}`, names: [{ ref: name, path: '' }], repaired: false })),
  );
}

function lostFrom(space: FsckSpace, targets: RefTarget[]): string[] {
  const lost: string[] = [];
  const unreadable = problemOf(() => {
    for (const { kind, digest } of space.mark(targets, new Set()).missing) lost.push(`${kind} ${digest} is missing`);
  });
  return unreadable === undefined ? lost : [unreadable];
}

function problemOf(check: () => void): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof HdError) return error.message;
    throw error;
  }
}
