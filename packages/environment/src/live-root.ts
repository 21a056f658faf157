import type { BigIntStats } from 'node:fs';
import { closeSync, existsSync, fchmodSync, ftruncateSync, lstatSync, mkdirSync, openSync, readdirSync, renameSync, rmSync, rmdirSync, unlinkSync, constants } from 'node:fs';
import { join } from 'node:path';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { fromBuffer, hostPath, isErrno, joinBytes, writeAll } from '@hyperdocker/base';
import type { FileEntry, Store, TreeChange, TreeEntry } from '@hyperdocker/cas';
import { diffTrees } from '@hyperdocker/cas';
import type { FuseHost } from '@hyperdocker/mount';
import { detachBelow, materializeEntry, mountMemory, mountOverlay, setMetadata, unmount } from '@hyperdocker/mount';
import { keepVersion } from './clashes.ts';
import type { LiveChange, LiveView } from './live-changes.ts';
import { liveChanges } from './live-changes.ts';
import type { Lower, Projector } from './step-runner.ts';
import { fuseLower, mountLower } from './step-runner.ts';

/** A change from outside met one from inside. The outside's version is in place; the inside's is kept in a file. */
export interface Clash {
  path: ByteString;
  keptAt: string;
  inside: BlobDigest;
  /** Undefined: outside, it has been removed, or is no file any more. */
  host: BlobDigest | undefined;
}

export interface LiveRootOptions {
  /** What it is mounted with. */
  tree: TreeDigest;
  dir: string;
  clashesDir: string;
  overlay: 'disk' | 'memory';
  /** Told before and after the root is brought to another tree. */
  onApply?: (state: AppliedTree) => void;
}

/** `applying`: what it is being brought to, in whatever part that is done. */
export interface AppliedTree { applied: TreeDigest; applying?: TreeDigest }

/** The id of the FUSE host's mount. */
export const LIVE_MOUNT = 'live';

/**
 * The running environment's root file system: a frozen tree with a writable layer. Later versions of the tree are written
 * into it as ordinary file operations, so that the kernel's caches stay right and watchers inside see them.
 */
export class LiveRoot {
  readonly merged: string;
  readonly #store: Store;
  readonly #options: LiveRootOptions;
  #lower: Lower;
  /** What has been put in place so far, leaving aside what processes inside wrote. */
  #applied: TreeDigest;

  private constructor(store: Store, lower: Lower, options: LiveRootOptions, applied = options.tree) {
    this.#store = store;
    this.#lower = lower;
    this.#options = options;
    this.#applied = applied;
    this.merged = join(options.dir, 'merged');
  }

  static async mount(projector: Projector, options: LiveRootOptions): Promise<LiveRoot> {
    const { dir } = options;
    // Of a supervisor that died while it mounted, when this process is in its mount namespace.
    if (existsSync(dir)) detachBelow(dir);
    rmSync(dir, { recursive: true, force: true });
    mkdirSync(join(dir, 'writable'), { recursive: true, mode: 0o700 });
    if (options.overlay === 'memory') mountMemory(join(dir, 'writable'));
    return new LiveRoot(projector.store, await mountLayers(projector, options), options);
  }

  /** One that is mounted already, by a supervisor before. Finishes what that one had begun to write. */
  static adopt(projector: Projector & { fuse: FuseHost }, options: LiveRootOptions, { applied, applying }: AppliedTree, isSource: (path: ByteString) => boolean): { live: LiveRoot; clashes: Clash[] } {
    const live = new LiveRoot(projector.store, fuseLower(projector.fuse, LIVE_MOUNT, join(options.dir, 'lower')), options, applied);
    return { live, clashes: applying === undefined ? [] : live.apply(applying, isSource).clashes };
  }

  /** Mounts the same tree at the same place once more, where its server has died. What was written over it is still there. Nothing may run on it. */
  async mountAnew(projector: Projector): Promise<void> {
    detachBelow(this.merged);
    detachBelow(join(this.#options.dir, 'lower'));
    this.#lower = await mountLayers(projector, this.#options);
  }

  get mountedTree(): TreeDigest {
    return this.#options.tree;
  }

  get applied(): TreeDigest {
    return this.#applied;
  }

  /**
   * Brings the root from the tree that it shows to `next`. Returns what differed.
   * @param isSource tells the project's files, which are written in place as most editors do: the inode stays, and watchers
   * see it modified. Everything else gets a new inode, as package managers do: a running program or a mapped library
   * keeps the one that it has.
   */
  apply(next: TreeDigest, isSource: (path: ByteString) => boolean): { changes: TreeChange[]; clashes: Clash[] } {
    const changes = [...diffTrees(this.#store, this.#applied, next)];
    const clashes: Clash[] = [];
    if (changes.length > 0) this.#options.onApply?.({ applied: this.#applied, applying: next });
    // Removals first, deepest first: a directory may make room for a file of its name.
    for (const change of changes.toReversed()) {
      if (change.change === 'removed' || (change.change === 'changed' && change.before.kind !== change.after.kind)) this.#remove(change.path, change.before, clashes);
    }
    for (const change of changes) {
      if (change.change === 'added' || (change.change === 'changed' && change.before.kind !== change.after.kind)) this.#add(change.path, change.after, isSource, clashes);
      else if (change.change === 'changed') this.#change(change.path, change.before, change.after, isSource, clashes);
    }
    this.#applied = next;
    if (changes.length > 0) this.#options.onApply?.({ applied: next });
    return { changes, clashes };
  }

  /** What processes inside have written. @param skip paths that the container runtime makes for its own mounts */
  changes(skip: ReadonlySet<ByteString>, wanted?: LiveView['wanted']): LiveChange[] {
    return liveChanges({ store: this.#store, applied: this.#applied, upper: join(this.#options.dir, 'writable/upper'), merged: this.merged, skip, ...(wanted === undefined ? {} : { wanted }) });
  }

  async unmount(): Promise<void> {
    const { dir, overlay } = this.#options;
    await unmount(this.merged);
    // Of a server that has died there is nothing to hear, and its mount is gone all the same.
    await this.#lower.release().catch(() => {});
    if (overlay === 'memory') await unmount(join(dir, 'writable'));
    rmSync(dir, { recursive: true, force: true });
  }

  #remove(path: ByteString, before: TreeEntry, clashes: Clash[]): void {
    const host = this.#resolve(path);
    if (host === undefined) return;
    const found = lstatSync(host, { throwIfNoEntry: false });
    if (found === undefined) return;
    if (found.isDirectory()) {
      try {
        rmdirSync(host);
      } catch (error) {
        // Something inside put files of its own there; they stay.
        if (!isErrno(error, 'ENOTEMPTY', 'EEXIST')) throw error;
      }
      return;
    }
    if (before.kind === 'file' && found.isFile()) this.#keepForeign(host, path, { expected: [before.digest] }, clashes);
    unlinkSync(host);
  }

  #add(path: ByteString, after: TreeEntry, isSource: (path: ByteString) => boolean, clashes: Clash[]): void {
    const host = this.#resolve(path);
    if (host === undefined) return;
    const found = lstatSync(host, { throwIfNoEntry: false });
    if (found?.isDirectory() === true && after.kind === 'dir') return setMetadata(host, after);
    if (found !== undefined) {
      if (after.kind === 'file' && found.isFile()) return this.#meet(host, path, { before: undefined, after }, isSource, clashes);
      this.#keepForeignBelow(path, [], clashes);
      rmSync(host, { recursive: true });
    }
    // The directory's own entries follow as changes of their own.
    const entry = after.kind === 'dir' ? { ...after, digest: this.#store.putTree([]) } : after;
    materializeEntry(this.#store, this.merged, path, entry);
  }

  #change(path: ByteString, before: TreeEntry, after: TreeEntry, isSource: (path: ByteString) => boolean, clashes: Clash[]): void {
    const host = this.#resolve(path);
    if (host === undefined) return;
    const found = lstatSync(host, { throwIfNoEntry: false });
    if (found === undefined || before.kind !== 'file' || after.kind !== 'file' || !found.isFile()) {
      if (after.kind === 'dir' && found?.isDirectory() === true) return setMetadata(host, after);
      if (found !== undefined) {
        this.#keepForeignBelow(path, [before, after].flatMap((entry) => (entry.kind === 'file' ? [entry.digest] : [])), clashes);
        rmSync(host, { recursive: true });
      }
      return materializeEntry(this.#store, this.merged, path, after.kind === 'dir' ? { ...after, digest: this.#store.putTree([]) } : after);
    }
    if (before.digest === after.digest) return setMetadata(host, after);
    this.#meet(host, path, { before, after }, isSource, clashes);
  }

  /** A file where there is one. What is inside already, such as a file that was brought out, is not written once more: nobody there shall take it for an edit. */
  #meet(host: string | Buffer, path: ByteString, { before, after }: { before: FileEntry | undefined; after: FileEntry }, isSource: (path: ByteString) => boolean, clashes: Clash[]): void {
    const expected = [...(before === undefined ? [] : [before.digest]), after.digest];
    if (this.#keepForeign(host, path, { expected, host: after.digest }, clashes) !== after.digest) return this.#replace(host, path, after, isSource);
    if (!looksLike(lstatSync(host, { bigint: true }), after)) setMetadata(host, after);
  }

  #replace(host: string | Buffer, path: ByteString, after: FileEntry, isSource: (path: ByteString) => boolean): void {
    if (isSource(path) && (after.mode & 0o111) === 0) return this.#overwrite(host, after);
    const parent = path.slice(0, Math.max(path.lastIndexOf('/'), 0)) as ByteString;
    const fresh = joinBytes(parent, `.hd-${process.pid}-${after.digest.slice(0, 12)}` as ByteString);
    rmSync(hostPath(this.merged, fresh), { recursive: true, force: true });
    materializeEntry(this.#store, this.merged, fresh, after);
    renameSync(hostPath(this.merged, fresh), host);
  }

  #overwrite(host: string | Buffer, after: FileEntry): void {
    const bytes = this.#store.getBlob(after.digest);
    const fd = openSync(host, constants.O_WRONLY | constants.O_NOFOLLOW);
    try {
      // Writing before cutting: a reader that comes in between sees no empty file.
      writeAll(fd, bytes, 0);
      ftruncateSync(fd, bytes.length);
      fchmodSync(fd, after.mode);
    } finally {
      closeSync(fd);
    }
    setMetadata(host, after);
  }

  /** The same for all files of a directory that has to make room: what was ours in it has been removed before. */
  #keepForeignBelow(path: ByteString, expected: BlobDigest[], clashes: Clash[]): void {
    const host = hostPath(this.merged, path);
    const found = lstatSync(host);
    if (found.isFile()) this.#keepForeign(host, path, { expected }, clashes);
    if (!found.isDirectory()) return;
    for (const name of readdirSync(host, { encoding: 'buffer' }).map(fromBuffer)) this.#keepForeignBelow(joinBytes(path, name), [], clashes);
  }

  /** Saves a file that something inside has written, before it is replaced. Returns what it is. */
  #keepForeign(host: string | Buffer, path: ByteString, { expected, host: outside }: { expected: BlobDigest[]; host?: BlobDigest }, clashes: Clash[]): BlobDigest {
    const { digest } = this.#store.putFile(host);
    if (!expected.includes(digest)) clashes.push({ path, keptAt: keepVersion(this.#options.clashesDir, path, digest, host), inside: digest, host: outside });
    return digest;
  }

  /**
   * The host's path of a path inside, or undefined where a parent is no real directory any more: a link that something
   * inside has put there could lead anywhere on the host, and is never followed.
   */
  #resolve(path: ByteString): string | Buffer | undefined {
    const parts = path.split('/');
    for (let depth = 1; depth < parts.length; depth++) {
      const parent = hostPath(this.merged, parts.slice(0, depth).join('/') as ByteString);
      if (lstatSync(parent, { throwIfNoEntry: false })?.isDirectory() !== true) return undefined;
    }
    return hostPath(this.merged, path);
  }
}

/** Its times too. */
function looksLike(stats: BigIntStats, { mode, meta }: FileEntry): boolean {
  return meta !== undefined && (stats.mode & 0o7777n) === BigInt(mode) && stats.uid === BigInt(meta.uid) && stats.gid === BigInt(meta.gid) && stats.mtimeNs === meta.mtimeNs && meta.xattrs.length === 0;
}

/** The frozen tree, and the writable layer that may hold something already. */
async function mountLayers(projector: Projector, { tree, dir }: LiveRootOptions): Promise<Lower> {
  projector.store.flush();
  const lower = await mountLower(projector, LIVE_MOUNT, tree, join(dir, 'lower'));
  try {
    mountOverlay({ lower: lower.path, upper: join(dir, 'writable/upper'), work: join(dir, 'writable/work'), merged: join(dir, 'merged') });
  } catch (error) {
    await lower.release();
    throw error;
  }
  return lower;
}
