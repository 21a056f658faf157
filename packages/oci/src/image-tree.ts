import { HdError, toText } from '@hyperdocker/base';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { DirEntry, FileEntry, Meta, Store, TreeEntry } from '@hyperdocker/cas';
import type { TarEntry } from './tar-reader.ts';

type Unnamed<T> = T extends unknown ? Omit<T, 'name' | 'meta'> : never;
/** All of an entry that its names share. Hard links are two names of one object. */
type Leaf = Unnamed<Exclude<TreeEntry, DirEntry | FileEntry>> & { meta: OwnMeta } | { kind: 'file'; mode: number; content: StoredFile; meta: OwnMeta };
type OwnMeta = Omit<Meta, 'linkGroup' | 'links'>;
interface Directory { kind: 'dir'; mode: number; meta: OwnMeta | undefined; names: Map<ByteString, Name> }
/** `layer`: the one that last set this name, or something below it. A layer's whiteouts hide only what older layers set. */
interface Name { node: Directory | Leaf; layer: number }

/** The content of a file entry. Its digest may come later, but before the tree is finished. */
export type StoredFile = Pick<FileEntry, 'digest' | 'size'>;

const WHITEOUT = '.wh.';
const OPAQUE = '.wh..wh..opq';
/** Other names of AUFS's own, such as `.wh..wh.plnk`. */
const AUFS_PRIVATE = '.wh..wh.';
const PATH_BYTES_MAX = 4096;
const NAME_BYTES_MAX = 255;
const DEPTH_MAX = 2048;
const SYMLINK_HOPS_MAX = 40;
const TIME_NS_MAX = (1n << 63n) - 1n;

/**
 * An image's file system in memory while layers are laid over it, with Docker's rules, and nothing of it on disk.
 *
 * Paths are resolved inside this tree alone: symbolic links among the parents are followed as `chroot` would, so nothing can
 * lead out. `..` in a member's name, names that Linux cannot hold, and links to what is not there are errors.
 */
export class ImageTree {
  readonly #store: Store;
  readonly #root: Directory = { kind: 'dir', mode: 0o755, meta: undefined, names: new Map() };
  #layer = 0;

  constructor(store: Store, base?: TreeDigest) {
    this.#store = store;
    if (base !== undefined) this.#load(base, this.#root, new Map());
  }

  /** Whiteouts from here on hide what is there now. */
  beginLayer(): void {
    this.#layer++;
  }

  /** Applies one member of the current layer; `file` holds the content of a file. @throws HdError LAYER_INVALID */
  add(entry: TarEntry, file: StoredFile | undefined): void {
    const parts = pathParts(entry.name, 'the name');
    const name = parts.pop();
    if (name === undefined) {
      // The root has no entry of its own in a tree: `./` only says that it is there.
      if (entry.kind !== 'dir') throw invalid(entry.name, 'the root must be a directory');
    } else if (name.startsWith(WHITEOUT)) this.#whiteout(entry.name, parts, name);
    else if (entry.kind === 'dir') this.#addDirectory(this.#parent(entry.name, parts), name, entry);
    else this.#place(this.#parent(entry.name, parts), name, entry.kind === 'link' ? this.#linkTarget(entry) : makeLeaf(entry, file));
  }

  /** Stores all directories. Hard-link groups are numbered in path order, so equal images have equal digests. */
  finish(): TreeDigest {
    const links = new Map<Leaf, number>();
    countLinks(this.#root, links);
    return this.#finishDirectory(this.#root, links, new Map());
  }

  #load(digest: TreeDigest, into: Directory, groups: Map<number, Leaf>): void {
    for (const entry of this.#store.getTree(digest)) {
      const { name, meta, ...rest } = entry;
      const own = { uid: meta?.uid ?? 0, gid: meta?.gid ?? 0, mtimeNs: meta?.mtimeNs ?? 0n, xattrs: meta?.xattrs ?? [] };
      if (rest.kind === 'dir') {
        const directory: Directory = { kind: 'dir', mode: rest.mode, meta: own, names: new Map() };
        into.names.set(name, { node: directory, layer: 0 });
        this.#load(rest.digest, directory, groups);
      } else {
        const group = meta?.linkGroup ?? 0;
        const leaf = groups.get(group) ?? (rest.kind === 'file' ? { kind: 'file', mode: rest.mode, content: { digest: rest.digest, size: rest.size }, meta: own } : ({ ...rest, meta: own } as Leaf));
        if (group !== 0) groups.set(group, leaf);
        into.names.set(name, { node: leaf, layer: 0 });
      }
    }
  }

  #addDirectory(parent: Directory, name: ByteString, entry: TarEntry): void {
    const present = parent.names.get(name);
    const directory: Directory = present?.node.kind === 'dir' ? present.node : { kind: 'dir', mode: 0, meta: undefined, names: new Map() };
    directory.mode = entry.mode;
    directory.meta = metaOf(entry);
    this.#place(parent, name, directory);
  }

  #place(parent: Directory, name: ByteString, node: Directory | Leaf): void {
    parent.names.set(name, { node, layer: this.#layer });
  }

  #linkTarget(entry: TarEntry): Leaf {
    const parts = pathParts(entry.linkName, 'the link target');
    const name = parts.pop();
    const node = name === undefined ? undefined : this.#resolve(entry.name, parts, false)?.names.get(name)?.node;
    if (node === undefined) throw invalid(entry.name, `a hard link to ${quote(entry.linkName)}, which is not there`);
    if (node.kind === 'dir') throw invalid(entry.name, `a hard link to the directory ${quote(entry.linkName)}`);
    return node;
  }

  #whiteout(path: ByteString, parents: ByteString[], marker: ByteString): void {
    const directory = this.#resolve(path, parents, false);
    if (marker === OPAQUE) {
      if (directory !== undefined) this.#hideOlder(directory);
      return;
    }
    if (marker.startsWith(AUFS_PRIVATE)) return;
    const name = marker.slice(WHITEOUT.length) as ByteString;
    if (name === '' || name === '.' || name === '..') throw invalid(path, 'a whiteout of no name');
    const hidden = directory?.names.get(name);
    if (hidden === undefined || directory === undefined) return;
    if (hidden.layer !== this.#layer) directory.names.delete(name);
    else if (hidden.node.kind === 'dir') this.#hideOlder(hidden.node);
  }

  #hideOlder(directory: Directory): void {
    for (const [name, { node, layer }] of directory.names) {
      if (layer !== this.#layer) directory.names.delete(name);
      else if (node.kind === 'dir') this.#hideOlder(node);
    }
  }

  #parent(path: ByteString, parts: ByteString[]): Directory {
    const parent = this.#resolve(path, parts, true);
    if (parent === undefined) throw invalid(path, 'it lies below something that is no directory');
    return parent;
  }

  /** The directory at `parts`, links followed inside the root. `make`: missing ones are made and those passed count as this layer's. */
  #resolve(path: ByteString, parts: ByteString[], make: boolean): Directory | undefined {
    const stack = [this.#root];
    const todo = parts.toReversed();
    let hops = 0;
    for (let part = todo.pop(); part !== undefined; part = todo.pop()) {
      if (part === '..') {
        if (stack.length > 1) stack.pop();
        continue;
      }
      const current = stack.at(-1) ?? this.#root;
      let name = current.names.get(part);
      if (name === undefined) {
        if (!make) return undefined;
        name = { node: { kind: 'dir', mode: 0o755, meta: undefined, names: new Map() }, layer: this.#layer };
        current.names.set(part, name);
      }
      if (name.node.kind === 'dir') {
        if (make) name.layer = this.#layer;
        if (stack.push(name.node) > DEPTH_MAX) throw invalid(path, `more than ${DEPTH_MAX} directories deep`);
      } else if (name.node.kind === 'symlink') {
        if (++hops > SYMLINK_HOPS_MAX) throw invalid(path, 'too many symbolic links among its parents');
        if (name.node.target.startsWith('/')) stack.length = 1;
        todo.push(...splitTarget(name.node.target).reverse());
      } else return undefined;
    }
    return stack.at(-1);
  }

  #finishDirectory(directory: Directory, links: Map<Leaf, number>, groups: Map<Leaf, number>): TreeDigest {
    const entries: TreeEntry[] = [];
    for (const [name, { node }] of sorted(directory)) {
      if (node.kind === 'dir') {
        const digest = this.#finishDirectory(node, links, groups);
        entries.push({ name, kind: 'dir', mode: node.mode, digest, meta: { ...(node.meta ?? NO_META), linkGroup: 0, links: 1 } });
        continue;
      }
      const count = links.get(node) ?? 1;
      let group = 0;
      if (count > 1) groups.set(node, (group = groups.get(node) ?? groups.size + 1));
      const meta = { ...node.meta, linkGroup: group, links: count };
      if (node.kind === 'file') entries.push({ kind: 'file', name, mode: node.mode, digest: node.content.digest, size: node.content.size, meta });
      else entries.push({ ...node, name, meta } as TreeEntry);
    }
    return this.#store.putTree(entries);
  }
}

/** Of directories that no layer lists. */
const NO_META: OwnMeta = { uid: 0, gid: 0, mtimeNs: 0n, xattrs: [] };

function countLinks(directory: Directory, links: Map<Leaf, number>): void {
  for (const { node } of directory.names.values()) {
    if (node.kind === 'dir') countLinks(node, links);
    else links.set(node, (links.get(node) ?? 0) + 1);
  }
}

function sorted(directory: Directory): [ByteString, Name][] {
  return [...directory.names].sort(([a], [b]) => (a < b ? -1 : 1));
}

function makeLeaf(entry: TarEntry, file: StoredFile | undefined): Leaf {
  const common = { mode: entry.mode, meta: metaOf(entry) };
  switch (entry.kind) {
    case 'file':
      if (file === undefined) throw invalid(entry.name, 'a file without content');
      return { kind: 'file', ...common, content: file };
    case 'symlink':
      if (entry.linkName === '' || entry.linkName.includes('\0') || entry.linkName.length > PATH_BYTES_MAX) throw invalid(entry.name, 'a symbolic link with an impossible target');
      return { kind: 'symlink', ...common, mode: 0o777, target: entry.linkName };
    case 'char':
    case 'block':
      return { kind: entry.kind, ...common, major: entry.major, minor: entry.minor };
    default:
      return { kind: 'fifo', ...common };
  }
}

function metaOf(entry: TarEntry): OwnMeta {
  const xattrs = entry.xattrs.filter(([name]) => !name.startsWith('trusted.overlay.')).sort(([a], [b]) => (a < b ? -1 : 1));
  if (xattrs.some(([name]) => name === '' || name.includes('\0') || name.length > NAME_BYTES_MAX)) throw invalid(entry.name, 'an extended attribute with an impossible name');
  return { uid: entry.uid, gid: entry.gid, mtimeNs: clampTime(entry.mtimeNs), xattrs };
}

function clampTime(ns: bigint): bigint {
  return ns > TIME_NS_MAX ? TIME_NS_MAX : ns < -TIME_NS_MAX ? -TIME_NS_MAX : ns;
}

/** Components of a member's path, from the root whether or not it starts with `/`. */
function pathParts(path: ByteString, what: string): ByteString[] {
  if (path.length > PATH_BYTES_MAX) throw invalid(path, `${what} is longer than ${PATH_BYTES_MAX} bytes`);
  if (path === '' || path.includes('\0')) throw invalid(path, `${what} is empty or has a NUL`);
  const parts = path.split('/').filter((part) => part !== '' && part !== '.') as ByteString[];
  for (const part of parts) {
    if (part === '..') throw invalid(path, `${what} holds ".."`);
    if (part.length > NAME_BYTES_MAX) throw invalid(path, `${what} has a component longer than ${NAME_BYTES_MAX} bytes`);
  }
  return parts;
}

function splitTarget(target: ByteString): ByteString[] {
  return target.split('/').filter((part) => part !== '' && part !== '.') as ByteString[];
}

function quote(path: ByteString): string {
  return JSON.stringify(toText(path.length > 200 ? (`${path.slice(0, 200)}…` as ByteString) : path));
}

function invalid(path: ByteString, why: string): HdError {
  return new HdError('LAYER_INVALID', `bad layer member ${quote(path)}: ${why}`, { hint: 'the image is damaged or hostile: build or fetch it again' });
}
