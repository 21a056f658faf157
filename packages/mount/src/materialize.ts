import { chmodSync, copyFileSync, constants, lchownSync, linkSync, mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync, existsSync } from 'node:fs';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, assert, hostPath, joinBytes, sys, toBuffer, unreachable } from '@hyperdocker/base';
import type { EntryKind, FileEntry, Store, TreeEntry } from '@hyperdocker/cas';
import { FIXED_MTIME_NS } from './projection.ts';

/**
 * A tree as real files, for machines without FUSE. The directory is named by the tree's digest and never written to again,
 * so it is made once and may be the lower of any number of overlays. A half-made one is never visible under its name.
 */
export function materialize(store: Store, tree: TreeDigest, cacheDir: string): string {
  const target = `${cacheDir}/${tree}`;
  if (existsSync(target)) return target;
  const partial = `${target}.${process.pid}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true, mode: 0o755 });
  new Materializer(store, partial).directory('' as ByteString, tree);
  chmodSync(partial, 0o755); // whatever the umask is
  sys().setTimes(partial, FIXED_MTIME_NS, FIXED_MTIME_NS);
  try {
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(target)) throw new HdError('MATERIALIZE', `cannot make ${target}`, { cause: error });
  }
  return target;
}

/** Writes one entry at `path` below `dir`, replacing nothing: the caller has removed what was there. */
export function materializeEntry(store: Store, dir: string, path: ByteString, entry: TreeEntry): void {
  new Materializer(store, dir).entry(path, entry);
}

const KIND_BITS: Partial<Record<EntryKind, number>> = { char: 0o020000, block: 0o060000, fifo: 0o010000, socket: 0o140000 };

class Materializer {
  readonly #store: Store;
  readonly #dir: string;
  readonly #linked = new Map<number, string | Buffer>();

  constructor(store: Store, dir: string) {
    this.#store = store;
    this.#dir = dir;
  }

  directory(path: ByteString, tree: TreeDigest): void {
    for (const entry of this.#store.getTree(tree)) this.entry(joinBytes(path, entry.name), entry);
  }

  entry(path: ByteString, entry: TreeEntry): void {
    const host = hostPath(this.#dir, path);
    switch (entry.kind) {
      case 'file':
        if (this.#link(host, entry)) return;
        this.#file(host, entry);
        break;
      case 'dir':
        mkdirSync(host);
        this.directory(path, entry.digest);
        break;
      case 'symlink':
        symlinkSync(toBuffer(entry.target), host);
        break;
      case 'char':
      case 'block':
        sys().makeNode(host, (KIND_BITS[entry.kind] ?? 0) | entry.mode, entry.major, entry.minor);
        break;
      case 'fifo':
      case 'socket':
        sys().makeNode(host, (KIND_BITS[entry.kind] ?? 0) | entry.mode, 0, 0);
        break;
      case 'whiteout':
        return assert(false, 'a whole tree has no whiteouts');
      default:
        unreachable(entry);
    }
    setMetadata(host, entry);
  }

  /** True when another name of the same inode was there to link to. */
  #link(host: string | Buffer, entry: FileEntry): boolean {
    const group = entry.meta?.linkGroup ?? 0;
    if (group === 0) return false;
    const first = this.#linked.get(group);
    if (first === undefined) {
      this.#linked.set(group, host);
      return false;
    }
    linkSync(first, host);
    return true;
  }

  #file(host: string | Buffer, entry: FileEntry): void {
    const backing = this.#store.blobFile(entry.digest);
    if (backing === undefined) writeFileSync(host, this.#store.getBlob(entry.digest), { flag: 'wx' });
    else copyFileSync(backing, host, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
  }
}

/** Owner first: changing it clears the set-uid bits. Times last: everything else changes them. */
export function setMetadata(host: string | Buffer, entry: TreeEntry): void {
  const meta = entry.meta;
  if (meta !== undefined) lchownSync(host, meta.uid, meta.gid);
  if (entry.kind !== 'symlink') chmodSync(host, entry.mode);
  for (const [name, value] of meta?.xattrs ?? []) sys().setXattr(host, name, value);
  const mtimeNs = meta?.mtimeNs ?? FIXED_MTIME_NS;
  sys().setTimes(host, mtimeNs, mtimeNs);
}
