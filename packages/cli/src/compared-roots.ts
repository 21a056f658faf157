import type { NodeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { Invocation } from './command.ts';
import { locateProject } from './project.ts';
import { openRoots } from './roots.ts';

/** The two roots that `hd diff` and `hd dag diff` are about: by default the previous one and the current one. */
export interface ComparedRoots extends Disposable { store: Store; before: NodeDigest; after: NodeDigest }

/** @throws HdError NOT_BUILT, NO_SUCH_ROOT */
export function compared(invocation: Invocation): ComparedRoots {
  const [before = 'previous', after = 'current'] = invocation.args;
  const roots = openRoots(locateProject(invocation));
  try {
    return { store: roots.store, before: roots.resolve(before), after: roots.resolve(after), [Symbol.dispose]: () => roots[Symbol.dispose]() };
  } catch (error) {
    roots[Symbol.dispose]();
    throw error;
  }
}
