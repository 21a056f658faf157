import { Errno, Opcode, decodeChange, decodeNames, decodeRequest, decodeWrite, encodeAttributes, encodeDirectory, encodeEntry, encodeInit, encodeOpen, encodeReply, encodeStatfs, encodeWritten, nowNs } from './fuse-wire.ts';
import type { Attributes, Request } from './fuse-wire.ts';
import { ROOT_INO, errnoOf } from './memory-disk.ts';
import type { MemoryDisk } from './memory-disk.ts';
import { CONTROL_PREFIX, FAULT_KINDS } from './operation.ts';

export type Answer = { kind: 'reply'; bytes: Buffer } | { kind: 'none' } | { kind: 'destroy' };

const RENAME_NOREPLACE = 1;
const WANTS_WRITE = 2;
/** Of a control name that was looked up: an inode that is not there, its size the answer. */
const CONTROL_INO = 2 ** 40;

/** Answers the kernel's requests from a `MemoryDisk`. */
export class DiskServer {
  readonly #disk: MemoryDisk;
  /** Of the last control name that was looked up. */
  #controlSizeBytes = 0;

  constructor(disk: MemoryDisk) {
    this.#disk = disk;
  }

  handle(buffer: Buffer): Answer {
    const request = decodeRequest(buffer);
    const { opcode, unique, body } = request;
    if (opcode === Opcode.DESTROY) return { kind: 'destroy' };
    if (opcode === Opcode.INTERRUPT) return { kind: 'none' };
    if (opcode === Opcode.FORGET || opcode === Opcode.BATCH_FORGET) {
      this.#forget(opcode, request.ino, body);
      return { kind: 'none' };
    }
    const result = this.#answer(request);
    return { kind: 'reply', bytes: typeof result === 'number' ? encodeReply(unique, result, undefined) : encodeReply(unique, 0, result) };
  }

  #forget(opcode: number, ino: number, body: Buffer): void {
    if (opcode === Opcode.FORGET) {
      this.#disk.forget(ino, Number(body.readBigUInt64LE(0)));
      return;
    }
    for (let i = 0, count = body.readUInt32LE(0); i < count; i++) this.#disk.forget(Number(body.readBigUInt64LE(8 + i * 16)), Number(body.readBigUInt64LE(16 + i * 16)));
  }

  /** A body, or an errno (0: success without a body). */
  #answer(request: Request): Buffer | number {
    try {
      return this.#look(request) ?? this.#change(request) ?? Errno.ENOSYS;
    } catch (error) {
      const errno = errnoOf(error);
      if (errno === undefined) throw error;
      return errno;
    }
  }

  /** What changes nothing. */
  #look({ opcode, ino, body }: Request): Buffer | number | undefined {
    const disk = this.#disk;
    switch (opcode) {
      case Opcode.INIT:
        return encodeInit(body);
      case Opcode.LOOKUP:
        return this.#lookup(ino, decodeNames(body, 0)[0]);
      case Opcode.GETATTR:
        // The kernel may ask at once for what it was told to remember.
        return encodeAttributes(ino === CONTROL_INO ? controlAttributes(this.#controlSizeBytes) : disk.attributes(ino));
      case Opcode.ACCESS:
        return disk.isReadOnly && (body.readUInt32LE(0) & WANTS_WRITE) !== 0 ? Errno.EROFS : 0;
      case Opcode.READLINK:
        return Buffer.from(disk.readlink(ino), 'latin1');
      case Opcode.OPEN: case Opcode.OPENDIR:
        return encodeOpen();
      case Opcode.READ:
        return disk.read(ino, Number(body.readBigUInt64LE(8)), body.readUInt32LE(16));
      case Opcode.READDIR: {
        const dots = ['.', '..'].map((name) => ({ name, ino, mode: 0o040000 }));
        return encodeDirectory([...dots, ...disk.list(ino)], Number(body.readBigUInt64LE(8)), body.readUInt32LE(16));
      }
      case Opcode.RELEASE: case Opcode.RELEASEDIR:
        return 0;
      case Opcode.STATFS:
        return encodeStatfs(disk.isFull ? 0 : 1 << 19);
      default:
        return undefined;
    }
  }

  #change({ opcode, ino, body }: Request): Buffer | number | undefined {
    const disk = this.#disk;
    switch (opcode) {
      case Opcode.CREATE:
        return Buffer.concat([encodeEntry(disk.create(ino, decodeNames(body, 16)[0], 'file', body.readUInt32LE(4))), encodeOpen()]);
      case Opcode.MKDIR:
        return encodeEntry(disk.create(ino, decodeNames(body, 8)[0], 'dir', body.readUInt32LE(0)));
      case Opcode.SYMLINK: {
        const [name, target] = decodeNames(body, 0);
        return encodeEntry(disk.create(ino, name, 'symlink', 0o777, target));
      }
      case Opcode.LINK:
        return encodeEntry(disk.link(Number(body.readBigUInt64LE(0)), ino, decodeNames(body, 8)[0]));
      case Opcode.UNLINK:
        disk.unlink(ino, decodeNames(body, 0)[0]);
        return 0;
      case Opcode.RMDIR:
        disk.rmdir(ino, decodeNames(body, 0)[0]);
        return 0;
      case Opcode.RENAME:
        return this.#rename(ino, body, 8, 0);
      case Opcode.RENAME2:
        return this.#rename(ino, body, 16, body.readUInt32LE(8));
      case Opcode.WRITE: {
        const { offset, bytes, isWriteback } = decodeWrite(body);
        return encodeWritten(disk.write(ino, offset, bytes, isWriteback));
      }
      case Opcode.SETATTR:
        return encodeAttributes(disk.change(ino, decodeChange(body)));
      case Opcode.FSYNC: case Opcode.FSYNCDIR:
        disk.sync(ino);
        return 0;
      default:
        return undefined;
    }
  }

  #rename(dir: number, body: Buffer, namesAt: number, flags: number): number {
    if ((flags & ~RENAME_NOREPLACE) !== 0) return Errno.EINVAL;
    const [name, toName] = decodeNames(body, namesAt);
    this.#disk.rename(dir, name, Number(body.readBigUInt64LE(0)), toName, { replace: flags === 0 });
    return 0;
  }

  #lookup(dir: number, name: string): Buffer {
    if (dir !== ROOT_INO || !name.startsWith(CONTROL_PREFIX)) return encodeEntry(this.#disk.lookup(dir, name));
    this.#controlSizeBytes = this.#control(name.slice(CONTROL_PREFIX.length));
    return encodeEntry(controlAttributes(this.#controlSizeBytes), 'attributes');
  }

  /** @returns how many changes the fault had touched */
  #control(text: string): number {
    const [verb = '', first = '', second = ''] = text.split(' ');
    const { hits } = this.#disk;
    const kind = FAULT_KINDS.find((known) => known === first);
    if (verb === 'mark') this.#disk.mark(text.slice('mark '.length));
    else if (verb === 'arm' && kind !== undefined) this.#disk.arm({ kind, at: Number(second) });
    else if (verb === 'repair') this.#disk.repair();
    return hits;
  }
}

function controlAttributes(sizeBytes: number): Attributes {
  return { ino: CONTROL_INO, sizeBytes, mode: 0o100000, links: 1, uid: 0, gid: 0, mtimeNs: nowNs() };
}
