import { existsSync } from 'node:fs';
import type { NodeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import { envRef } from '@hyperdocker/environment';
import type { ProjectPlace } from './project.ts';

/** The roots that an environment has had, newest first: what names of roots in commands stand for. */
export interface KnownRoots extends Disposable {
  store: Store;
  /** Of the last build. */
  current: NodeDigest;
  /** Of the build before that had another one. */
  previous: NodeDigest | undefined;
  /** `current`, `previous`, or the first four or more digits of a digest. @throws HdError NO_SUCH_ROOT */
  resolve(name: string): NodeDigest;
}

const LEAST_DIGITS = 4;

/** Opens the store for reading. @throws HdError NOT_BUILT */
export function openRoots({ home, project, paths }: ProjectPlace): KnownRoots {
  const notBuilt = new HdError('NOT_BUILT', `${project.dir} has not been built yet`, { hint: 'run `hd up` or `hd build` first' });
  if (!existsSync(home.storeDir)) throw notBuilt;
  const store = openStore(home.storeDir, { nodeLinks, readOnly: true });
  try {
    const [current, before] = (['root', 'previous'] as const).map((what) => store.getRef(envRef(paths.id, what))?.target.digest as NodeDigest | undefined);
    if (current === undefined) throw notBuilt;
    const previous = before !== undefined && store.hasNode(before) ? before : undefined;
    return { store, current, previous, resolve: (name) => resolveRoot(store, paths.id, name, { current, previous }), [Symbol.dispose]: () => store[Symbol.dispose]() };
  } catch (error) {
    store[Symbol.dispose]();
    throw error;
  }
}

function resolveRoot(store: Store, envId: string, name: string, { current, previous }: { current: NodeDigest; previous: NodeDigest | undefined }): NodeDigest {
  if (name === 'current') return current;
  if (name === 'previous') {
    if (previous === undefined) throw new HdError('NO_SUCH_ROOT', 'there is no previous root: this environment has had only one');
    return previous;
  }
  if (!/^[0-9a-f]+$/.test(name) || name.length < LEAST_DIGITS || name.length > 64) {
    throw new HdError('NO_SUCH_ROOT', `${name} does not name a root`, { hint: '`current`, `previous`, or the first digits of a DAG root as `hd build` and `hd dag show` print it' });
  }
  const known = new Set(['root', 'previous'].flatMap((what) => store.reflog(envRef(envId, what as 'root')).map(({ target }) => target.digest)));
  const found = [...known].filter((digest) => digest.startsWith(name));
  if (found.length > 1) throw new HdError('NO_SUCH_ROOT', `${name} is the beginning of ${found.length} roots`, { hint: 'give more digits' });
  const digest = (found[0] ?? name) as NodeDigest;
  if (digest.length === 64 && store.hasNode(digest)) return digest;
  throw new HdError('NO_SUCH_ROOT', found.length === 0 ? `this environment has had no root ${name}` : `the root ${digest} is no longer in the store`, {
    hint: found.length === 0 ? '`hd dag show` prints the current one' : 'garbage collection keeps the current and the previous root of each environment',
  });
}
