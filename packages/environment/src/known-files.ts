import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';

/** What is known of a project's files, in the shape of its directories. */
export type Known = KnownFile | KnownLink | KnownDir | LeftOut | Unread;

/**
 * Inode and times tell whether something is still the same. Times in milliseconds as `lstat` gives them, exact to about 0.2 µs: asking for nanoseconds
 * makes objects of every number and doubles the cost of a walk, and what is trusted is older than `RACY_NS`, which is 100,000 times as long.
 */
export interface KnownStat { ino: number; mtimeMs: number; ctimeMs: number }

export interface KnownFile extends KnownStat {
  kind: 'file';
  executable: boolean;
  /** What was read. */
  size: number;
  digest: BlobDigest;
  shownMtimeNs: bigint;
  /** False: it may have changed since without its stat telling. */
  trusted: boolean;
}

export interface KnownLink extends KnownStat { kind: 'link'; target: ByteString; trusted: boolean }

/** Not part of the project: by the filter, or, where it is special (a pipe, a socket, a device), by what it is. */
export interface LeftOut { kind: 'left-out'; what: 'directory' | 'file' | 'special' }

/** In the project, and all else is still to be found out. */
export interface Unread { kind: 'unread' }
export const UNREAD: Unread = { kind: 'unread' };

/** What tells whether something is still the same, without the rest. */
export type Glimpse = Omit<KnownFile, 'digest' | 'shownMtimeNs'> | Omit<KnownLink, 'target'> | KnownDir | LeftOut | Unread;

/** Entries as they were read from a disk: of 14,700 files of which none has changed, none is made into an object. */
export interface PackedEntries {
  readonly names: readonly ByteString[];
  /** Without making an object of each. */
  hasNames(names: readonly ByteString[]): boolean;
  /** Good until the next call. */
  glimpse(index: number): Glimpse;
  unpack(): Known[];
}

export class KnownDir {
  readonly kind = 'dir';
  readonly parent: KnownDir | undefined;
  /** Counts by itself. Else it is there only for what it holds. */
  included: boolean;
  /** Of the contents; undefined while the store does not have them as they are. Then nothing above has them either. */
  trees: DirTrees | undefined;
  #names: readonly ByteString[] = [];
  #nodes: Known[] = [];
  #packed: PackedEntries | undefined;

  constructor(parent: KnownDir | undefined, included: boolean) {
    this.parent = parent;
    this.included = included;
  }

  /** In the order in which the host lists them: as long as that stays, comparing takes no look-up. */
  get names(): readonly ByteString[] {
    this.#unpack();
    return this.#names;
  }

  /** Of the same length. */
  get nodes(): readonly Known[] {
    this.#unpack();
    return this.#nodes;
  }

  hasNames(names: readonly ByteString[]): boolean {
    if (this.#packed !== undefined) return this.#packed.hasNames(names);
    return names.length === this.#names.length && names.every((name, index) => name === this.#names[index]);
  }

  glimpse(index: number): Glimpse | undefined {
    return this.#packed === undefined ? this.#nodes[index] : this.#packed.glimpse(index);
  }

  replace(index: number, node: Known): void {
    this.#unpack();
    this.#nodes[index] = node;
  }

  set(names: readonly ByteString[], nodes: Known[]): void {
    this.#names = names;
    this.#nodes = nodes;
    this.#packed = undefined;
  }

  pack(entries: PackedEntries): void {
    this.#packed = entries;
  }

  #unpack(): void {
    if (this.#packed !== undefined) this.set(this.#packed.names, this.#packed.unpack());
  }
}

export interface DirTrees {
  source: TreeDigest;
  projected: TreeDigest;
  /** Has no entries. */
  empty: boolean;
  /** Here and below. */
  files: number;
  bytes: number;
}

/** The contents of `dir` have changed. */
export function outdate(dir: KnownDir): void {
  for (let at: KnownDir | undefined = dir; at !== undefined; at = at.parent) at.trees = undefined;
}

/** Adds, replaces, or removes (`undefined`) an entry. */
export function setEntry(dir: KnownDir, name: ByteString, node: Known | undefined): void {
  const index = dir.names.indexOf(name);
  if (index >= 0 && node !== undefined) dir.replace(index, node);
  else if (index >= 0) dir.set(dir.names.toSpliced(index, 1), dir.nodes.toSpliced(index, 1));
  else if (node !== undefined) dir.set([...dir.names, name], [...dir.nodes, node]);
}

/** The path of a directory in its project, '' for the root; undefined for one that is no part of it any more. */
export function pathOf(dir: KnownDir, root: KnownDir): ByteString | undefined {
  const names: ByteString[] = [];
  let at = dir;
  while (at.parent !== undefined) {
    const name = at.parent.names[at.parent.nodes.indexOf(at)];
    if (name === undefined) return undefined;
    names.push(name);
    at = at.parent;
  }
  return at === root ? (names.reverse().join('/') as ByteString) : undefined;
}
