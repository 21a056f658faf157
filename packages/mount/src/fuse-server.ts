import type { ByteString } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Request } from './fuse-protocol.ts';
import {
  DirectoryReply, Errno, Opcode, decodeRequest, encodeAskAgain, encodeAttributes, encodeEntry, encodeInit, encodeReplyHead, encodeStatfs, encodeXattr, negotiate,
} from './fuse-protocol.ts';
import type { DirectoryItem, Projection } from './projection.ts';

/** What became of a request: a head and what follows it, to write back in one piece, nothing to say, or the end of the mount. */
export type Answer = { kind: 'reply'; head: Buffer; body: Buffer | undefined } | { kind: 'none' } | { kind: 'destroy' };

const NONE: Answer = { kind: 'none' };

/** Answers FUSE requests from a projection. Knows no file descriptor: tests hand it the bytes that a kernel would send. */
export class FuseServer {
  readonly #projection: Projection;
  readonly #tracing: boolean;
  readonly #attributeFree: () => boolean;
  #askingPid = 0;
  /** Requests answered, by opcode: tests and benchmarks count with it. */
  readonly counts = new Map<number, number>();
  /** Why a question was answered by an error instead of by the tree, for the first that was. Who asked has seen what no tree says. */
  failure: HdError | undefined;
  /** Why this kernel cannot be served. */
  refusal: HdError | undefined;

  /** @param options.attributeFree asked until it says true: nothing in the tree has an extended attribute */
  constructor(projection: Projection, options: { tracing: boolean; attributeFree?: () => boolean }) {
    this.#projection = projection;
    this.#tracing = options.tracing;
    this.#attributeFree = options.attributeFree ?? (() => false);
  }

  /** The thread whose question is being answered. 0: none that we can see. */
  get askingPid(): number {
    return this.#askingPid;
  }

  handle(buffer: Buffer): Answer {
    const request = decodeRequest(buffer);
    this.#askingPid = request.pid;
    this.counts.set(request.opcode, (this.counts.get(request.opcode) ?? 0) + 1);
    if (request.opcode === Opcode.FORGET || request.opcode === Opcode.BATCH_FORGET || request.opcode === Opcode.INTERRUPT) return NONE;
    if (request.opcode === Opcode.DESTROY) return { kind: 'destroy' };
    const result = this.#answer(request);
    const body = typeof result === 'number' ? undefined : result;
    return { kind: 'reply', head: encodeReplyHead(request.unique, typeof result === 'number' ? result : 0, body?.length ?? 0), body };
  }

  /** A body, or an errno (0: success without a body). */
  #answer(request: Request): Buffer | number {
    try {
      return this.#dispatch(request);
    } catch (error) {
      // A corrupt or missing object must never be served as something else.
      if (!(error instanceof HdError)) throw error;
      this.failure ??= error;
      return Errno.EIO;
    }
  }

  #dispatch({ opcode, ino, body }: Request): Buffer | number {
    const fs = this.#projection;
    switch (opcode) {
      case Opcode.INIT:
        return this.#init(body);
      case Opcode.LOOKUP:
        // An entry with inode 0 is a negative one, and cached like the others.
        return encodeEntry(fs.lookup(ino, name(body, 0)));
      case Opcode.GETATTR:
        return encodeAttributes(fs.attributes(ino));
      case Opcode.READLINK:
        return Buffer.from(fs.readlink(ino), 'latin1');
      case Opcode.READ:
        return fs.read(ino, Number(body.readBigUInt64LE(8)), body.readUInt32LE(16));
      case Opcode.READDIR:
        return this.#readdir(ino, body, false);
      case Opcode.READDIRPLUS:
        return this.#readdir(ino, body, true);
      case Opcode.GETXATTR: case Opcode.LISTXATTR:
        if (this.#attributeFree()) {
          fs.attributesAreOver();
          return Errno.ENOSYS; // never asked again
        }
        if (opcode === Opcode.GETXATTR) return this.#getxattr(ino, body);
        return encodeXattr(body.readUInt32LE(0), Buffer.concat(fs.xattrs(ino).map(([key]) => Buffer.from(`${key}\0`, 'latin1'))));
      case Opcode.STATFS:
        return encodeStatfs();
      case Opcode.SETATTR: case Opcode.SYMLINK: case Opcode.MKNOD: case Opcode.MKDIR: case Opcode.UNLINK: case Opcode.RMDIR:
      case Opcode.RENAME: case Opcode.RENAME2: case Opcode.LINK: case Opcode.WRITE: case Opcode.CREATE: case Opcode.SETXATTR:
      case Opcode.REMOVEXATTR:
        return Errno.EROFS;
      default:
        // OPEN, OPENDIR, FLUSH, ACCESS, LSEEK, FSYNC and whatever comes later: the kernel remembers and does it alone. An open is no
        // question: overlayfs opens what a program is about to truncate, and each directory that it copies up.
        return Errno.ENOSYS;
    }
  }

  #init(body: Buffer): Buffer | number {
    const outcome = negotiate(body);
    if (outcome.kind === 'spoken') return encodeInit(body, { tracing: this.#tracing });
    if (outcome.kind === 'ask again') return encodeAskAgain();
    this.refusal = outcome.error;
    return Errno.EPROTO;
  }

  #readdir(ino: number, body: Buffer, plus: boolean): Buffer {
    const [offset, room] = [Number(body.readBigUInt64LE(8)), body.readUInt32LE(16)];
    const items = this.#projection.list(ino);
    const reply = new DirectoryReply(room, plus);
    const all: DirectoryItem[] = [{ name: '.' as ByteString, ino, shownIno: ino, kind: 'dir' }, { name: '..' as ByteString, ino: 1, shownIno: 1, kind: 'dir' }];
    for (let i = offset; i < items.length + all.length; i++) {
      const item = i < all.length ? all[i] : items[i - all.length];
      if (item === undefined) break;
      // "." and ".." must carry inode 0 in a READDIRPLUS entry: the kernel skips their attributes.
      const attributes = plus && i >= all.length ? this.#projection.attributes(item.ino) : undefined;
      if (!reply.add(item.name, item.kind, item.shownIno, i + 1, attributes)) break;
    }
    return reply.finish();
  }

  #getxattr(ino: number, body: Buffer): Buffer | number {
    const wanted = name(body, 8);
    // Overlayfs asks every directory for its own marks, which a whole tree never has.
    if (wanted.startsWith('trusted.overlay.')) return Errno.ENODATA;
    const found = this.#projection.xattrs(ino).find(([key]) => key === wanted);
    return found === undefined ? Errno.ENODATA : encodeXattr(body.readUInt32LE(0), found[1]);
  }
}

/** A NUL-terminated name in a request body. */
function name(body: Buffer, at: number): ByteString {
  return body.toString('latin1', at, body.indexOf(0, at)) as ByteString;
}
