import type { BigIntStats } from 'node:fs';
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { assert, fromBuffer, hostPath, inUserNamespace, joinBytes, lstatIfAny, sys, toByteString } from '@hyperdocker/base';
import type { DirEntry, EntryKind, Meta, Store, Tree, TreeEntry } from '@hyperdocker/cas';
import { applyDelta, linkGroupFor, lookupPath, walkTree } from '@hyperdocker/cas';
import { Asked } from '@hyperdocker/engine';
import type { Observer } from './projection.ts';

const PREFIX = inUserNamespace() ? 'user.overlay.' : 'trusted.overlay.';
const OPAQUE = toByteString(`${PREFIX}opaque`);
const REDIRECT = toByteString(`${PREFIX}redirect`);
const S_IFMT = 0o170000n;

/**
 * What was written over `base`, read from an overlay's upper directory, as a delta. Nobody may write to it meanwhile.
 * @param skip paths that the container runtime makes for its own mounts; nothing at or below them is captured.
 * @param onCarried called with all that the delta holds of `base` without its having been read: a directory of the lower that was renamed
 *   is not copied up, so that no file system sees its files being asked for. A trace must count them.
 */
export function captureUpper(store: Store, upper: string, base: TreeDigest, skip: ReadonlySet<ByteString>, onCarried?: Observer): TreeDigest {
  const capture = new Capture(store, upper, base, skip, onCarried);
  return store.putTree(capture.directory('' as ByteString, '' as ByteString));
}

/** Whether the directory of an upper is merged with nothing, or with another one than that of its own path. False where there is none. */
export function isOpaqueOrMoved(host: string | Buffer): boolean {
  return lstatIfAny(host) !== undefined && (sys().getXattr(host, REDIRECT) !== undefined || sys().getXattr(host, OPAQUE)?.toString() === 'y');
}

/** Everything about an entry that it takes along when it is moved. */
const CARRIED: Partial<Record<EntryKind, number>> = { file: Asked.content, dir: Asked.listing, symlink: Asked.target };

class Capture {
  readonly #store: Store;
  readonly #upper: string;
  readonly #base: TreeDigest;
  readonly #skip: ReadonlySet<ByteString>;
  readonly #onCarried: Observer | undefined;
  /** Hard links: device inode → its group, made at the first name met. */
  readonly #groups = new Map<bigint, number>();
  readonly #sys = sys();

  constructor(store: Store, upper: string, base: TreeDigest, skip: ReadonlySet<ByteString>, onCarried: Observer | undefined) {
    this.#store = store;
    this.#upper = upper;
    this.#base = base;
    this.#skip = skip;
    this.#onCarried = onCarried;
  }

  /** @param lowerPath what the kernel merges this directory with: another path after a rename of a lower directory. */
  directory(path: ByteString, lowerPath: ByteString): Tree {
    const names = readdirSync(hostPath(this.#upper, path), { encoding: 'buffer' }).map(fromBuffer);
    const entries: TreeEntry[] = [];
    for (const name of names) {
      const child = joinBytes(path, name);
      if (this.#skip.has(child)) continue;
      const entry = this.#entry(child, name, joinBytes(lowerPath, name));
      if (!this.#madeForMounts(child, entry)) entries.push(entry);
    }
    return entries;
  }

  /** A directory that is there only as the way to a mount of the runtime. */
  #madeForMounts(path: ByteString, entry: TreeEntry): boolean {
    if (entry.kind !== 'dir' || this.#store.getTree(entry.digest).length > 0) return false;
    return [...this.#skip].some((target) => target.startsWith(`${path}/`)) && lookupPath(this.#store, this.#base, path) === undefined;
  }

  #entry(path: ByteString, name: ByteString, lowerPath: ByteString): TreeEntry {
    const host = hostPath(this.#upper, path);
    const stats = lstatSync(host, { bigint: true });
    const mode = Number(stats.mode & 0o7777n);
    if (stats.isDirectory()) return this.#directoryEntry(path, name, lowerPath, stats, mode);
    const [major, minor] = device(stats.rdev);
    if (stats.isCharacterDevice() && major === 0 && minor === 0) return { kind: 'whiteout', name, mode: 0 };
    if (stats.isFile()) {
      const { digest, size } = this.#store.putFile(host);
      return { kind: 'file', name, mode, digest, size, meta: this.#meta(host, stats, path, digest) };
    }
    const meta = this.#meta(host, stats, path, '');
    if (stats.isSymbolicLink()) return { kind: 'symlink', name, mode, target: fromBuffer(readlinkSync(host, { encoding: 'buffer' })), meta };
    if (stats.isCharacterDevice()) return { kind: 'char', name, mode, major, minor, meta };
    if (stats.isBlockDevice()) return { kind: 'block', name, mode, major, minor, meta };
    if (stats.isFIFO()) return { kind: 'fifo', name, mode, meta };
    assert(stats.isSocket(), `unknown kind of file, mode ${stats.mode & S_IFMT}`);
    return { kind: 'socket', name, mode, meta };
  }

  #directoryEntry(path: ByteString, name: ByteString, lowerPath: ByteString, stats: BigIntStats, mode: number): DirEntry {
    const host = hostPath(this.#upper, path);
    const meta = this.#meta(host, stats, path, '');
    const redirect = this.#sys.getXattr(host, REDIRECT);
    const opaque = this.#sys.getXattr(host, OPAQUE)?.toString() === 'y';
    if (redirect === undefined || opaque) {
      return { kind: 'dir', name, mode, digest: this.#store.putTree(this.directory(path, lowerPath)), meta, ...(opaque ? { opaque: true } : {}) };
    }
    // A renamed directory of the lower. Its new name gets all that it holds, so that the delta needs no notion of renames.
    const target = fromBuffer(redirect);
    const source = (target.startsWith('/') ? target.slice(1) : joinBytes(parentOf(lowerPath), target)) as ByteString;
    const below = lookupPath(this.#store, this.#base, source);
    if (below?.kind === 'dir' && this.#onCarried !== undefined) this.#carry(source, below, this.#onCarried);
    const changes = this.#store.putTree(this.directory(path, source));
    const digest = below?.kind === 'dir' ? applyDelta(this.#store, below.digest, changes) : changes;
    return { kind: 'dir', name, mode, digest, meta, opaque: true };
  }

  #carry(path: ByteString, entry: DirEntry, onCarried: Observer): void {
    const carry = (at: ByteString, kind: EntryKind): void => onCarried(at, Asked.stat | Asked.xattrs | (CARRIED[kind] ?? 0));
    carry(path, 'dir');
    for (const { path: below, entry: { kind } } of walkTree(this.#store, entry.digest)) carry(joinBytes(path, below), kind);
  }

  #meta(host: string | Buffer, stats: BigIntStats, path: ByteString, digest: string): Meta {
    const xattrs = this.#sys.listXattrs(host).filter((key) => !key.startsWith(PREFIX)).sort();
    const linked = stats.nlink > 1n && !stats.isDirectory();
    if (linked && !this.#groups.has(stats.ino)) this.#groups.set(stats.ino, linkGroupFor(path, digest));
    return {
      uid: Number(stats.uid),
      gid: Number(stats.gid),
      mtimeNs: stats.mtimeNs,
      xattrs: xattrs.map((key) => [key, this.#sys.getXattr(host, key) ?? Buffer.alloc(0)] as const),
      linkGroup: linked ? (this.#groups.get(stats.ino) ?? 0) : 0,
      links: linked ? Number(stats.nlink) : 1,
    };
  }
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(path.lastIndexOf('/'), 0)) as ByteString;
}

function device(rdev: bigint): [major: number, minor: number] {
  return [Number((rdev >> 8n) & 0xfffn), Number((rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n))];
}
