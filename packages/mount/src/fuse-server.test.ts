import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, openMemoryStore } from '@hyperdocker/cas';
import { TraceRecorder } from '@hyperdocker/engine';
import { Errno, IN_HEADER_BYTES, Opcode } from './fuse-protocol.ts';
import { kernelProblem } from './fuse-host.ts';
import { FuseServer } from './fuse-server.ts';
import { Projection, ROOT_INO } from './projection.ts';

const READDIRPLUS_FLAG = 1 << 13;
const NO_OPEN_FLAG = 1 << 17;
const NO_OPENDIR_FLAG = 1 << 24;

/** A kernel that asks what the test says. */
class Kernel {
  readonly server: FuseServer;
  readonly recorder = new TraceRecorder();
  #unique = 0n;

  constructor(store: Store, tree: TreeDigest, tracing = false, attributeFree = (): boolean => false) {
    this.server = new FuseServer(new Projection(store, tree, (path, asked) => this.recorder.record(path, asked)), { tracing, attributeFree });
  }

  /** The body of the answer, or the errno. */
  ask(opcode: number, ino: number, body: Buffer = Buffer.alloc(0)): Buffer | number {
    const request = Buffer.alloc(IN_HEADER_BYTES + body.length);
    request.writeUInt32LE(request.length, 0);
    request.writeUInt32LE(opcode, 4);
    request.writeBigUInt64LE(++this.#unique, 8);
    request.writeBigUInt64LE(BigInt(ino), 16);
    body.copy(request, IN_HEADER_BYTES);
    // The real buffer is larger and holds what was there before.
    const answer = this.server.handle(Buffer.concat([request, Buffer.alloc(4096, 0x5a)]));
    assert(answer.kind === 'reply');
    const bytes = Buffer.concat([answer.head, answer.body ?? Buffer.alloc(0)]);
    assert.equal(bytes.readUInt32LE(0), bytes.length);
    assert.equal(bytes.readBigUInt64LE(8), this.#unique);
    const errno = -bytes.readInt32LE(4);
    return errno === 0 ? bytes.subarray(16) : errno;
  }

  body(opcode: number, ino: number, body?: Buffer): Buffer {
    const answer = this.ask(opcode, ino, body);
    assert(typeof answer !== 'number', `errno ${String(answer)}`);
    return answer;
  }

  /** Inode number; 0: a cached absence. */
  lookup(parent: number, name: string): number {
    return Number(this.body(Opcode.LOOKUP, parent, cString(name)).readBigUInt64LE(0));
  }

  /** The inode number that `stat` shows. */
  shown(parent: number, name: string): number {
    return Number(this.body(Opcode.LOOKUP, parent, cString(name)).readBigUInt64LE(40));
  }
}

const cString = (text: string): Buffer => Buffer.from(`${text}\0`, 'latin1');
const fields = (...values: [value: number, bytes: 4 | 8][]): Buffer =>
  Buffer.concat(values.map(([value, bytes]) => {
    const buffer = Buffer.alloc(bytes);
    if (bytes === 8) buffer.writeBigUInt64LE(BigInt(value));
    else buffer.writeUInt32LE(value);
    return buffer;
  }));
const readArgs = (handle: number, offset: number, size: number): Buffer => fields([handle, 8], [offset, 8], [size, 4], [0, 4], [0, 8], [0, 4], [0, 4]);
const openArgs = (flags: number): Buffer => fields([flags, 4], [0, 4]);
const xattrArgs = (size: number, name = ''): Buffer => Buffer.concat([fields([size, 4], [0, 4]), name === '' ? Buffer.alloc(0) : cString(name)]);

function sample(): { store: Store; tree: TreeDigest } {
  const store = openMemoryStore();
  const builder = new TreeBuilder(store);
  const meta = { uid: 1000, gid: 4_000_000_000, mtimeNs: 1_700_000_000_123_456_789n, xattrs: [[toByteString('security.s'), Buffer.from('1')], [toByteString('user.k'), Buffer.from('value')]] as const, linkGroup: 0, links: 1 };
  builder.set(toByteString('file'), { kind: 'file', mode: 0o4755, digest: store.putBlob(Buffer.from('content')), size: 7, meta });
  builder.set(toByteString('old'), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from('content')), size: 7, meta: { ...meta, mtimeNs: -1_500_000_000n } });
  builder.set(toByteString('link'), { kind: 'symlink', mode: 0o777, target: 'to\xff' as ByteString });
  builder.set(toByteString('disk'), { kind: 'block', mode: 0o660, major: 259, minor: 70_000 });
  for (let i = 0; i < 300; i++) builder.set(`dir/${'x'.repeat(i % 60)}${i}\xff` as ByteString, { kind: i % 3 === 0 ? 'fifo' : 'socket', mode: 0o600 });
  return { store, tree: builder.finish() };
}

const init = (major: number, minor: number, flags: number): Buffer => fields([major, 4], [minor, 4], [65536, 4], [flags >>> 0, 4], [0, 4], ...Array<[number, 4]>(11).fill([0, 4]));

test('INIT takes of what the kernel offers, and while tracing has every child looked up by itself', () => {
  const { store, tree } = sample();
  const all = 0xffff_ffff;
  const flagsOf = (tracing: boolean, offered: number): number => new Kernel(store, tree, tracing).body(Opcode.INIT, 0, init(7, 38, offered)).readUInt32LE(12);
  for (const flag of [READDIRPLUS_FLAG, NO_OPEN_FLAG, NO_OPENDIR_FLAG]) {
    assert.notEqual(flagsOf(false, all) & flag, 0);
    assert.equal((flagsOf(true, all) & flag) !== 0, flag !== READDIRPLUS_FLAG);
  }
  assert.equal(flagsOf(false, all & ~READDIRPLUS_FLAG) & READDIRPLUS_FLAG, 0, 'not offered');
  assert.equal(flagsOf(false, NO_OPEN_FLAG | NO_OPENDIR_FLAG), (NO_OPEN_FLAG | NO_OPENDIR_FLAG) >>> 0, 'nothing that is not offered');
  const reply = new Kernel(store, tree).body(Opcode.INIT, 0, init(7, 31, all));
  assert.deepEqual([reply.length, reply.readUInt32LE(0), reply.readUInt32LE(4), reply.readUInt32LE(20), reply.readUInt16LE(28)], [64, 7, 31, 1 << 20, 256]);
  assert.equal(new Kernel(store, tree).body(Opcode.INIT, 0, init(7, 99, all)).readUInt32LE(4), 38, 'not newer than what we know');
});

test('a kernel of another version is asked to speak ours, or refused with what to do', () => {
  const { store, tree } = sample();
  const all = 0xffff_ffff;
  const newer = new Kernel(store, tree).body(Opcode.INIT, 0, init(8, 0, all));
  assert.deepEqual([newer.readUInt32LE(0), newer.readUInt32LE(4)], [7, 38], 'it asks again in this one');
  for (const [major, minor, offered, says] of [[7, 30, all, /FUSE 7\.30, and 7\.31/], [6, 99, all, /FUSE 6\.99/], [7, 31, all & ~NO_OPENDIR_FLAG, /7\.31 without NO_OPENDIR,/], [7, 31, 0, /without NO_OPEN and NO_OPENDIR/]] as const) {
    const kernel = new Kernel(store, tree);
    assert.equal(kernel.ask(Opcode.INIT, 0, init(major, minor, offered)), Errno.EPROTO);
    assert.equal(kernel.server.refusal?.code, 'FUSE_PROTOCOL');
    assert.match(kernel.server.refusal?.message ?? '', says);
    assert.match(kernel.server.refusal?.hint ?? '', /Linux 5\.4.*HD_FUSE=off/);
  }
  assert.deepEqual(['6.18.44-fc', '5.4.0', '5.10.1', '10.1'].map(kernelProblem), Array(4).fill(undefined));
  for (const old of ['5.3.18', '4.19.0-27-amd64', '3.10.0']) assert.match(kernelProblem(old) ?? '', /too old.*5\.4/);
});

test('LOOKUP and GETATTR', () => {
  const { store, tree } = sample();
  const kernel = new Kernel(store, tree);
  const entry = kernel.body(Opcode.LOOKUP, ROOT_INO, cString('file'));
  assert.equal(entry.length, 128);
  const attributes = kernel.body(Opcode.GETATTR, Number(entry.readBigUInt64LE(0)), Buffer.alloc(16)).subarray(16);
  assert.deepEqual(entry.subarray(40), attributes, 'the same attributes');
  assert.deepEqual(
    { size: attributes.readBigUInt64LE(8), seconds: attributes.readBigInt64LE(32), nanos: attributes.readUInt32LE(52), mode: attributes.readUInt32LE(60), uid: attributes.readUInt32LE(68), gid: attributes.readUInt32LE(72) },
    { size: 7n, seconds: 1_700_000_000n, nanos: 123_456_789, mode: 0o104755, uid: 1000, gid: 4_000_000_000 },
  );
  const old = kernel.body(Opcode.LOOKUP, ROOT_INO, cString('old')).subarray(40);
  assert.deepEqual([old.readBigInt64LE(32), old.readUInt32LE(52)], [-2n, 500_000_000], 'before 1970');
  const disk = kernel.body(Opcode.LOOKUP, ROOT_INO, cString('disk')).subarray(40);
  assert.equal(disk.readUInt32LE(76), (259 << 8) | (70_000 & 0xff) | ((70_000 & ~0xff) << 12));
  const absent = kernel.body(Opcode.LOOKUP, ROOT_INO, cString('absent'));
  assert.equal(absent.readBigUInt64LE(0), 0n);
  assert(absent.readBigUInt64LE(16) > 1_000_000n, 'an absence is kept for ever too');
  assert.equal(kernel.body(Opcode.READLINK, kernel.lookup(ROOT_INO, 'link')).toString('latin1'), 'to\xff');
});

test('no open is a question: it is refused for good, and the first read or listing counts', () => {
  const { store, tree } = sample();
  for (const tracing of [false, true]) {
    const kernel = new Kernel(store, tree, tracing);
    const ino = kernel.lookup(ROOT_INO, 'file');
    assert.equal(kernel.ask(Opcode.OPEN, ino, openArgs(0)), Errno.ENOSYS);
    assert.equal(kernel.ask(Opcode.OPENDIR, ROOT_INO, openArgs(0)), Errno.ENOSYS);
    assert.deepEqual([...kernel.recorder.finish()], [['file', 1]]);
    kernel.body(Opcode.READ, ino, readArgs(0, 0, 4096));
    kernel.body(Opcode.READDIR, ROOT_INO, readArgs(0, 0, 4096));
    assert.deepEqual([...kernel.recorder.finish()], [['', 2], ['file', 1 | 4]]);
  }
});

test('READ gives what there is', () => {
  const { store, tree } = sample();
  const kernel = new Kernel(store, tree);
  const ino = kernel.lookup(ROOT_INO, 'file');
  const read = (offset: number, size: number): string => kernel.body(Opcode.READ, ino, readArgs(0, offset, size)).toString();
  assert.deepEqual([read(0, 4096), read(3, 2), read(3, 4096), read(7, 4096), read(1_000_000, 4096)], ['content', 'te', 'tent', '', '']);
});

/** All entries, read in pieces of `room` bytes. */
function readWhole(kernel: Kernel, ino: number, room: number, plus: boolean): { name: string; ino: number; type: number; nodeid: number }[] {
  const found: { name: string; ino: number; type: number; nodeid: number }[] = [];
  let offset = 0;
  for (;;) {
    const reply = kernel.body(plus ? Opcode.READDIRPLUS : Opcode.READDIR, ino, readArgs(0, offset, room));
    assert(reply.length <= room);
    if (reply.length === 0) return found;
    for (let at = 0; at < reply.length; ) {
      const nodeid = plus ? Number(reply.readBigUInt64LE(at)) : -1;
      if (plus) at += 128;
      const length = reply.readUInt32LE(at + 16);
      found.push({ name: reply.toString('latin1', at + 24, at + 24 + length), ino: Number(reply.readBigUInt64LE(at)), type: reply.readUInt32LE(at + 20), nodeid });
      offset = Number(reply.readBigUInt64LE(at + 8));
      at += (24 + length + 7) & ~7;
    }
  }
}

test('READDIR in pieces of any size is the whole directory', () => {
  const { store, tree } = sample();
  for (const tracing of [false, true]) {
    const kernel = new Kernel(store, tree, tracing);
    const dir = kernel.lookup(ROOT_INO, 'dir');
    const whole = readWhole(kernel, dir, 1 << 20, false);
    assert.equal(whole.length, 302);
    assert.deepEqual(whole.slice(0, 2).map(({ name }) => name), ['.', '..']);
    for (const { name, ino, type } of whole.slice(2)) assert.deepEqual([kernel.shown(dir, name), type], [ino, /\d+/.exec(name) !== null && Number(/\d+/.exec(name)?.[0]) % 3 === 0 ? 1 : 12], name);
    for (const room of [120, 200, 512, 4096]) {
      assert.deepEqual(readWhole(kernel, dir, room, false), whole, `${room} bytes at a time`);
      const plus = readWhole(kernel, dir, room + 128, true);
      assert.deepEqual(plus.map(({ name, ino, type }) => [name, ino, type]), whole.map(({ name, ino, type }) => [name, ino, type]));
      assert.deepEqual(plus.map(({ nodeid }) => nodeid), plus.map(({ name }, i) => (i < 2 ? 0 : kernel.lookup(dir, name))), 'with attributes, but for . and ..');
    }
  }
});

test('GETXATTR and LISTXATTR: size, value, no room, no such attribute', () => {
  const { store, tree } = sample();
  const kernel = new Kernel(store, tree);
  const ino = kernel.lookup(ROOT_INO, 'file');
  assert.equal(kernel.body(Opcode.GETXATTR, ino, xattrArgs(0, 'user.k')).readUInt32LE(0), 5);
  assert.equal(kernel.body(Opcode.GETXATTR, ino, xattrArgs(5, 'user.k')).toString(), 'value');
  assert.equal(kernel.ask(Opcode.GETXATTR, ino, xattrArgs(4, 'user.k')), Errno.ERANGE);
  assert.equal(kernel.ask(Opcode.GETXATTR, ino, xattrArgs(0, 'user.none')), Errno.ENODATA);
  assert.equal(kernel.ask(Opcode.GETXATTR, ROOT_INO, xattrArgs(1, 'trusted.overlay.opaque')), Errno.ENODATA);
  assert.equal(kernel.recorder.finish().get('' as ByteString), undefined, 'what overlayfs asks for itself is no question of the step');
  const names = 'security.s\0user.k\0';
  assert.equal(kernel.body(Opcode.LISTXATTR, ino, xattrArgs(0)).readUInt32LE(0), names.length);
  assert.equal(kernel.body(Opcode.LISTXATTR, ino, xattrArgs(100)).toString(), names);
  assert.equal(kernel.ask(Opcode.LISTXATTR, ino, xattrArgs(3)), Errno.ERANGE);
  assert.equal(kernel.body(Opcode.LISTXATTR, ROOT_INO, xattrArgs(100)).length, 0);
});

test('a tree without attributes: refused for good, and counted for all that was and will be looked up', () => {
  const { store, tree } = sample();
  let known = false;
  const kernel = new Kernel(store, tree, true, () => known);
  const file = kernel.lookup(ROOT_INO, 'file');
  kernel.body(Opcode.READDIR, ROOT_INO, readArgs(0, 0, 4096));
  assert.equal(kernel.ask(Opcode.GETXATTR, ROOT_INO, xattrArgs(1, 'trusted.overlay.opaque')), Errno.ENODATA);
  assert.deepEqual([...kernel.recorder.finish()], [['', 2], ['file', 1]]);
  known = true;
  assert.equal(kernel.ask(Opcode.GETXATTR, file, xattrArgs(1, 'security.capability')), Errno.ENOSYS);
  assert.equal(kernel.ask(Opcode.LISTXATTR, file, xattrArgs(0)), Errno.ENOSYS);
  for (const name of ['link', 'none']) kernel.lookup(ROOT_INO, name);
  assert.deepEqual([...kernel.recorder.finish()], [['', 2], ['file', 1 | 16], ['link', 1 | 16], ['none', 1]]);
});

test('nothing can be written, and what is not known is refused for good', () => {
  const { store, tree } = sample();
  const kernel = new Kernel(store, tree);
  const writes = ['SETATTR', 'SYMLINK', 'MKNOD', 'MKDIR', 'UNLINK', 'RMDIR', 'RENAME', 'RENAME2', 'LINK', 'WRITE', 'CREATE', 'SETXATTR', 'REMOVEXATTR'] as const;
  for (const opcode of writes) assert.equal(kernel.ask(Opcode[opcode], ROOT_INO, Buffer.alloc(64)), Errno.EROFS, opcode);
  for (const opcode of [Opcode.FLUSH, Opcode.ACCESS, Opcode.LSEEK, Opcode.FSYNC, 4711]) assert.equal(kernel.ask(opcode, ROOT_INO, Buffer.alloc(64)), Errno.ENOSYS);
  assert.equal(kernel.body(Opcode.STATFS, ROOT_INO).length, 80);
});

test('a forgotten inode needs no answer; the end of the mount is told', () => {
  const { store, tree } = sample();
  const { server } = new Kernel(store, tree);
  const request = (opcode: number): Buffer => {
    const bytes = Buffer.alloc(IN_HEADER_BYTES + 16);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes.writeUInt32LE(opcode, 4);
    return bytes;
  };
  for (const opcode of [Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.INTERRUPT]) assert.deepEqual(server.handle(request(opcode)), { kind: 'none' });
  assert.deepEqual(server.handle(request(Opcode.DESTROY)), { kind: 'destroy' });
  assert.equal(server.counts.get(Opcode.FORGET), 1);
});

test('an object that is lost is an error of input and output, never other bytes', () => {
  const store = openMemoryStore();
  const tree = store.putTree([
    { kind: 'dir', name: toByteString('dir'), mode: 0o755, digest: 'ab'.repeat(32) as TreeDigest },
    { kind: 'file', name: toByteString('file'), mode: 0o644, digest: 'cd'.repeat(32) as BlobDigest, size: 5 },
  ]);
  const kernel = new Kernel(store, tree, true);
  const dir = kernel.lookup(ROOT_INO, 'dir');
  assert.equal(kernel.ask(Opcode.LOOKUP, dir, cString('x')), Errno.EIO);
  assert.equal(kernel.ask(Opcode.READDIR, dir, readArgs(0, 0, 4096)), Errno.EIO);
  assert.equal(kernel.ask(Opcode.READ, kernel.lookup(ROOT_INO, 'file'), readArgs(0, 0, 5)), Errno.EIO);
  const rootless = new Kernel(store, 'ef'.repeat(32) as TreeDigest);
  assert.equal(rootless.ask(Opcode.LOOKUP, ROOT_INO, cString('x')), Errno.EIO);
});
