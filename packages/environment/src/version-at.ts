import { closeSync, constants, fstatSync, openSync, readSync, readlinkSync } from 'node:fs';
import type { BlobDigest, ByteString } from '@hyperdocker/base';
import { fromBuffer, hasher, isErrno, toText } from '@hyperdocker/base';
import type { TreeEntry } from '@hyperdocker/cas';
import type { OpenDir } from './open-dir.ts';

/** What is at a path, on one side. Two are the same where their texts are. */
export type Version =
  | { kind: 'absent' }
  | { kind: 'file'; digest: BlobDigest; executable: boolean }
  | { kind: 'link'; target: ByteString }
  /** A directory, a device and so on. */
  | { kind: 'other' };

export const ABSENT: Version = { kind: 'absent' };

/** For people and for records. Undefined: nothing. */
export function versionText(version: Version): string | undefined {
  switch (version.kind) {
    case 'absent':
      return undefined;
    case 'file':
      return `${version.digest}${version.executable ? ' executable' : ''}`;
    case 'link':
      return `link to ${toText(version.target)}`;
    case 'other':
      return 'no file';
  }
}

export function versionOf(entry: TreeEntry | undefined): Version {
  if (entry === undefined) return ABSENT;
  if (entry.kind === 'file') return { kind: 'file', digest: entry.digest, executable: (entry.mode & 0o111) !== 0 };
  return entry.kind === 'symlink' ? { kind: 'link', target: entry.target } : { kind: 'other' };
}

/** What is there now. Reads files. */
export function versionAt(dir: OpenDir, name: ByteString): Version {
  const stats = dir.stat(name);
  if (stats === undefined) return ABSENT;
  try {
    if (stats.isSymbolicLink()) return { kind: 'link', target: fromBuffer(readlinkSync(dir.at(name), { encoding: 'buffer' })) };
    if (!stats.isFile()) return { kind: 'other' };
    using file = openFile(dir, name);
    return file === undefined ? { kind: 'other' } : { kind: 'file', digest: digestOf(file.fd), executable: (fstatSync(file.fd).mode & 0o111) !== 0 };
  } catch (error) {
    // It was removed, or became something else, just now.
    if (isErrno(error, 'ENOENT', 'EINVAL', 'ELOOP', 'ENXIO')) return ABSENT;
    throw error;
  }
}

/** A regular file and nothing else, without waiting for whoever writes to a pipe. */
export function openFile(dir: OpenDir, name: ByteString): ({ fd: number } & Disposable) | undefined {
  const fd = openSync(dir.at(name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  if (fstatSync(fd).isFile()) return { fd, [Symbol.dispose]: () => closeSync(fd) };
  closeSync(fd);
  return undefined;
}

const PIECE_BYTES = 1 << 18;

/** Hands a file on in pieces, and tells its digest. Each piece is good until the next. */
export function digestOf(fd: number, onPiece?: (bytes: Buffer) => void): BlobDigest {
  const stream = hasher.stream();
  const buffer = Buffer.allocUnsafe(PIECE_BYTES);
  let at = 0;
  for (let length = readSync(fd, buffer, 0, buffer.length, at); length > 0; length = readSync(fd, buffer, 0, buffer.length, at)) {
    at += length;
    const bytes = buffer.subarray(0, length);
    stream.update(bytes);
    onPiece?.(bytes);
  }
  return stream.digest() as string as BlobDigest;
}
