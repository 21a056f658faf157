/**
 * The kernel's FUSE protocol (include/uapi/linux/fuse.h, 7.31 and later) as far as a writable file system needs it: bytes to requests, answers to
 * bytes. Apart from mount's `fuse-protocol.ts`, which is for a tree that never changes, and whose package stands above this one. Little-endian machines.
 */
export const Opcode = {
  LOOKUP: 1, FORGET: 2, GETATTR: 3, SETATTR: 4, READLINK: 5, SYMLINK: 6, MKDIR: 9, UNLINK: 10, RMDIR: 11, RENAME: 12, LINK: 13, OPEN: 14, READ: 15,
  WRITE: 16, STATFS: 17, RELEASE: 18, FSYNC: 20, INIT: 26, OPENDIR: 27, READDIR: 28, RELEASEDIR: 29, FSYNCDIR: 30, ACCESS: 34, CREATE: 35,
  INTERRUPT: 36, DESTROY: 38, BATCH_FORGET: 42, RENAME2: 45,
} as const;

export const Errno = {
  ENOENT: 2, EIO: 5, EEXIST: 17, ENOTDIR: 20, EISDIR: 21, EINVAL: 22, ENOSPC: 28, EROFS: 30, ENOSYS: 38, ENOTEMPTY: 39,
} as const;

/** No writeback cache: each write(2) is one WRITE, of up to 1 MiB. No POSIX_LOCKS: the kernel keeps locks itself. */
const InitFlag = { ASYNC_READ: 1 << 0, BIG_WRITES: 1 << 5, PARALLEL_DIROPS: 1 << 18, MAX_PAGES: 1 << 22 } as const;
const FOPEN_KEEP_CACHE = 1 << 1;
/** In `write_flags`: the page cache writes back what was stored through a mapping. */
const WRITE_CACHE = 1 << 0;
const FATTR = { MODE: 1 << 0, UID: 1 << 1, GID: 1 << 2, SIZE: 1 << 3, MTIME: 1 << 5, MTIME_NOW: 1 << 8 } as const;

const IN_HEADER_BYTES = 40;
const OUT_HEADER_BYTES = 16;
const ENTRY_BYTES = 128;
const ATTR_BYTES = 88;
const MAX_WRITE_BYTES = 1 << 20;
export const REQUEST_BUFFER_BYTES = MAX_WRITE_BYTES + 4096;
const NS = 1_000_000_000n;

export interface Attributes {
  ino: number;
  sizeBytes: number;
  /** With the bits of its kind. */
  mode: number;
  links: number;
  uid: number;
  gid: number;
  mtimeNs: bigint;
}

export interface Request {
  opcode: number;
  unique: bigint;
  ino: number;
  /** What follows the header: a view, valid until the next read. */
  body: Buffer;
}

export function decodeRequest(buffer: Buffer): Request {
  return {
    opcode: buffer.readUInt32LE(4),
    unique: buffer.readBigUInt64LE(8),
    ino: Number(buffer.readBigUInt64LE(16)),
    body: buffer.subarray(IN_HEADER_BYTES, buffer.readUInt32LE(0)),
  };
}

/** NUL-terminated strings, latin1, from `at` on. */
export function decodeNames(body: Buffer, at: number): [first: string, second: string] {
  const [first = '', second = ''] = body.toString('latin1', at).split('\0');
  return [first, second];
}

export interface WriteRequest { offset: number; bytes: Buffer; isWriteback: boolean }

export function decodeWrite(body: Buffer): WriteRequest {
  const sizeBytes = body.readUInt32LE(16);
  return { offset: Number(body.readBigUInt64LE(8)), bytes: body.subarray(40, 40 + sizeBytes), isWriteback: (body.readUInt32LE(20) & WRITE_CACHE) !== 0 };
}

/** What SETATTR is to change. */
export interface Change { sizeBytes?: number; mode?: number; uid?: number; gid?: number; mtimeNs?: bigint }

export function decodeChange(body: Buffer): Change {
  const valid = body.readUInt32LE(0);
  const change: Change = {};
  if (valid & FATTR.SIZE) change.sizeBytes = Number(body.readBigUInt64LE(16));
  if (valid & FATTR.MODE) change.mode = body.readUInt32LE(68);
  if (valid & FATTR.UID) change.uid = body.readUInt32LE(76);
  if (valid & FATTR.GID) change.gid = body.readUInt32LE(80);
  if (valid & FATTR.MTIME_NOW) change.mtimeNs = nowNs();
  else if (valid & FATTR.MTIME) change.mtimeNs = body.readBigInt64LE(40) * NS + BigInt(body.readUInt32LE(60));
  return change;
}

export function nowNs(): bigint {
  return BigInt(Date.now()) * 1_000_000n;
}

export function encodeReply(unique: bigint, errno: number, body: Buffer | undefined): Buffer {
  const head = Buffer.alloc(OUT_HEADER_BYTES);
  head.writeUInt32LE(OUT_HEADER_BYTES + (body?.length ?? 0), 0);
  head.writeInt32LE(-errno, 4);
  head.writeBigUInt64LE(unique, 8);
  return body === undefined ? head : Buffer.concat([head, body]);
}

export function encodeInit(body: Buffer): Buffer {
  const [minor, maxReadahead, offered] = [body.readUInt32LE(4), body.readUInt32LE(8), body.readUInt32LE(12)];
  const wanted = InitFlag.ASYNC_READ | InitFlag.BIG_WRITES | InitFlag.PARALLEL_DIROPS | InitFlag.MAX_PAGES;
  const reply = Buffer.alloc(64);
  reply.writeUInt32LE(7, 0);
  reply.writeUInt32LE(Math.min(minor, 38), 4);
  reply.writeUInt32LE(maxReadahead, 8);
  reply.writeUInt32LE((wanted & offered) >>> 0, 12);
  reply.writeUInt16LE(64, 16); // max_background
  reply.writeUInt16LE(48, 18); // congestion_threshold
  reply.writeUInt32LE(MAX_WRITE_BYTES, 20); // max_write
  reply.writeUInt32LE(1, 24); // time_gran, ns
  reply.writeUInt16LE(MAX_WRITE_BYTES / 4096, 28); // max_pages
  return reply;
}

/** Names stay cached, since all changes come through this kernel; attributes do not, since a failed write may have changed them. */
const VALID_SECONDS = 3600n;

/** @param keep what the kernel may remember */
export function encodeEntry(attributes: Attributes, keep: 'name' | 'attributes' = 'name'): Buffer {
  const entry = Buffer.alloc(ENTRY_BYTES);
  entry.writeBigUInt64LE(BigInt(attributes.ino), 0);
  entry.writeBigUInt64LE(VALID_SECONDS, keep === 'name' ? 16 : 24);
  writeAttributes(entry, 40, attributes);
  return entry;
}

export function encodeAttributes(attributes: Attributes): Buffer {
  const reply = Buffer.alloc(16 + ATTR_BYTES);
  writeAttributes(reply, 16, attributes);
  return reply;
}

function writeAttributes(out: Buffer, at: number, { ino, sizeBytes, mode, links, uid, gid, mtimeNs }: Attributes): void {
  out.writeBigUInt64LE(BigInt(ino), at);
  out.writeBigUInt64LE(BigInt(sizeBytes), at + 8);
  out.writeBigUInt64LE(BigInt(Math.ceil(sizeBytes / 512)), at + 16);
  for (const offset of [24, 32, 40]) out.writeBigInt64LE(mtimeNs / NS, at + offset);
  for (const offset of [48, 52, 56]) out.writeUInt32LE(Number(mtimeNs % NS), at + offset);
  out.writeUInt32LE(mode, at + 60);
  out.writeUInt32LE(links, at + 64);
  out.writeUInt32LE(uid, at + 68);
  out.writeUInt32LE(gid, at + 72);
  out.writeUInt32LE(4096, at + 80);
}

/** The data cache outlives the open file, as on any disk. */
export function encodeOpen(): Buffer {
  const reply = Buffer.alloc(16);
  reply.writeUInt32LE(FOPEN_KEEP_CACHE, 8);
  return reply;
}

export function encodeWritten(sizeBytes: number): Buffer {
  const reply = Buffer.alloc(8);
  reply.writeUInt32LE(sizeBytes, 0);
  return reply;
}

export function encodeStatfs(freeBlocks: number): Buffer {
  const reply = Buffer.alloc(80);
  reply.writeBigUInt64LE(1n << 20n, 0); // blocks
  reply.writeBigUInt64LE(BigInt(freeBlocks), 8);
  reply.writeBigUInt64LE(BigInt(freeBlocks), 16);
  reply.writeUInt32LE(4096, 40); // bsize
  reply.writeUInt32LE(255, 44); // namelen
  reply.writeUInt32LE(4096, 48); // frsize
  return reply;
}

/** One READDIR reply: entries from `offset` on, as many as fit. Names are latin1. */
export function encodeDirectory(entries: readonly { name: string; ino: number; mode: number }[], offset: number, roomBytes: number): Buffer {
  const parts: Buffer[] = [];
  let total = 0;
  for (const [i, { name, ino, mode }] of entries.entries()) {
    if (i < offset) continue;
    const part = Buffer.alloc((24 + name.length + 7) & ~7);
    if (total + part.length > roomBytes) break;
    part.writeBigUInt64LE(BigInt(ino), 0);
    part.writeBigUInt64LE(BigInt(i + 1), 8);
    part.writeUInt32LE(name.length, 16);
    part.writeUInt32LE(mode >> 12, 20);
    part.write(name, 24, 'latin1');
    parts.push(part);
    total += part.length;
  }
  return Buffer.concat(parts);
}
