import { closeSync, mkdirSync, openSync, readSync, readdirSync, renameSync, rmSync, statSync, utimesSync } from 'node:fs';
import type { Hash } from 'node:crypto';
import { join } from 'node:path';
import { isErrno, processStartTime } from '@hyperdocker/base';

const READ_BYTES = 1 << 20;
/** What nobody has gone on with for so long goes. */
const KEEP_MS = 7 * 24 * 60 * 60 * 1000;

/** Of this process, by their paths. */
const inUse = new Set<string>();
let count = 0;

/**
 * Blobs on their way, under `<digest>.<pid>-<start>` in one directory, so that what a process did not finish, however it ended, another one goes on with. Taking one over is a rename: only one
 * can have it.
 */
export class PartialDownloads {
  readonly #dir: string;

  /** @param dir is made when it is needed */
  constructor(dir: string) {
    this.#dir = dir;
  }

  /** A file for a blob, with what there is of it. */
  take(digest: string): string {
    mkdirSync(this.#dir, { recursive: true, mode: 0o700 });
    const hex = digest.replace('sha256:', '');
    const own = join(this.#dir, `${hex}.${process.pid}-${processStartTime(process.pid) ?? '0'}-${count++}`);
    const candidates = this.#names().filter((name) => name.startsWith(`${hex}.`) && this.#isFree(name)).map((name) => ({ name, size: statSync(join(this.#dir, name), { throwIfNoEntry: false })?.size ?? -1 }));
    const [best] = candidates.sort((a, b) => b.size - a.size);
    if (best === undefined || !tryRename(join(this.#dir, best.name), own)) closeSync(openSync(own, 'wx', 0o600));
    inUse.add(own);
    return own;
  }

  /** Done with the file: it is removed, or left for the next who wants the blob. */
  give(path: string, { keep }: { keep: boolean }): void {
    inUse.delete(path);
    if (!keep || statSync(path, { throwIfNoEntry: false })?.size === 0) rmSync(path, { force: true });
    else utimesSync(path, new Date(), new Date());
  }

  /** What nobody wants any more goes: after a week, or, with `all`, at once. Returns the bytes. */
  sweep(nowMs: number, { all = false, dryRun = false }: { all?: boolean; dryRun?: boolean } = {}): number {
    let freedBytes = 0;
    for (const name of this.#names()) {
      const path = join(this.#dir, name);
      const stats = statSync(path, { throwIfNoEntry: false });
      if (stats === undefined || (!all && nowMs - stats.mtimeMs <= KEEP_MS) || !this.#isFree(name)) continue;
      freedBytes += 512 * stats.blocks;
      if (!dryRun) rmSync(path, { force: true });
    }
    return freedBytes;
  }

  #isFree(name: string): boolean {
    const [, pid = '', start = ''] = /\.(\d+)-(\d+)-\d+$/.exec(name) ?? [];
    if (processStartTime(Number(pid)) !== start) return true;
    return Number(pid) === process.pid && !inUse.has(join(this.#dir, name));
  }

  #names(): string[] {
    try {
      return readdirSync(this.#dir);
    } catch (error) {
      if (isErrno(error, 'ENOENT')) return [];
      throw error;
    }
  }
}

/** Hashes what a file holds already. Returns its bytes. */
export function hashSoFar(path: string, hash: Hash): number {
  const fd = openSync(path, 'r');
  try {
    const piece = Buffer.allocUnsafe(READ_BYTES);
    let total = 0;
    for (let read = readSync(fd, piece); read > 0; read = readSync(fd, piece)) {
      hash.update(piece.subarray(0, read));
      total += read;
    }
    return total;
  } finally {
    closeSync(fd);
  }
}

function tryRename(from: string, to: string): boolean {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return false;
    throw error;
  }
}
