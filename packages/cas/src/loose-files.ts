import { closeSync, fstatSync, lstatSync, mkdirSync, openSync, readSync, readdirSync, renameSync, rmSync, writeSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { hasher, isDigest, isErrno } from '@hyperdocker/base';
import { fileChanged, objectCorrupt, objectMissing, storeWrite } from './errors.ts';
import { BLOCK_BYTES, hashFile, readAt, syncPath, withFile } from './files.ts';
import { isAlive, ownProcess } from './process-id.ts';

/** How many loose files are remembered as verified. */
const MAX_VERIFIED = 100_000;

interface PendingFile {
  /** Where the bytes are until `publish`. */
  temporary: string | undefined;
  sizeBytes: number;
}

/**
 * Large blobs as read-only files of their own, `objects/<2 hex>/<62 hex>`. They are written under `tmp`, and get their name only once they are synced:
 * a file with a name is whole.
 */
export class LooseFiles {
  readonly #objectsDir: string;
  readonly #temporaryDir: string;
  readonly #pending = new Map<string, PendingFile>();
  /** digest → inode, time and size with which its bytes were seen to be right. */
  readonly #verified = new Map<string, string>();
  #counter = 0;

  constructor(dir: string) {
    this.#objectsDir = join(dir, 'objects');
    this.#temporaryDir = join(dir, 'tmp');
  }

  get pendingSizes(): Map<string, number> {
    return new Map([...this.#pending].map(([digest, { sizeBytes }]) => [digest, sizeBytes]));
  }

  isPending(digest: string): boolean {
    return this.#pending.has(digest);
  }

  /** The path that the file has or will have. */
  finalPath(digest: string): string {
    return join(this.#objectsDir, digest.slice(0, 2), digest.slice(2));
  }

  sizeOf(digest: string): number | undefined {
    const pending = this.#pending.get(digest);
    if (pending !== undefined) return pending.sizeBytes;
    return isDigest(digest) ? lstatSync(this.finalPath(digest), { throwIfNoEntry: false })?.size : undefined;
  }

  /** @throws HdError STORE_WRITE */
  put(digest: string, bytes: Uint8Array): void {
    const temporary = this.#create((write) => write(bytes));
    this.#pending.set(digest, { temporary, sizeBytes: bytes.byteLength });
  }

  /**
   * Copies and hashes at once, in bounded memory. `isKnown` tells whether the store has the blob already.
   * @throws HdError STORE_WRITE, FILE_CHANGED
   */
  copyIn(source: number, sizeBytes: number, path: string | Buffer, isKnown: (digest: string) => boolean): string {
    const stream = hasher.stream();
    let total = 0;
    const temporary = this.#create((write) => {
      const buffer = Buffer.allocUnsafe(BLOCK_BYTES);
      for (let got = readSync(source, buffer, 0, buffer.length, 0); got > 0; got = readSync(source, buffer, 0, buffer.length, total)) {
        const block = buffer.subarray(0, got);
        stream.update(block);
        write(block);
        total += got;
        if (total > sizeBytes) break;
      }
    });
    const digest = stream.digest();
    const changed = total !== sizeBytes || fstatSync(source).size !== sizeBytes;
    if (changed || isKnown(digest)) rmSync(temporary, { force: true });
    else this.#pending.set(digest, { temporary, sizeBytes });
    if (changed) throw fileChanged(path);
    return digest;
  }

  /** Up to `length` bytes of a verified file. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  read(digest: string, offset: number, length: number): Buffer {
    return this.#open(digest, (fd) => {
      this.#verify(fd, digest);
      return readAt(fd, offset, Math.max(0, Math.min(length, fstatSync(fd).size - offset)));
    });
  }

  /** @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  verify(digest: string, options: { again?: boolean } = {}): void {
    if (options.again === true) this.#verified.delete(digest);
    this.#open(digest, (fd) => this.#verify(fd, digest));
  }

  /** Syncs what was put and gives it its name. May be called again after a failure. @throws HdError STORE_WRITE */
  publish(): void {
    const directories = new Set<string>();
    for (const [digest, pending] of this.#pending) {
      const target = this.finalPath(digest);
      try {
        if (pending.temporary !== undefined) {
          syncPath(pending.temporary);
          if (mkdirSync(dirname(target), { recursive: true }) !== undefined) directories.add(this.#objectsDir);
          renameSync(pending.temporary, target);
          pending.temporary = undefined;
        }
        directories.add(dirname(target));
      } catch (error) {
        throw storeWrite(target, error);
      }
    }
    for (const directory of directories) syncPath(directory);
  }

  /** What was published is in the index now. */
  settle(): void {
    this.#pending.clear();
  }

  remove(digest: string): void {
    this.#verified.delete(digest);
    rmSync(this.finalPath(digest), { force: true });
  }

  /** Digests and stats of all named files. */
  *list(): Generator<{ digest: string; sizeBytes: number; mtimeMs: number }> {
    for (const prefix of readNames(this.#objectsDir)) {
      for (const rest of readNames(join(this.#objectsDir, prefix))) {
        const stats = lstatSync(join(this.#objectsDir, prefix, rest), { throwIfNoEntry: false });
        if (isDigest(prefix + rest) && stats?.isFile() === true) yield { digest: prefix + rest, sizeBytes: stats.size, mtimeMs: stats.mtimeMs };
      }
    }
  }

  /** Temporary files of ended processes go. */
  removeAbandoned(): void {
    for (const name of readNames(this.#temporaryDir)) {
      const [pid, startTicks] = name.split('-');
      if (!isAlive({ pid: Number(pid), startTicks: startTicks ?? '' })) rmSync(join(this.#temporaryDir, name), { force: true });
    }
  }

  /** @throws HdError STORE_WRITE, and what `fill` throws: no file is left then */
  #create(fill: (write: (bytes: Uint8Array) => void) => void): string {
    const { pid, startTicks } = ownProcess();
    const path = join(this.#temporaryDir, `${pid}-${startTicks}-${process.hrtime.bigint()}-${this.#counter++}`);
    const attempt = <T>(write: () => T): T => {
      try {
        return write();
      } catch (error) {
        throw storeWrite(path, error);
      }
    };
    const fd = attempt(() => openSync(path, 'wx', 0o444));
    try {
      fill((bytes) => attempt(() => writeAll(fd, bytes)));
    } catch (error) {
      rmSync(path, { force: true });
      throw error;
    } finally {
      closeSync(fd);
    }
    return path;
  }

  #open<T>(digest: string, use: (fd: number) => T): T {
    try {
      return withFile(this.#pending.get(digest)?.temporary ?? this.finalPath(digest), use);
    } catch (error) {
      throw isErrno(error, 'ENOENT') ? objectMissing('blob', digest) : error;
    }
  }

  #verify(fd: number, digest: string): void {
    const { ino, mtimeNs, size } = fstatSync(fd, { bigint: true });
    const fact = `${ino} ${mtimeNs} ${size}`;
    if (this.#verified.get(digest) === fact) return;
    if (hashFile(fd, Number(size)) !== digest) throw objectCorrupt('blob', digest, this.finalPath(digest));
    if (this.#verified.size >= MAX_VERIFIED) this.#verified.clear();
    this.#verified.set(digest, fact);
  }
}

function writeAll(fd: number, bytes: Uint8Array): void {
  for (let done = 0; done < bytes.byteLength; ) done += writeSync(fd, bytes, done, bytes.byteLength - done);
}

function readNames(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return [];
    throw error;
  }
}
