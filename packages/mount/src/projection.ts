import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { assert, joinBytes } from '@hyperdocker/base';
import type { DirEntry, EntryKind, Store, Tree, TreeEntry } from '@hyperdocker/cas';
import { Asked } from '@hyperdocker/engine';

/** Called with every question that reaches the file system. Paths are relative to the root. */
export type Observer = (path: ByteString, asked: number) => void;

export interface Attributes {
  /** By which it is asked for. Given out at first look-up. */
  ino: number;
  /** What `stat` shows: the same in every mount of the same tree. */
  shownIno: number;
  kind: EntryKind;
  mode: number;
  size: number;
  links: number;
  uid: number;
  gid: number;
  mtimeNs: bigint;
  major: number;
  minor: number;
}

export interface DirectoryItem { name: ByteString; ino: number; shownIno: number; kind: EntryKind }

/** Shown for entries without a time of their own. Any fixed time after 1980 (zip refuses earlier ones) will do. */
export const FIXED_MTIME_NS = 1_577_836_800_000_000_000n;
export const ROOT_INO = 1;

/** A directory that somebody has looked into. */
interface Directory {
  number: number;
  digest: TreeDigest;
  path: ByteString;
  tree: Tree | undefined;
  /** The generation in which it was used last. */
  usedIn: number;
  /** What `list` answers, made once: a large directory is listed in many pieces. */
  items: DirectoryItem[] | undefined;
  /** Of entries that somebody was told of. */
  paths: (ByteString | undefined)[];
}

/** An inode number is that of its directory, and the place there, from 1 on. The root's is directory 0, place 1. */
const PLACES = 2 ** 24;
const DEFAULT_USED_ENTRIES = 100_000;

/**
 * A whole tree as a read-only file system, without a kernel. The tree never changes; every answer may be cached for ever. An inode number says where in the tree an
 * entry is, so that only directories need memory, and of these what they hold can be let go of.
 */
export class Projection {
  readonly #store: Store;
  readonly #observe: Observer | undefined;
  readonly #root: DirEntry;
  /** By number; there is no directory 0. */
  readonly #directories: (Directory | undefined)[] = [undefined];
  readonly #directoryByIno = new Map<number, Directory>();
  /** Directories used in this generation and in the one before are kept; it ends when they have so many entries. */
  readonly #maxUsedEntries: number;
  #usedEntries = 0;
  #generation = 1;
  readonly #inoByLinkGroup = new Map<number, number>();
  /** Names of hard-linked inodes by which they were found, with whether their bytes were read. For the observer. */
  readonly #linked = new Map<number, { paths: ByteString[]; wasRead: boolean }>();
  /** Undefined once nobody can ask for attributes any more: then they count with each look-up. */
  #lookedUp: ByteString[] | undefined = [];

  /** @param maxUsedEntries up to twice as many entries of directories are kept at hand */
  constructor(store: Store, root: TreeDigest, observe?: Observer, maxUsedEntries = DEFAULT_USED_ENTRIES) {
    this.#store = store;
    this.#observe = observe;
    this.#maxUsedEntries = maxUsedEntries;
    this.#root = { kind: 'dir', name: '' as ByteString, mode: 0o755, digest: root };
  }

  /** `undefined`: no such name. */
  lookup(parentIno: number, name: ByteString): Attributes | undefined {
    const parent = this.#entry(parentIno);
    const directory = parent.kind === 'dir' ? this.#directory(parentIno, parent) : undefined;
    if (directory === undefined) return undefined;
    const tree = this.#treeOf(directory);
    const at = indexOf(tree, name);
    const entry = tree[at];
    const ino = entry === undefined ? 0 : this.#inoOf(directory, at, entry);
    const path = entry === undefined ? joinBytes(directory.path, name) : pathOf(directory, at, entry);
    if (this.#observe !== undefined) this.#noteLookup(path, ino, entry);
    return entry === undefined ? undefined : attributesOf(ino, path, entry);
  }

  attributes(ino: number): Attributes {
    this.#tell(ino, Asked.stat);
    return ino === ROOT_INO ? attributesOf(ino, this.#root.name, this.#root) : this.#at(ino, (directory, at, entry) => attributesOf(ino, pathOf(directory, at, entry), entry));
  }

  /** Valid until the next read. */
  read(ino: number, offset: number, length: number): Buffer {
    const entry = this.#entry(ino);
    assert(entry.kind === 'file', 'read of something that is no file');
    const linked = this.#linked.get(ino);
    if (linked !== undefined) linked.wasRead = true;
    this.#tell(ino, Asked.content);
    return this.#store.lendBlob(entry.digest, offset, length);
  }

  readlink(ino: number): ByteString {
    const entry = this.#entry(ino);
    assert(entry.kind === 'symlink', 'readlink of something that is no link');
    this.#tell(ino, Asked.target);
    return entry.target;
  }

  /** All entries, in the tree's order, without `.` and `..`. */
  list(ino: number): DirectoryItem[] {
    this.#tell(ino, Asked.listing);
    const entry = this.#entry(ino);
    if (entry.kind !== 'dir') return [];
    const directory = this.#directory(ino, entry);
    return (directory.items ??= this.#treeOf(directory).map((child, at) => {
      return { name: child.name, ino: this.#inoOf(directory, at, child), shownIno: shownInode(pathOf(directory, at, child), child), kind: child.kind };
    }));
  }

  xattrs(ino: number): readonly (readonly [ByteString, Uint8Array])[] {
    this.#tell(ino, Asked.xattrs);
    return this.#entry(ino).meta?.xattrs ?? [];
  }

  /**
   * Call when the kernel is told that there are no extended attributes: it will answer that by itself from then on. Whoever looked
   * a path up may have been told so about it.
   */
  attributesAreOver(): void {
    for (const path of this.#lookedUp ?? []) this.#observe?.(path, Asked.xattrs);
    this.#lookedUp = undefined;
  }

  #noteLookup(path: ByteString, ino: number, entry: TreeEntry | undefined): void {
    this.#observe?.(path, Asked.stat);
    if (entry === undefined) return;
    if (this.#lookedUp === undefined) this.#observe?.(path, Asked.xattrs);
    else this.#lookedUp.push(path);
    if ((entry.meta?.linkGroup ?? 0) === 0) return;
    const linked = this.#linked.get(ino) ?? { paths: [], wasRead: false };
    this.#linked.set(ino, linked);
    if (!linked.paths.includes(path)) linked.paths.push(path);
    // The bytes that were read through another name of the inode are in the kernel's cache: reading them again is not seen here.
    if (linked.wasRead) this.#observe?.(path, Asked.content);
  }

  /** Which name of an inode was meant is not known: all count by which it was found. */
  #tell(ino: number, asked: number): void {
    if (this.#observe === undefined) return;
    if (ino === ROOT_INO) return this.#observe(this.#root.name, asked);
    const linked = this.#linked.get(ino);
    if (linked === undefined) this.#observe(this.#at(ino, pathOf), asked);
    else for (const path of linked.paths) this.#observe(path, asked);
  }

  #entry(ino: number): TreeEntry {
    return ino === ROOT_INO ? this.#root : this.#at(ino, (_, at, entry) => entry);
  }

  #at<T>(ino: number, use: (directory: Directory, at: number, entry: TreeEntry) => T): T {
    const number = Math.floor(ino / PLACES);
    const directory = this.#directories[number];
    const at = ino - number * PLACES - 1;
    const entry = directory === undefined ? undefined : this.#treeOf(directory)[at];
    assert(directory !== undefined && entry !== undefined, `inode ${ino} was never given out`);
    return use(directory, at, entry);
  }

  #directory(ino: number, { digest }: DirEntry): Directory {
    const known = this.#directoryByIno.get(ino);
    if (known !== undefined) return known;
    const path = ino === ROOT_INO ? this.#root.name : this.#at(ino, pathOf);
    const directory: Directory = { number: this.#directories.length, digest, path, tree: undefined, usedIn: 0, items: undefined, paths: [] };
    this.#directories.push(directory);
    this.#directoryByIno.set(ino, directory);
    return directory;
  }

  /** What has not been looked at since as much else was is let go of. */
  #treeOf(directory: Directory): Tree {
    if (directory.tree !== undefined && directory.usedIn === this.#generation) return directory.tree;
    const tree = (directory.tree ??= this.#store.getTree(directory.digest));
    directory.usedIn = this.#generation;
    this.#usedEntries += tree.length;
    if (this.#usedEntries > this.#maxUsedEntries) {
      for (const other of this.#directories) if (other !== undefined && other.usedIn < this.#generation) [other.tree, other.items, other.paths] = [undefined, undefined, []];
      this.#generation++;
      this.#usedEntries = 0;
    }
    return tree;
  }

  /** Of hard links that of the name that was found first. */
  #inoOf(directory: Directory, at: number, entry: TreeEntry): number {
    const ino = directory.number * PLACES + at + 1;
    const group = entry.meta?.linkGroup ?? 0;
    if (group === 0) return ino;
    const first = this.#inoByLinkGroup.get(group) ?? ino;
    this.#inoByLinkGroup.set(group, first);
    return first;
  }
}

function pathOf(directory: Directory, at: number, entry: TreeEntry): ByteString {
  return (directory.paths[at] ??= joinBytes(directory.path, entry.name));
}

/** -1: there is none. Names are in the order of their bytes, which is that of strings of bytes. */
function indexOf(tree: Tree, name: ByteString): number {
  let [low, high] = [0, tree.length - 1];
  while (low <= high) {
    const middle = (low + high) >>> 1;
    const found = tree[middle]?.name ?? name;
    if (found === name) return middle;
    if (found < name) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

function attributesOf(ino: number, path: ByteString, entry: TreeEntry): Attributes {
  const meta = entry.meta;
  return {
    ino,
    shownIno: ino === ROOT_INO ? ROOT_INO : shownInode(path, entry),
    kind: entry.kind,
    mode: entry.mode,
    size: entry.kind === 'file' ? entry.size : entry.kind === 'symlink' ? entry.target.length : 0,
    // A directory with one link tells `find` and others not to count subdirectories by it.
    links: meta?.links ?? 1,
    uid: meta?.uid ?? 0,
    gid: meta?.gid ?? 0,
    mtimeNs: meta?.mtimeNs ?? FIXED_MTIME_NS,
    major: 'major' in entry ? entry.major : 0,
    minor: 'minor' in entry ? entry.minor : 0,
  };
}

/**
 * Of the path (of hard links, their group) and the content: programs that remember files by their inodes, such as git, know them again in the next mount, and know that a
 * file with another content is another one. 53 bits, made quickly: two of a hundred thousand files meet once in a million trees.
 */
function shownInode(path: ByteString, entry: TreeEntry): number {
  const group = entry.meta?.linkGroup ?? 0;
  const seed = entry.kind === 'file' ? parseInt(entry.digest.slice(0, 8), 16) : 0;
  return SHOWN_FROM + hash53(group === 0 ? path : `/${group}`, seed) % (Number.MAX_SAFE_INTEGER - SHOWN_FROM);
}

const SHOWN_FROM = 16;

/** cyrb53. */
function hash53(text: string, seed: number): number {
  let [high, low] = [0xdeadbeef ^ seed, 0x41c6ce57 ^ seed];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    high = Math.imul(high ^ code, 2_654_435_761);
    low = Math.imul(low ^ code, 1_597_334_677);
  }
  high = Math.imul(high ^ (high >>> 16), 2_246_822_507) ^ Math.imul(low ^ (low >>> 13), 3_266_489_909);
  low = Math.imul(low ^ (low >>> 16), 2_246_822_507) ^ Math.imul(high ^ (high >>> 13), 3_266_489_909);
  return 2 ** 32 * (low & 0x1fffff) + (high >>> 0);
}
