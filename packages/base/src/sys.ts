import { createRequire } from 'node:module';
import { getSystemErrorMessage } from 'node:util';
import type { ByteString } from './bytes.ts';
import { HdError } from './error.ts';

/**
 * The seam to system calls that `node:fs` lacks. Linux, glibc or musl. Paths never follow a final symbolic link.
 * Errors are `HdError` with code `SYS_<ERRNO>`-like details; "no such attribute" is a value.
 */
export interface Sys {
  readonly backend: 'koffi' | 'node:ffi';
  /** Names of the extended attributes of a path. Empty where the file system has none. */
  listXattrs(path: string | Buffer): ByteString[];
  /** `undefined` where the path has no such attribute. */
  getXattr(path: string | Buffer, name: ByteString): Buffer | undefined;
  setXattr(path: string | Buffer, name: ByteString, value: Uint8Array): void;
  /** Access and modification time, nanoseconds since the epoch. */
  setTimes(path: string | Buffer, atimeNs: bigint, mtimeNs: bigint): void;
  /** `mode` holds the S_IF* kind and the permission bits. */
  makeNode(path: string | Buffer, mode: number, major: number, minor: number): void;
  /** mount(2). `flags` are MS_*, `data` the options of the file system. */
  mount(type: string, target: string, flags: number, data: string): void;
  /** umount2(2). */
  unmount(target: string): void;
  /** bpf(2): a descriptor, or 0. The addresses of `pointers` are written into the attributes first, each at its offset. */
  bpf(command: number, attributes: Buffer, pointers?: readonly (readonly [at: number, to: Buffer])[]): number;
  /** unshare(CLONE_NEWNET): the calling thread, and no other one, is in a network namespace of its own from now on, with nothing in it. */
  unshareNetwork(): void;
  /** setns(2): the calling thread, and no other one, goes over into the network namespace of a descriptor. */
  joinNetwork(fd: number): void;
  /** socket(2), of the calling thread's network namespace; closed on exec. The caller closes it. */
  socket(domain: number, type: number, protocol: number): number;
  /** bind(2). `address` is a sockaddr. */
  bind(fd: number, address: Buffer): void;
  /** listen(2). */
  listen(fd: number, backlog: number): void;
  /** setsockopt(2). */
  setSocketOption(fd: number, level: number, name: number, value: Buffer): void;
  /** getsockopt(2): as many bytes as there are. */
  getSocketOption(fd: number, level: number, name: number, maxBytes: number): Buffer;
}

interface Call {
  (...args: (Buffer | number)[]): number;
}
type Bind = (name: string, parameters: ('pointer' | 'int' | 'uint' | 'ulong')[], result: 'int' | 'long') => Call;
interface Backend {
  name: Sys['backend'];
  bind: Bind;
  errno(): number;
  address(buffer: Buffer): bigint;
}

const require = createRequire(import.meta.url);
const ENODATA = 61;
const ENOTSUP = 95;
const ERANGE = 34;
const AT_FDCWD = -100;
const AT_SYMLINK_NOFOLLOW = 0x100;
const UMOUNT_NOFOLLOW = 8;
const CLONE_NEWNET = 0x40000000;
const SOCK_CLOEXEC = 0o2000000;
/** The C libraries have no function for it. */
const BPF_CALL: Partial<Record<NodeJS.Architecture, number>> = { x64: 321, arm64: 280 };

function koffiBackend(): Backend | undefined {
  try {
    const koffi = require('koffi') as typeof import('koffi');
    const libc = koffi.load(null);
    const types = { pointer: 'void *', int: 'int', uint: 'unsigned int', ulong: 'size_t', long: 'long' } as const;
    return {
      name: 'koffi',
      bind: (name, parameters, result) => libc.func(name, types[result], parameters.map((p) => types[p])) as unknown as Call,
      errno: () => koffi.errno(),
      address: (buffer) => BigInt(koffi.address(buffer)),
    };
  } catch {
    return undefined;
  }
}

interface NodeFfi {
  dlopen(path: null, symbols: Record<string, { arguments: string[]; return: string }>): { functions: Record<string, (...args: unknown[]) => number | bigint> };
  getInt32(pointer: bigint, offset?: number): number;
  getRawPointer(buffer: Buffer): bigint;
}

function nodeFfiBackend(): Backend | undefined {
  try {
    const ffi = require('node:ffi') as NodeFfi;
    const types = { pointer: 'pointer', int: 'i32', uint: 'u32', ulong: 'u64', long: 'i64' } as const;
    const one = (name: string, parameters: string[], result: string) => {
      const call = ffi.dlopen(null, { [name]: { arguments: parameters, return: result } }).functions[name];
      if (call === undefined) throw new Error(`no symbol ${name}`);
      return call;
    };
    const errnoLocation = one('__errno_location', [], 'pointer');
    return {
      name: 'node:ffi',
      bind(name, parameters, result) {
        const call = one(name, parameters.map((p) => types[p]), types[result]);
        return (...args) => Number(call(...args.map((arg, i) => {
          if (typeof arg !== 'number') return ffi.getRawPointer(arg);
          return parameters[i] === 'ulong' ? BigInt(arg) : arg;
        })));
      },
      errno: () => ffi.getInt32(BigInt(errnoLocation())),
      address: (buffer) => ffi.getRawPointer(buffer),
    };
  } catch {
    return undefined;
  }
}

function makeSys({ name, bind, errno, address }: Backend): Sys {
  const lgetxattr = bind('lgetxattr', ['pointer', 'pointer', 'pointer', 'ulong'], 'long');
  const llistxattr = bind('llistxattr', ['pointer', 'pointer', 'ulong'], 'long');
  const lsetxattr = bind('lsetxattr', ['pointer', 'pointer', 'pointer', 'ulong', 'int'], 'int');
  const utimensat = bind('utimensat', ['int', 'pointer', 'pointer', 'int'], 'int');
  const mknodat = bind('mknodat', ['int', 'pointer', 'uint', 'ulong'], 'int');
  const mount = bind('mount', ['pointer', 'pointer', 'pointer', 'ulong', 'pointer'], 'int');
  const umount2 = bind('umount2', ['pointer', 'int'], 'int');
  const syscall = bind('syscall', ['ulong', 'ulong', 'pointer', 'ulong'], 'long');
  const unshare = bind('unshare', ['int'], 'int');
  const setns = bind('setns', ['int', 'int'], 'int');
  const socket = bind('socket', ['int', 'int', 'int'], 'int');
  const bindSocket = bind('bind', ['int', 'pointer', 'uint'], 'int');
  const listen = bind('listen', ['int', 'int'], 'int');
  const setsockopt = bind('setsockopt', ['int', 'int', 'int', 'pointer', 'uint'], 'int');
  const getsockopt = bind('getsockopt', ['int', 'int', 'int', 'pointer', 'pointer'], 'int');

  /** Calls with a growing buffer until the answer fits. */
  function sized(what: string, path: string | Buffer, call: (buffer: Buffer) => number): Buffer | undefined {
    for (let size = 1024; ; size *= 4) {
      const buffer = Buffer.alloc(size);
      const length = call(buffer);
      if (length >= 0) return buffer.subarray(0, length);
      const code = errno();
      if (code === ENODATA || code === ENOTSUP) return undefined;
      if (code !== ERANGE || size > 1 << 20) throw failed(what, path, code);
    }
  }

  return {
    backend: name,
    listXattrs(path) {
      const p = cString(path);
      const names = sized('llistxattr', path, (buffer) => llistxattr(p, buffer, buffer.length));
      return names === undefined ? [] : (names.toString('latin1').split('\0').slice(0, -1) as ByteString[]);
    },
    getXattr(path, attribute) {
      const p = cString(path);
      const n = cString(Buffer.from(attribute, 'latin1'));
      return sized('lgetxattr', path, (buffer) => lgetxattr(p, n, buffer, buffer.length));
    },
    setXattr(path, attribute, value) {
      const bytes = Buffer.from(value);
      if (lsetxattr(cString(path), cString(Buffer.from(attribute, 'latin1')), bytes.length === 0 ? Buffer.alloc(1) : bytes, bytes.length, 0) !== 0) {
        throw failed('lsetxattr', path, errno());
      }
    },
    setTimes(path, atimeNs, mtimeNs) {
      const times = Buffer.alloc(32);
      for (const [i, ns] of [atimeNs, mtimeNs].entries()) {
        const nanos = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
        times.writeBigInt64LE((ns - nanos) / 1_000_000_000n, i * 16);
        times.writeBigInt64LE(nanos, i * 16 + 8);
      }
      if (utimensat(AT_FDCWD, cString(path), times, AT_SYMLINK_NOFOLLOW) !== 0) throw failed('utimensat', path, errno());
    },
    makeNode(path, mode, major, minor) {
      const device = (minor & 0xff) | ((major & 0xfff) << 8) | ((minor & ~0xff) << 12);
      if (mknodat(AT_FDCWD, cString(path), mode, device >>> 0) !== 0) throw failed('mknod', path, errno());
    },
    mount(type, target, flags, data) {
      if (mount(cString('hyperdocker'), cString(target), cString(type), flags, cString(data)) !== 0) throw failed(`mount of ${type}`, target, errno());
    },
    unmount(target) {
      if (umount2(cString(target), UMOUNT_NOFOLLOW) !== 0) throw failed('umount', target, errno());
    },
    bpf(command, attributes, pointers = []) {
      const call = BPF_CALL[process.arch];
      if (call === undefined) throw new HdError('SYSTEM_CALL', `no number of bpf is known for ${process.arch}`);
      for (const [at, to] of pointers) attributes.writeBigUInt64LE(address(to), at);
      const result = Number(syscall(call, command, attributes, attributes.length));
      if (result < 0) throw failed('bpf', `command ${command}`, errno());
      return result;
    },
    unshareNetwork() {
      if (unshare(CLONE_NEWNET) !== 0) throw failed('unshare', 'the network', errno());
    },
    joinNetwork(fd) {
      if (setns(fd, CLONE_NEWNET) !== 0) throw failed('setns', `descriptor ${fd}`, errno());
    },
    socket(domain, type, protocol) {
      const fd = socket(domain, type | SOCK_CLOEXEC, protocol);
      if (fd < 0) throw failed('socket', `domain ${domain}`, errno());
      return fd;
    },
    bind(fd, to) {
      if (bindSocket(fd, to, to.length) !== 0) throw failed('bind', `descriptor ${fd}`, errno());
    },
    listen(fd, backlog) {
      if (listen(fd, backlog) !== 0) throw failed('listen', `descriptor ${fd}`, errno());
    },
    setSocketOption(fd, level, option, value) {
      if (setsockopt(fd, level, option, value, value.length) !== 0) throw failed('setsockopt', `descriptor ${fd}`, errno());
    },
    getSocketOption(fd, level, option, maxBytes) {
      const value = Buffer.alloc(maxBytes);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(maxBytes);
      if (getsockopt(fd, level, option, value, length) !== 0) throw failed('getsockopt', `descriptor ${fd}`, errno());
      return value.subarray(0, length.readUInt32LE());
    },
  };
}

function cString(path: string | Buffer): Buffer {
  return Buffer.concat([typeof path === 'string' ? Buffer.from(path, 'utf8') : path, Buffer.alloc(1)]);
}

function failed(call: string, path: string | Buffer, errno: number): HdError {
  return new HdError('SYSTEM_CALL', `${call} on ${path.toString()} failed: ${getSystemErrorMessage(-errno)} (errno ${errno})`, { details: { call, errno } });
}

let loaded: Sys | undefined;

/** The system calls of this machine. Loaded at first use (koffi takes 9 ms). */
export function sys(): Sys {
  if (loaded === undefined) {
    const backend = koffiBackend() ?? nodeFfiBackend();
    if (backend === undefined) {
      throw new HdError('NO_FFI', 'neither koffi nor node:ffi can be loaded', { hint: 'install the npm packages again on this machine: `npm ci`' });
    }
    loaded = makeSys(backend);
  }
  return loaded;
}

/** Every backend that loads here, for the test that holds them to the same behaviour. */
export function allSys(): Sys[] {
  return [koffiBackend(), nodeFfiBackend()].flatMap((backend) => (backend === undefined ? [] : [makeSys(backend)]));
}
