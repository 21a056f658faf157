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

/** A name for one inode. A hard-linked file has several. */
interface Inode {
  ino: number;
  shownIno: number;
  entry: TreeEntry;
  paths: ByteString[];
  /** Of a directory, filled at the first look. */
  children: Map<ByteString, TreeEntry> | undefined;
  tree: Tree | undefined;
  /** What `list` answers, made once: a large directory is listed in many pieces. */
  items: DirectoryItem[] | undefined;
  wasRead: boolean;
}

/**
 * A whole tree as a read-only file system, without a kernel: inode numbers given out at first look-up and kept, so that
 * they are stable for the life of the mount. The tree never changes; every answer may be cached for ever.
 */
export class Projection {
  readonly #store: Store;
  readonly #observe: Observer | undefined;
  readonly #inodes: (Inode | undefined)[] = [undefined];
  readonly #inoByPath = new Map<ByteString, number>();
  readonly #inoByLinkGroup = new Map<number, number>();
  /** Undefined once nobody can ask for attributes any more: then they count with each look-up. */
  #lookedUp: ByteString[] | undefined = [];

  constructor(store: Store, root: TreeDigest, observe?: Observer) {
    this.#store = store;
    this.#observe = observe;
    this.#add('' as ByteString, { kind: 'dir', name: '' as ByteString, mode: 0o755, digest: root });
  }

  /** `undefined`: no such name. */
  lookup(parentIno: number, name: ByteString): Attributes | undefined {
    const parent = this.#inode(parentIno);
    const parentPath = parent.paths[0] ?? ('' as ByteString);
    const path = joinBytes(parentPath, name);
    this.#observe?.(path, Asked.stat);
    const entry = this.#children(parent)?.get(name);
    if (entry === undefined) return undefined;
    if (this.#lookedUp === undefined) this.#observe?.(path, Asked.xattrs);
    else if (this.#observe !== undefined) this.#lookedUp.push(path);
    const ino = this.#inoFor(path, entry);
    // The bytes that were read through another name of the inode are in the kernel's cache: reading them again is not seen here.
    if (this.#inode(ino).wasRead) this.#observe?.(path, Asked.content);
    return this.#attributes(ino);
  }

  attributes(ino: number): Attributes {
    const inode = this.#inode(ino);
    for (const path of inode.paths) this.#observe?.(path, Asked.stat);
    return this.#attributes(ino);
  }

  read(ino: number, offset: number, length: number): Buffer {
    const inode = this.#inode(ino);
    assert(inode.entry.kind === 'file', 'read of something that is no file');
    inode.wasRead = true;
    for (const path of inode.paths) this.#observe?.(path, Asked.content);
    return this.#store.readBlob(inode.entry.digest, offset, length);
  }

  readlink(ino: number): ByteString {
    const { entry, paths } = this.#inode(ino);
    assert(entry.kind === 'symlink', 'readlink of something that is no link');
    for (const path of paths) this.#observe?.(path, Asked.target);
    return entry.target;
  }

  /** All entries, in the tree's order, without `.` and `..`. */
  list(ino: number): DirectoryItem[] {
    const inode = this.#inode(ino);
    const path = inode.paths[0] ?? ('' as ByteString);
    this.#observe?.(path, Asked.listing);
    this.#children(inode);
    return (inode.items ??= (inode.tree ?? []).map((entry) => this.#item(joinBytes(path, entry.name), entry)));
  }

  #item(path: ByteString, entry: TreeEntry): DirectoryItem {
    const { ino, shownIno } = this.#inode(this.#inoFor(path, entry));
    return { name: entry.name, ino, shownIno, kind: entry.kind };
  }

  xattrs(ino: number): readonly (readonly [ByteString, Uint8Array])[] {
    const { entry, paths } = this.#inode(ino);
    for (const path of paths) this.#observe?.(path, Asked.xattrs);
    return entry.meta?.xattrs ?? [];
  }

  /**
   * Call when the kernel is told that there are no extended attributes: it will answer that by itself from then on. Whoever looked
   * a path up may have been told so about it.
   */
  attributesAreOver(): void {
    for (const path of this.#lookedUp ?? []) this.#observe?.(path, Asked.xattrs);
    this.#lookedUp = undefined;
  }

  get inodes(): number {
    return this.#inodes.length - 1;
  }

  #inode(ino: number): Inode {
    const inode = this.#inodes[ino];
    assert(inode !== undefined, `inode ${ino} was never given out`);
    return inode;
  }

  #children(inode: Inode): Map<ByteString, TreeEntry> | undefined {
    if (inode.children === undefined && inode.entry.kind === 'dir') {
      inode.tree = this.#store.getTree((inode.entry as DirEntry).digest);
      inode.children = new Map(inode.tree.map((entry) => [entry.name, entry]));
    }
    return inode.children;
  }

  #inoFor(path: ByteString, entry: TreeEntry): number {
    const known = this.#inoByPath.get(path);
    if (known !== undefined) return known;
    const group = entry.meta?.linkGroup ?? 0;
    const linked = group === 0 ? undefined : this.#inoByLinkGroup.get(group);
    if (linked !== undefined) {
      this.#inode(linked).paths.push(path);
      this.#inoByPath.set(path, linked);
      return linked;
    }
    return this.#add(path, entry);
  }

  #add(path: ByteString, entry: TreeEntry): number {
    const ino = this.#inodes.length;
    this.#inodes.push({ ino, shownIno: ino === ROOT_INO ? ROOT_INO : shownInode(path, entry), entry, paths: [path], children: undefined, tree: undefined, items: undefined, wasRead: false });
    this.#inoByPath.set(path, ino);
    const group = entry.meta?.linkGroup ?? 0;
    if (group !== 0) this.#inoByLinkGroup.set(group, ino);
    return ino;
  }

  #attributes(ino: number): Attributes {
    const { entry, shownIno } = this.#inode(ino);
    const meta = entry.meta;
    return {
      ino,
      shownIno,
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
