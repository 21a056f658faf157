import type { BigIntStats } from 'node:fs';
import { closeSync, openSync, readdirSync, readlinkSync } from 'node:fs';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { fromBuffer, hostPath, isErrno, joinBytes, lstatIfAny } from '@hyperdocker/base';
import type { Store, Tree, TreeEntry } from '@hyperdocker/cas';
import { isOpaqueOrMoved } from '@hyperdocker/mount';
import { digestOf } from './version-at.ts';

/** As in a tree, with slashes and no leading one. */
export interface LiveChange { path: ByteString; change: 'added' | 'changed' | 'removed'; kind: TreeEntry['kind'] }

export interface LiveView {
  store: Store;
  /** What was put in place: what is the same as in it was not written from inside. */
  applied: TreeDigest;
  upper: string;
  merged: string;
  /** What the container runtime makes for its mounts. */
  skip: ReadonlySet<ByteString>;
  /** Looks only at these, and only into these directories. All where it is left out. */
  wanted?: (path: ByteString, isDirectory: boolean) => boolean;
}

/**
 * What processes inside have written over the tree that was put in place: contents, kinds, modes, owners and link targets count, times do not. Of a directory that is gone only
 * itself is told, of a new one all that is in it. They may go on writing meanwhile: each path is as it was at some moment.
 */
export function liveChanges(view: LiveView): LiveChange[] {
  return [...new Walk(view).directory('' as ByteString, view.applied, false)];
}

const KINDS: [is: (stats: BigIntStats) => boolean, kind: TreeEntry['kind']][] = [
  [(stats) => stats.isFile(), 'file'],
  [(stats) => stats.isDirectory(), 'dir'],
  [(stats) => stats.isSymbolicLink(), 'symlink'],
  [(stats) => stats.isFIFO(), 'fifo'],
  [(stats) => stats.isSocket(), 'socket'],
  [(stats) => stats.isCharacterDevice(), 'char'],
];

class Walk {
  readonly #view: LiveView;

  constructor(view: LiveView) {
    this.#view = view;
  }

  /**
   * @param before the directory as it was put in place; undefined: there was none
   * @param whole look at all of it: what the kernel merges here is not what was put in place at this path
   */
  *directory(path: ByteString, before: TreeDigest | undefined, whole: boolean): Generator<LiveChange> {
    const known: Tree = before === undefined ? [] : this.#view.store.getTree(before);
    const written = namesIn(hostPath(whole ? this.#view.merged : this.#view.upper, path));
    const names = new Set(whole ? [...written, ...known.map(({ name }) => name)] : written);
    const entries = new Map(known.map((entry) => [entry.name, entry]));
    for (const name of [...names].sort()) {
      const child = joinBytes(path, name);
      if (!this.#view.skip.has(child)) yield* this.#entry(child, entries.get(name), whole);
    }
  }

  *#entry(path: ByteString, before: TreeEntry | undefined, whole: boolean): Generator<LiveChange> {
    const found = lstatIfAny(hostPath(this.#view.merged, path));
    if (this.#view.wanted?.(path, found?.isDirectory() ?? before?.kind === 'dir') === false) return;
    if (found === undefined) {
      if (before !== undefined) yield { path, change: 'removed', kind: before.kind };
      return;
    }
    const kind = KINDS.find(([is]) => is(found))?.[1] ?? 'block';
    const same = before?.kind === kind && sameMeta(before, found) && (before.kind === 'dir' || this.#sameContent(path, before, found));
    const below = kind === 'dir' ? this.#below(path, before, whole) : [];
    if (before === undefined && this.#madeForMounts(path, below)) return;
    if (!same) yield { path, change: before === undefined ? 'added' : 'changed', kind };
    yield* below;
  }

  #below(path: ByteString, before: TreeEntry | undefined, whole: boolean): LiveChange[] {
    const isOther = whole || before?.kind !== 'dir' || isOpaqueOrMoved(hostPath(this.#view.upper, path));
    return [...this.directory(path, before?.kind === 'dir' ? before.digest : undefined, isOther)];
  }

  /** A directory that is there only as the way to a mount. */
  #madeForMounts(path: ByteString, below: readonly LiveChange[]): boolean {
    return below.length === 0 && [...this.#view.skip].some((target) => target.startsWith(`${path}/`));
  }

  #sameContent(path: ByteString, before: TreeEntry, found: BigIntStats): boolean {
    const host = hostPath(this.#view.merged, path);
    try {
      if (before.kind === 'symlink') return fromBuffer(readlinkSync(host, { encoding: 'buffer' })) === before.target;
      if (before.kind === 'file') return BigInt(before.size) === found.size && hashFile(host) === before.digest;
      return true;
    } catch (error) {
      if (isErrno(error, 'ENOENT', 'EINVAL')) return false;
      throw error;
    }
  }
}

function sameMeta(before: TreeEntry, found: BigIntStats): boolean {
  if (before.kind === 'whiteout') return false;
  if (before.kind !== 'symlink' && BigInt(before.mode) !== (found.mode & 0o7777n)) return false;
  return BigInt(before.meta?.uid ?? 0) === found.uid && BigInt(before.meta?.gid ?? 0) === found.gid;
}

function namesIn(dir: string | Buffer): ByteString[] {
  try {
    return readdirSync(dir, { encoding: 'buffer' }).map(fromBuffer);
  } catch (error) {
    // Not copied up, or gone by now.
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}

function hashFile(path: string | Buffer): BlobDigest {
  const fd = openSync(path, 'r');
  try {
    return digestOf(fd);
  } finally {
    closeSync(fd);
  }
}
