import { HdError, assert } from '@hyperdocker/base';
import { Errno, nowNs } from './fuse-wire.ts';
import type { Attributes, Change } from './fuse-wire.ts';
import type { Fault, FaultKind, Operation } from './operation.ts';

const KIND_BITS = { file: 0o100000, dir: 0o040000, symlink: 0o120000 } as const;
export const ROOT_INO = 1;

interface Inode {
  ino: number;
  type: 'file' | 'dir' | 'symlink';
  mode: number;
  uid: number;
  gid: number;
  mtimeNs: bigint;
  links: number;
  /** References that the kernel holds. */
  lookups: number;
  /** Of a file. Longer than the file, so that it can grow. */
  data: Buffer;
  sizeBytes: number;
  /** Of a directory. */
  entries: Map<string, number>;
  /** Of a symbolic link. */
  target: string;
}

/** `write` and `sync` are of data; `name` is of a directory, `attributes` of an inode. */
export type ChangeKind = 'write' | 'sync' | 'name' | 'attributes';

/** A file system in memory that logs what is done to it, and fails as it is told. Knows no kernel. Errors: HdError DISK_REFUSED, see `errnoOf`. */
export class MemoryDisk {
  readonly #inodes = new Map<number, Inode>();
  #nextIno = ROOT_INO + 1;
  #log: Operation[] | undefined;
  #fault: Fault | undefined;
  #changes: ChangeKind[] = [];
  #hits = 0;

  constructor() {
    this.#inodes.set(ROOT_INO, { ...newInode(ROOT_INO, 'dir', 0o755), links: 2, lookups: 1 });
  }

  /** From here on every operation is logged. */
  record(): void {
    this.#log = [];
  }

  /** The log since `record`; recording ends. */
  takeLog(): Operation[] {
    const log = this.#log ?? [];
    this.#log = undefined;
    return log;
  }

  /** Counts changes from 0 again. */
  arm(fault: Fault): void {
    this.#fault = fault;
    this.#changes = [];
    this.#hits = 0;
  }

  repair(): void {
    this.#fault = undefined;
  }

  /** Since `arm`. Stores through a mapping are none: nobody knows when the kernel writes them back. */
  get changes(): readonly ChangeKind[] {
    return this.#changes;
  }

  /** How many changes the fault has touched since `arm`. */
  get hits(): number {
    return this.#hits;
  }

  get isFull(): boolean {
    return this.#isFailing() && (this.#fault?.kind === 'ENOSPC' || this.#fault?.kind === 'short');
  }

  get isReadOnly(): boolean {
    return this.#isFailing() && this.#fault?.kind === 'EROFS';
  }

  mark(text: string): void {
    this.#note({ kind: 'mark', text });
  }

  lookup(dir: number, name: string): Attributes {
    const inode = this.#child(dir, name);
    inode.lookups++;
    return attributes(inode);
  }

  forget(ino: number, times: number): void {
    const inode = this.#inodes.get(ino);
    if (inode === undefined) return;
    inode.lookups -= times;
    this.#dropUnused(inode);
  }

  attributes(ino: number): Attributes {
    return attributes(this.#inode(ino));
  }

  list(ino: number): { name: string; ino: number; mode: number }[] {
    return [...this.#inode(ino).entries].map(([name, child]) => ({ name, ino: child, mode: attributes(this.#inode(child)).mode }));
  }

  readlink(ino: number): string {
    return this.#inode(ino).target;
  }

  read(ino: number, offset: number, length: number): Buffer {
    const { data, sizeBytes } = this.#inode(ino);
    return data.subarray(Math.min(offset, sizeBytes), Math.min(offset + length, sizeBytes));
  }

  create(dir: number, name: string, type: Inode['type'], mode: number, target = ''): Attributes {
    this.#change('name', true);
    const { entries } = this.#inode(dir);
    if (entries.has(name)) throw refused(Errno.EEXIST);
    const inode = { ...newInode(this.#nextIno++, type, mode & 0o7777), target, links: type === 'dir' ? 2 : 1, lookups: 1 };
    this.#inodes.set(inode.ino, inode);
    entries.set(name, inode.ino);
    if (type === 'dir') this.#inode(dir).links++;
    this.#touch(dir);
    this.#note({ kind: 'create', dir, name, ino: inode.ino, type, mode: inode.mode, target });
    return attributes(inode);
  }

  link(ino: number, dir: number, name: string): Attributes {
    this.#change('name', true);
    const { entries } = this.#inode(dir);
    if (entries.has(name)) throw refused(Errno.EEXIST);
    const inode = this.#inode(ino);
    entries.set(name, ino);
    inode.links++;
    inode.lookups++;
    this.#touch(dir);
    this.#note({ kind: 'link', dir, name, ino });
    return attributes(inode);
  }

  unlink(dir: number, name: string): void {
    this.#change('name', false);
    const inode = this.#child(dir, name);
    if (inode.type === 'dir') throw refused(Errno.EISDIR);
    this.#removeEntry(dir, name);
    this.#note({ kind: 'unlink', dir, name });
  }

  rmdir(dir: number, name: string): void {
    this.#change('name', false);
    const inode = this.#child(dir, name);
    if (inode.type !== 'dir') throw refused(Errno.ENOTDIR);
    if (inode.entries.size > 0) throw refused(Errno.ENOTEMPTY);
    this.#removeEntry(dir, name);
    this.#note({ kind: 'unlink', dir, name });
  }

  rename(dir: number, name: string, toDir: number, toName: string, options: { replace: boolean }): void {
    this.#change('name', false);
    const inode = this.#child(dir, name);
    const present = this.#inode(toDir).entries.get(toName);
    if (present === inode.ino) return;
    if (present !== undefined) {
      const target = this.#inode(present);
      if (!options.replace) throw refused(Errno.EEXIST);
      if (target.type === 'dir' && inode.type !== 'dir') throw refused(Errno.EISDIR);
      if (target.type !== 'dir' && inode.type === 'dir') throw refused(Errno.ENOTDIR);
      if (target.entries.size > 0) throw refused(Errno.ENOTEMPTY);
      this.#removeEntry(toDir, toName);
    }
    this.#inode(dir).entries.delete(name);
    this.#inode(toDir).entries.set(toName, inode.ino);
    if (inode.type === 'dir') {
      this.#inode(dir).links--;
      this.#inode(toDir).links++;
    }
    this.#touch(dir);
    this.#touch(toDir);
    this.#note({ kind: 'rename', dir, name, toDir, toName, ino: inode.ino });
  }

  /** @returns how many bytes were taken. @param isWriteback stored through a mapping: never fails, never counts. */
  write(ino: number, offset: number, bytes: Uint8Array, isWriteback: boolean): number {
    const inode = this.#inode(ino);
    if (isWriteback) return this.#store(inode, offset, bytes);
    const fault = this.#next('write', offset + bytes.length > inode.sizeBytes);
    if (fault === undefined) return this.#store(inode, offset, bytes);
    const half = bytes.subarray(0, bytes.length >> 1);
    if (fault === 'torn' || fault === 'short') this.#store(inode, offset, half);
    if (fault === 'short' && half.length > 0) return half.length;
    throw refused(errnoOfFault(fault));
  }

  change(ino: number, change: Change): Attributes {
    this.#change('attributes', change.sizeBytes !== undefined && change.sizeBytes > this.#inode(ino).sizeBytes);
    const inode = this.#inode(ino);
    if (change.sizeBytes !== undefined) {
      this.#resize(inode, change.sizeBytes);
      inode.mtimeNs = nowNs();
      this.#note({ kind: 'truncate', ino, sizeBytes: change.sizeBytes });
    }
    if (change.mode !== undefined) {
      inode.mode = change.mode & 0o7777;
      this.#note({ kind: 'mode', ino, mode: inode.mode });
    }
    inode.uid = change.uid ?? inode.uid;
    inode.gid = change.gid ?? inode.gid;
    inode.mtimeNs = change.mtimeNs ?? inode.mtimeNs;
    return attributes(inode);
  }

  /** Of a file or a directory. */
  sync(ino: number): void {
    this.#inode(ino);
    const fault = this.#next('sync', false);
    this.#note({ kind: fault === undefined ? 'sync' : 'sync-failed', ino });
    if (fault !== undefined) throw refused(errnoOfFault(fault));
  }

  #store(inode: Inode, offset: number, bytes: Uint8Array): number {
    if (offset + bytes.length > inode.sizeBytes) this.#resize(inode, offset + bytes.length);
    inode.data.set(bytes, offset);
    inode.mtimeNs = nowNs();
    if (bytes.length > 0) this.#note({ kind: 'write', ino: inode.ino, offset, bytes: Buffer.from(bytes) });
    return bytes.length;
  }

  #resize(inode: Inode, sizeBytes: number): void {
    if (sizeBytes > inode.data.length) {
      const larger = Buffer.alloc(Math.max(sizeBytes, inode.data.length * 2, 4096));
      inode.data.copy(larger, 0, 0, inode.sizeBytes);
      inode.data = larger;
    } else {
      inode.data.fill(0, Math.min(sizeBytes, inode.sizeBytes), Math.max(sizeBytes, inode.sizeBytes));
    }
    inode.sizeBytes = sizeBytes;
  }

  #removeEntry(dir: number, name: string): void {
    const inode = this.#child(dir, name);
    this.#inode(dir).entries.delete(name);
    inode.links -= inode.type === 'dir' ? 2 : 1;
    if (inode.type === 'dir') this.#inode(dir).links--;
    this.#touch(dir);
    this.#dropUnused(inode);
  }

  #dropUnused(inode: Inode): void {
    if (inode.links <= 0 && inode.lookups <= 0 && inode.ino !== ROOT_INO) this.#inodes.delete(inode.ino);
  }

  #touch(dir: number): void {
    this.#inode(dir).mtimeNs = nowNs();
  }

  #change(kind: ChangeKind, needsRoom: boolean): void {
    const fault = this.#next(kind, needsRoom);
    if (fault !== undefined) throw refused(errnoOfFault(fault));
  }

  /** Counts one change. @returns the fault that it meets */
  #next(kind: ChangeKind, needsRoom: boolean): FaultKind | undefined {
    const number = this.#changes.push(kind) - 1;
    const fault = this.#fault;
    if (fault === undefined || number < fault.at) return undefined;
    const meets = fault.kind === 'EROFS' || (fault.kind === 'ENOSPC' || fault.kind === 'short' ? needsRoom : number === fault.at);
    if (!meets) return undefined;
    this.#hits++;
    return fault.kind === 'short' && this.#hits > 1 ? 'ENOSPC' : fault.kind;
  }

  #isFailing(): boolean {
    return this.#fault !== undefined && this.#changes.length > this.#fault.at;
  }

  #note(operation: Operation): void {
    this.#log?.push(operation);
  }

  #inode(ino: number): Inode {
    const inode = this.#inodes.get(ino);
    assert(inode !== undefined, `the kernel asks for inode ${ino}, which is gone`);
    return inode;
  }

  #child(dir: number, name: string): Inode {
    const ino = this.#inode(dir).entries.get(name);
    if (ino === undefined) throw refused(Errno.ENOENT);
    return this.#inode(ino);
  }
}

function newInode(ino: number, type: Inode['type'], mode: number): Inode {
  return { ino, type, mode, uid: 0, gid: 0, mtimeNs: nowNs(), links: 1, lookups: 0, data: Buffer.alloc(0), sizeBytes: 0, entries: new Map(), target: '' };
}

function attributes({ ino, type, mode, uid, gid, mtimeNs, links, sizeBytes, target }: Inode): Attributes {
  return { ino, sizeBytes: type === 'symlink' ? target.length : sizeBytes, mode: KIND_BITS[type] | mode, links, uid, gid, mtimeNs };
}

function errnoOfFault(kind: FaultKind): number {
  if (kind === 'EROFS') return Errno.EROFS;
  return kind === 'ENOSPC' || kind === 'short' ? Errno.ENOSPC : Errno.EIO;
}

function refused(errno: number): HdError {
  return new HdError('DISK_REFUSED', `errno ${errno}`, { details: { errno } });
}

/** The errno of what a `MemoryDisk` throws; undefined for anything else. */
export function errnoOf(error: unknown): number | undefined {
  const errno = error instanceof HdError && error.code === 'DISK_REFUSED' ? error.details?.['errno'] : undefined;
  return typeof errno === 'number' ? errno : undefined;
}
