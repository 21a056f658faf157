import { closeSync, fstatSync, fsyncSync, openSync, readSync } from 'node:fs';
import { hasher } from '@hyperdocker/base';
import { fileChanged, storeWrite } from './errors.ts';

/** Files larger than this pass through memory in pieces of it. */
export const BLOCK_BYTES = 1 << 20;

/** Up to `length` bytes at `offset`; shorter only at the end of the file. */
export function readAt(fd: number, offset: number, length: number): Buffer {
  const buffer = Buffer.allocUnsafe(length);
  return buffer.subarray(0, fillFrom(fd, buffer, offset));
}

/** Fills `into` from `offset` on. @returns how many bytes there were: fewer only at the end of the file */
export function fillFrom(fd: number, into: Buffer, offset: number): number {
  let done = 0;
  for (let got = -1; got !== 0 && done < into.length; done += got) got = readSync(fd, into, done, into.length - done, offset + done);
  return done;
}

/** @throws HdError FILE_CHANGED */
export function readWhole(path: string | Buffer): Buffer {
  return withFile(path, (fd) => readStable(fd, fstatSync(fd).size, path));
}

/** A file that has, and keeps, `size` bytes. @throws HdError FILE_CHANGED */
export function readStable(fd: number, size: number, path: string | Buffer): Buffer {
  // One byte more, to notice a file that grows.
  const buffer = readAt(fd, 0, size + 1);
  if (buffer.length !== size) throw fileChanged(path);
  return buffer;
}

/** Digest of an open file, in bounded memory. */
export function hashFile(fd: number, size: number): string {
  if (size <= BLOCK_BYTES) return hasher.hash(readAt(fd, 0, size));
  const stream = hasher.stream();
  const buffer = Buffer.allocUnsafe(BLOCK_BYTES);
  for (let offset = 0; ; ) {
    const got = readSync(fd, buffer, 0, buffer.length, offset);
    if (got === 0) return stream.digest();
    stream.update(buffer.subarray(0, got));
    offset += got;
  }
}

/** A file or a directory. @throws HdError STORE_WRITE */
export function syncPath(path: string): void {
  try {
    withFile(path, fsyncSync);
  } catch (error) {
    throw storeWrite(path, error);
  }
}

export function withFile<T>(path: string | Buffer, use: (fd: number) => T): T {
  const fd = openSync(path, 'r');
  try {
    return use(fd);
  } finally {
    closeSync(fd);
  }
}
