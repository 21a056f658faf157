import { assert } from '@hyperdocker/base';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { DirEntry, Meta, Store, TreeEntry } from './contract.ts';
import { DEFAULT_DIR_MODE, notADirectory, splitPath } from './tree-ops.ts';

type Unnamed<T> = T extends unknown ? Omit<T, 'name'> & { name?: ByteString } : never;
/** A directory whose contents are still being set, so that it has no digest yet. */
export type OpenDirEntry = Unnamed<Omit<DirEntry, 'digest'>> & { digest?: TreeDigest };
/** What `TreeBuilder.set` takes. The name is the path's; a name given here is ignored. */
export type BuilderEntry = Unnamed<Exclude<TreeEntry, DirEntry>> | OpenDirEntry;

interface DirNode {
  kind: 'dir';
  mode: number;
  meta?: Meta;
  opaque?: boolean;
  /** Of the contents, while they are what the store has. */
  digest?: TreeDigest;
  /** Undefined until someone looks below; then `digest` tells what to load. */
  children?: Map<ByteString, Child>;
}
type LeafNode = Unnamed<Exclude<TreeEntry, DirEntry>>;
type Child = DirNode | LeafNode;

/**
 * A mutable tree in memory, for making a tree from a flat list of paths: ingest, image layers, step outputs. Starts empty or from a
 * stored tree, of which only the directories on touched paths are read. `finish` writes only what changed.
 *
 * Layers as deltas: set `whiteout` entries and `opaque` directories. Layers laid directly on a tree: `remove` and `clear`.
 * Hard links: `get` the target and `set` what it returned under the new path.
 */
export class TreeBuilder {
  readonly #store: Store;
  readonly #root: DirNode;

  constructor(store: Store, base?: TreeDigest) {
    this.#store = store;
    this.#root = { kind: 'dir', mode: DEFAULT_DIR_MODE, ...(base === undefined ? { children: new Map() } : { digest: base }) };
  }

  /**
   * Adds or replaces. Missing parents are made, mode 0o755. A directory without a digest takes the new mode, meta and opaque mark and
   * keeps what was set below it; with one, it holds that tree.
   * @throws HdError NOT_A_DIRECTORY where a parent is something else: resolve links and replace files first.
   */
  set(path: ByteString, entry: BuilderEntry): void {
    const [parents, name] = splitLast(path);
    const siblings = this.#open(this.#makeChain(parents));
    siblings.set(name, entry.kind === 'dir' ? makeDir(entry, siblings.get(name)) : entry);
  }

  /** Removes the entry and all below it. False: there was none. */
  remove(path: ByteString): boolean {
    const [parents, name] = splitLast(path);
    const chain = this.#findChain(parents);
    if (chain === undefined || !this.#children(chain.at(-1)!).has(name)) return false;
    return this.#open(chain).delete(name);
  }

  /** Empties a directory (`''`: the root). False: there is none. */
  clear(path: ByteString): boolean {
    const chain = this.#findChain(splitPath(path));
    if (chain === undefined) return false;
    this.#open(chain).clear();
    return true;
  }

  /** The entry now at `path`. A directory that was changed has no digest before `finish`. Does not follow links. */
  get(path: ByteString): TreeEntry | (OpenDirEntry & { name: ByteString }) | undefined {
    if (path === '') return undefined;
    const [parents, name] = splitLast(path);
    const chain = this.#findChain(parents);
    const child = chain === undefined ? undefined : this.#children(chain.at(-1)!).get(name);
    if (child === undefined) return undefined;
    if (child.kind !== 'dir') return { ...child, name };
    return { name, kind: 'dir', mode: child.mode, ...described(child), ...(child.digest === undefined ? {} : { digest: child.digest }) };
  }

  /** Names in the directory at `path`, in order; undefined where there is no directory. */
  list(path: ByteString): ByteString[] | undefined {
    const chain = this.#findChain(splitPath(path));
    return chain === undefined ? undefined : [...this.#children(chain.at(-1)!).keys()].sort();
  }

  /** Stores all changed directories. The builder may be used on. */
  finish(): TreeDigest {
    return this.#finishDir(this.#root);
  }

  #finishDir(node: DirNode): TreeDigest {
    if (node.digest === undefined) {
      const entries: TreeEntry[] = [];
      for (const [name, child] of node.children ?? []) {
        entries.push(child.kind === 'dir' ? { name, kind: 'dir', mode: child.mode, digest: this.#finishDir(child), ...described(child) } : { ...child, name });
      }
      node.digest = this.#store.putTree(entries);
    }
    return node.digest;
  }

  /** The directories from the root to `names`. */
  #findChain(names: ByteString[]): DirNode[] | undefined {
    const chain = [this.#root];
    for (const name of names) {
      const child = this.#children(chain.at(-1)!).get(name);
      if (child?.kind !== 'dir') return undefined;
      chain.push(child);
    }
    return chain;
  }

  #makeChain(names: ByteString[]): DirNode[] {
    const chain = [this.#root];
    for (const [depth, name] of names.entries()) {
      const siblings = this.#children(chain.at(-1)!);
      let child = siblings.get(name);
      if (child === undefined) siblings.set(name, (child = { kind: 'dir', mode: DEFAULT_DIR_MODE, children: new Map() }));
      if (child.kind !== 'dir') throw notADirectory(names.slice(0, depth + 1));
      chain.push(child);
    }
    return chain;
  }

  /** The last directory of `chain`, for change: everything on the way loses its digest. */
  #open(chain: DirNode[]): Map<ByteString, Child> {
    const last = this.#children(chain.at(-1)!);
    for (const node of chain) delete node.digest;
    return last;
  }

  #children(node: DirNode): Map<ByteString, Child> {
    if (node.children === undefined) {
      assert(node.digest !== undefined, 'a directory that is not loaded has a digest');
      node.children = new Map(this.#store.getTree(node.digest).map((entry) => [entry.name, entry.kind === 'dir' ? makeDir(entry, undefined) : entry]));
    }
    return node.children;
  }
}

function splitLast(path: ByteString): [parents: ByteString[], name: ByteString] {
  const names = splitPath(path);
  const name = names.pop();
  assert(name !== undefined, 'the root is no entry');
  return [names, name];
}

function described(node: Pick<DirNode, 'meta' | 'opaque'>): { meta?: Meta; opaque?: boolean } {
  return { ...(node.meta === undefined ? {} : { meta: node.meta }), ...(node.opaque === true ? { opaque: true } : {}) };
}

function makeDir(entry: OpenDirEntry, present: Child | undefined): DirNode {
  const node: DirNode = { kind: 'dir', mode: entry.mode, ...described(entry) };
  if (entry.digest !== undefined) node.digest = entry.digest;
  else if (present?.kind !== 'dir') node.children = new Map();
  else {
    if (present.digest !== undefined) node.digest = present.digest;
    if (present.children !== undefined) node.children = present.children;
  }
  return node;
}
