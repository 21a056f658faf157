import { closeSync, fstatSync, fsyncSync, futimesSync, lstatSync, mkdirSync, openSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { isDigest, isErrno, writeAll } from '@hyperdocker/base';
import { objectCorrupt, objectMissing, storeWrite } from './errors.ts';
import { hashFile, readAt, withFile } from './files.ts';
import { isAlive, ownProcess } from './process-id.ts';

/** How many files are remembered as verified. */
const MAX_VERIFIED = 100_000;
/** How exactly the time of the last use is kept. */
const USE_RESOLUTION_MS = 3_600_000;

export interface PromotedFile {
  digest: string;
  sizeBytes: number;
  /** When it was made. */
  mtimeMs: number;
  /** When it was last handed out, to the hour. */
  usedMs: number;
}

/**
 * Blobs as read-only files, `objects/<2 hex>/<62 hex>`: copies of what the packs hold, made for readers that need a file. They are not synced, so that one from before a
 * crash may be anything: no file is believed before this process has hashed it. The files that a store of format 1 left there are the only copy of their blobs.
 */
export class PromotedFiles {
  readonly #objectsDir: string;
  readonly #temporaryDir: string;
  /** digest → inode, time and size with which its bytes were seen to be right. */
  readonly #verified = new Map<string, string>();
  #counter = 0;

  constructor(dir: string) {
    this.#objectsDir = join(dir, 'objects');
    this.#temporaryDir = join(dir, 'tmp');
  }

  path(digest: string): string {
    return join(this.#objectsDir, digest.slice(0, 2), digest.slice(2));
  }

  /** Has this process seen that the file is right? It may have gone since. */
  isVerified(digest: string): boolean {
    return this.#verified.has(digest);
  }

  /** The next use verifies it again. */
  forget(digest: string): void {
    this.#verified.delete(digest);
  }

  /** Up to `length` bytes, verified. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  read(digest: string, offset: number, length: number): Buffer {
    return this.#open(digest, (fd) => {
      const sizeBytes = this.#verify(fd, digest);
      return readAt(fd, offset, Math.max(0, Math.min(length, sizeBytes - offset)));
    });
  }

  /** `again`: also where this process has seen that it is right. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  verify(digest: string, options: { again?: boolean } = {}): void {
    if (options.again === true) this.#verified.delete(digest);
    this.#open(digest, (fd) => void this.#verify(fd, digest));
  }

  /** Notes that the file is used now. Does nothing where that cannot be written. */
  touch(digest: string): void {
    try {
      withFile(this.path(digest), (fd) => {
        const { atimeMs, mtimeMs } = fstatSync(fd);
        if (Date.now() - atimeMs > USE_RESOLUTION_MS) futimesSync(fd, Date.now() / 1000, mtimeMs / 1000);
      });
    } catch (error) {
      if (!isErrno(error, 'ENOENT', 'EROFS', 'EPERM', 'EACCES', 'ENOSPC', 'EDQUOT', 'EIO')) throw error;
    }
  }

  /** Makes the file, or replaces it, from verified parts. @throws HdError STORE_WRITE, and what reading `parts` throws: no file is left then */
  make(digest: string, parts: Iterable<Uint8Array>): void {
    const temporary = this.#temporaryPath();
    const target = this.path(digest);
    let fd: number | undefined;
    try {
      fd = writing(temporary, () => openSync(temporary, 'wx', 0o444));
      for (const part of parts) writePart(fd, part, temporary);
      // What has a name here is whole, also after a power cut.
      writing(temporary, () => fsyncSync(fd!));
      const fact = factOf(fd);
      writing(target, () => {
        mkdirSync(dirname(target), { recursive: true });
        renameSync(temporary, target);
      });
      this.#remember(digest, fact.text);
    } catch (error) {
      removeIfPossible(temporary);
      throw error;
    } finally {
      if (fd !== undefined) closeSync(fd);
    }
  }

  /** @throws HdError STORE_WRITE */
  remove(digest: string): void {
    this.#verified.delete(digest);
    const path = this.path(digest);
    writing(path, () => rmSync(path, { force: true }));
  }

  /** All of them. */
  *list(): Generator<PromotedFile> {
    for (const prefix of readNames(this.#objectsDir)) {
      for (const rest of readNames(join(this.#objectsDir, prefix))) {
        const stats = lstatSync(join(this.#objectsDir, prefix, rest), { throwIfNoEntry: false });
        if (!isDigest(prefix + rest) || stats?.isFile() !== true) continue;
        yield { digest: prefix + rest, sizeBytes: stats.size, mtimeMs: stats.mtimeMs, usedMs: Math.max(stats.atimeMs, stats.mtimeMs) };
      }
    }
  }

  /** Temporary files of ended processes go. @throws HdError STORE_WRITE */
  removeAbandoned(): void {
    for (const name of readNames(this.#temporaryDir)) {
      const [pid, startTicks] = name.split('-');
      const path = join(this.#temporaryDir, name);
      if (!isAlive({ pid: Number(pid), startTicks: startTicks ?? '' })) writing(path, () => rmSync(path, { force: true }));
    }
  }

  #temporaryPath(): string {
    const { pid, startTicks } = ownProcess();
    return join(this.#temporaryDir, `${pid}-${startTicks}-${process.hrtime.bigint()}-${this.#counter++}`);
  }

  #open<T>(digest: string, use: (fd: number) => T): T {
    try {
      return withFile(this.path(digest), use);
    } catch (error) {
      throw isErrno(error, 'ENOENT') ? objectMissing('blob', digest) : error;
    }
  }

  /** @returns the size */
  #verify(fd: number, digest: string): number {
    const { text, sizeBytes } = factOf(fd);
    if (this.#verified.get(digest) === text) return sizeBytes;
    this.#verified.delete(digest);
    if (hashFile(fd, sizeBytes) !== digest) throw objectCorrupt('blob', digest, this.path(digest));
    this.#remember(digest, text);
    return sizeBytes;
  }

  #remember(digest: string, fact: string): void {
    if (this.#verified.size >= MAX_VERIFIED) this.#verified.clear();
    this.#verified.set(digest, fact);
  }
}

/** What changes if somebody writes to the file or puts another one in its place. */
function factOf(fd: number): { text: string; sizeBytes: number } {
  const { ino, mtimeNs, size } = fstatSync(fd, { bigint: true });
  return { text: `${ino} ${mtimeNs} ${size}`, sizeBytes: Number(size) };
}

/** Where it cannot be removed now, a later open does it. */
function removeIfPossible(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch {
    return;
  }
}

function writing<T>(path: string, write: () => T): T {
  try {
    return write();
  } catch (error) {
    throw storeWrite(path, error);
  }
}

function writePart(fd: number, bytes: Uint8Array, path: string): void {
  writing(path, () => writeAll(fd, bytes));
}

function readNames(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}
