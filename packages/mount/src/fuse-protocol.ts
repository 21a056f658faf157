import type { ByteString } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { EntryKind } from '@hyperdocker/cas';
import type { Attributes } from './projection.ts';

/**
 * The parts of the kernel's FUSE protocol (include/uapi/linux/fuse.h, 7.31 and later) that a read-only file system needs.
 * All integers are little endian here: the kernel uses the byte order of the machine, and x86-64 and arm64 are little.
 */
export const Opcode = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKNOD: 8, MKDIR: 9, UNLINK: 10, RMDIR: 11, RENAME: 12,
  LINK: 13, OPEN: 14, READ: 15, WRITE: 16, STATFS: 17, RELEASE: 18, FSYNC: 20, SETXATTR: 21, GETXATTR: 22, LISTXATTR: 23,
  REMOVEXATTR: 24, FLUSH: 25, INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, ACCESS: 34, CREATE: 35,
  INTERRUPT: 36, DESTROY: 38, BATCH_FORGET: 42, READDIRPLUS: 44, RENAME2: 45, LSEEK: 46,
} as const;

export const Errno = { ENOENT: 2, EIO: 5, EACCES: 13, EINVAL: 22, EROFS: 30, ERANGE: 34, ENOSYS: 38, ENODATA: 61, EPROTO: 71 } as const;

const InitFlag = {
  ASYNC_READ: 1 << 0, BIG_WRITES: 1 << 5, READDIRPLUS: 1 << 13, NO_OPEN: 1 << 17, PARALLEL_DIROPS: 1 << 18, MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23, NO_OPENDIR: 1 << 24,
} as const;

export const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const ENTRY_BYTES = 128;
const ATTR_BYTES = 88;
/** Requests of up to 1 MiB: 256 pages. */
export const MAX_READ_BYTES = 1 << 20;
/** The kernel refuses a read buffer under max_write + 4 KiB. */
export const REQUEST_BUFFER_BYTES = MAX_READ_BYTES + 4096;

export interface Request {
  opcode: number;
  unique: bigint;
  ino: number;
  pid: number;
  /** What follows the header. A view of the read buffer: valid until the next read. */
  body: Buffer;
}

export function decodeRequest(buffer: Buffer): Request {
  return {
    opcode: buffer.readUInt32LE(4),
    unique: buffer.readBigUInt64LE(8),
    ino: Number(buffer.readBigUInt64LE(16)),
    pid: buffer.readUInt32LE(32),
    body: buffer.subarray(IN_HEADER_BYTES, buffer.readUInt32LE(0)),
  };
}

/**
 * Answers are encoded into the same memory again and again, valid until the next of their kind: one request is answered at a time. New memory for each, zeroed and collected,
 * was a third of the server's own time.
 */
const head = Buffer.alloc(OUT_HEADER_BYTES);
const entryReply = Buffer.alloc(ENTRY_BYTES);
const attributesReply = Buffer.alloc(16 + ATTR_BYTES);
let directoryReply = Buffer.alloc(0);

/** What goes before a body of so many bytes, or alone with an error when `errno` is not 0. */
export function encodeReplyHead(unique: bigint, errno: number, bodyBytes: number): Buffer {
  head.writeUInt32LE(OUT_HEADER_BYTES + bodyBytes, 0);
  head.writeInt32LE(-errno, 4);
  head.writeBigUInt64LE(unique, 8);
  return head;
}

/** What is needed of 7.N: 7.31 came with Linux 5.4. */
const MAJOR = 7;
const LEAST_MINOR = 31;
/** What is spoken here. */
const MINOR = 38;
/** Without these it would be wrong, not only slow. */
const NEEDED = { NO_OPEN: InitFlag.NO_OPEN, NO_OPENDIR: InitFlag.NO_OPENDIR } as const;

/** What the kernel speaks. A newer major version is answered with ours, and the kernel asks again in that. */
export function negotiate(body: Buffer): { kind: 'spoken' } | { kind: 'ask again' } | { kind: 'refused'; error: HdError } {
  const [major, minor, offered] = [body.readUInt32LE(0), body.readUInt32LE(4), body.length < 16 ? 0 : body.readUInt32LE(12)];
  if (major > MAJOR) return { kind: 'ask again' };
  const missing = Object.entries(NEEDED).flatMap(([name, flag]) => ((offered & flag) === 0 ? [name] : []));
  if (major === MAJOR && minor >= LEAST_MINOR && missing.length === 0) return { kind: 'spoken' };
  const lacks = major === MAJOR && minor >= LEAST_MINOR ? ` without ${missing.join(' and ')}` : '';
  return {
    kind: 'refused',
    error: new HdError('FUSE_PROTOCOL', `this kernel speaks FUSE ${major}.${minor}${lacks}, and ${MAJOR}.${LEAST_MINOR} or later is needed`, { hint: 'use Linux 5.4 or later, or set HD_FUSE=off: files are then written out to disk, without tracing' }),
  };
}

/** For a kernel with a newer major version than ours. */
export function encodeAskAgain(): Buffer {
  const reply = Buffer.alloc(64);
  reply.writeUInt32LE(MAJOR, 0);
  reply.writeUInt32LE(MINOR, 4);
  return reply;
}

/** Of a kernel that `negotiate` has found to speak the same. */
export function encodeInit(body: Buffer, options: { tracing: boolean }): Buffer {
  const [minor, maxReadahead, offered] = [body.readUInt32LE(4), body.readUInt32LE(8), body.readUInt32LE(12)];
  let wanted = InitFlag.ASYNC_READ | InitFlag.BIG_WRITES | InitFlag.PARALLEL_DIROPS | InitFlag.MAX_PAGES | InitFlag.CACHE_SYMLINKS | InitFlag.NO_OPEN | InitFlag.NO_OPENDIR;
  // While tracing, every child must be looked up by itself. Opens need not reach us: the first read of a file or listing of a
  // directory does, since the kernel's cache of a fresh mount is empty.
  if (!options.tracing) wanted |= InitFlag.READDIRPLUS;
  const reply = Buffer.alloc(64);
  reply.writeUInt32LE(MAJOR, 0);
  reply.writeUInt32LE(Math.min(minor, MINOR), 4);
  reply.writeUInt32LE(Math.max(maxReadahead, MAX_READ_BYTES), 8);
  reply.writeUInt32LE((wanted & offered) >>> 0, 12);
  reply.writeUInt16LE(64, 16); // max_background
  reply.writeUInt16LE(48, 18); // congestion_threshold
  reply.writeUInt32LE(MAX_READ_BYTES, 20); // max_write
  reply.writeUInt32LE(1, 24); // time_gran, ns
  reply.writeUInt16LE(MAX_READ_BYTES / 4096, 28); // max_pages
  return reply;
}

/** The tree never changes: names, attributes and the absence of names stay valid for ever. */
const FOR_EVER_SECONDS = 0x7fff_ffff;

export function encodeEntry(attributes: Attributes | undefined): Buffer {
  writeEntry(entryReply, 0, attributes);
  return entryReply;
}

function writeEntry(out: Buffer, at: number, attributes: Attributes | undefined): void {
  write64(out, at, attributes?.ino ?? 0);
  write64(out, at + 8, 0);
  write64(out, at + 16, FOR_EVER_SECONDS);
  write64(out, at + 24, FOR_EVER_SECONDS);
  write64(out, at + 32, 0);
  if (attributes === undefined) out.fill(0, at + 40, at + ENTRY_BYTES);
  else writeAttributes(out, at + 40, attributes);
}

export function encodeAttributes(attributes: Attributes): Buffer {
  write64(attributesReply, 0, FOR_EVER_SECONDS);
  writeAttributes(attributesReply, 16, attributes);
  return attributesReply;
}

const NS = 1_000_000_000n;

function writeAttributes(out: Buffer, at: number, a: Attributes): void {
  const nanos = ((a.mtimeNs % NS) + NS) % NS;
  const seconds = Number((a.mtimeNs - nanos) / NS); // of times before 1970 negative, which the kernel reads as such
  write64(out, at, a.shownIno);
  write64(out, at + 8, a.size);
  write64(out, at + 16, Math.ceil(a.size / 512));
  for (let offset = 24; offset <= 40; offset += 8) write64(out, at + offset, seconds);
  for (let offset = 48; offset <= 56; offset += 4) out.writeUInt32LE(Number(nanos), at + offset);
  out.writeUInt32LE(KIND_BITS[a.kind] | a.mode, at + 60);
  out.writeUInt32LE(a.links, at + 64);
  out.writeUInt32LE(a.uid, at + 68);
  out.writeUInt32LE(a.gid, at + 72);
  out.writeUInt32LE(((a.minor & 0xff) | (a.major << 8) | ((a.minor & ~0xff) << 12)) >>> 0, at + 76);
  out.writeUInt32LE(4096, at + 80);
  out.writeUInt32LE(0, at + 84);
}

/** An integer, also a negative one, without the detour over a bigint. */
function write64(out: Buffer, at: number, value: number): void {
  out.writeUInt32LE(value >>> 0, at);
  out.writeInt32LE(Math.floor(value / 2 ** 32) | 0, at + 4);
}

const KIND_BITS: Record<EntryKind, number> = {
  fifo: 0o010000, char: 0o020000, dir: 0o040000, block: 0o060000, file: 0o100000, symlink: 0o120000, socket: 0o140000, whiteout: 0o020000,
};

export function encodeStatfs(): Buffer {
  const reply = Buffer.alloc(80);
  reply.writeUInt32LE(4096, 40); // bsize
  reply.writeUInt32LE(255, 44); // namelen
  reply.writeUInt32LE(4096, 48); // frsize
  return reply;
}

/** For GETXATTR and LISTXATTR: the size alone when the caller gave no room, else the value. Returns an errno when it does not fit. */
export function encodeXattr(room: number, value: Uint8Array): Buffer | number {
  if (room === 0) {
    const reply = Buffer.alloc(8);
    reply.writeUInt32LE(value.length, 0);
    return reply;
  }
  return value.length > room ? Errno.ERANGE : Buffer.from(value);
}

/** Fills one READDIR or READDIRPLUS reply. */
export class DirectoryReply {
  readonly #buffer: Buffer;
  readonly #plus: boolean;
  #length = 0;

  constructor(room: number, plus: boolean) {
    if (directoryReply.length < room) directoryReply = Buffer.alloc(room);
    this.#buffer = directoryReply.subarray(0, room);
    this.#plus = plus;
  }

  /** @param next the offset at which to go on after this entry. @returns false when it does not fit any more. */
  add(name: ByteString, kind: EntryKind, ino: number, next: number, attributes: Attributes | undefined): boolean {
    const entryBytes = this.#plus ? ENTRY_BYTES : 0;
    const size = entryBytes + ((24 + name.length + 7) & ~7);
    if (this.#length + size > this.#buffer.length) return false;
    if (this.#plus) writeEntry(this.#buffer, this.#length, attributes);
    const at = this.#length + entryBytes;
    write64(this.#buffer, at, ino);
    write64(this.#buffer, at + 8, next);
    this.#buffer.writeUInt32LE(name.length, at + 16);
    this.#buffer.writeUInt32LE(KIND_BITS[kind] >> 12, at + 20);
    this.#buffer.write(name, at + 24, 'latin1');
    this.#buffer.fill(0, at + 24 + name.length, this.#length + size);
    this.#length += size;
    return true;
  }

  finish(): Buffer {
    return this.#buffer.subarray(0, this.#length);
  }
}
