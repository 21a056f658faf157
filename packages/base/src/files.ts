import type { BigIntStats } from 'node:fs';
import { lstatSync, writeSync } from 'node:fs';
import { isErrno } from './error.ts';

/** Nothing is at a path, or not any more: its name is gone, or a directory on the way to it has become a file, or a link that leads in a circle. */
export function isGone(error: unknown): boolean {
  return isErrno(error, 'ENOENT', 'ENOTDIR', 'ELOOP');
}

/** What is at a path, without following a link; undefined for nothing. `throwIfNoEntry: false` alone still throws where a parent has become something else meanwhile. */
export function lstatIfAny(path: string | Buffer): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

/** All of the bytes, at `position` or where the file stands: one write may take fewer. */
export function writeAll(fd: number, bytes: Uint8Array, position?: number): void {
  for (let done = 0; done < bytes.length; ) done += writeSync(fd, bytes, done, bytes.length - done, position === undefined ? null : position + done);
}
