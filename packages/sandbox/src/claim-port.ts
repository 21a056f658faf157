import { closeSync } from 'node:fs';
import { isIPv6 } from 'node:net';
import { HdError, sys } from '@hyperdocker/base';

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_IPV6 = 41;
const IPV6_V6ONLY = 26;
const BACKLOG = 511;
/** EADDRINUSE, and EACCES: a port that only root may have. */
const NOT_TO_BE_HAD = [98, 13];
/** EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL: an address that this machine does not have. */
const NOT_HERE = [99, 97, 22];

export type Claim =
  /** Descriptors that listen, one for each address that is there. They belong to the caller. */
  | { kind: 'claimed'; fds: number[] }
  | { kind: 'taken' }
  /** None of the addresses is of this machine. */
  | { kind: 'no-address' };

/**
 * Takes a port at all of the addresses, in the network namespace of the calling thread: when this returns, nobody else can have it. One that somebody has at any of them is taken, since
 * `localhost` may mean either. Addresses that the machine does not have are left out.
 */
export function claimPort(addresses: readonly string[], port: number): Claim {
  const fds: number[] = [];
  for (const address of addresses) {
    try {
      fds.push(listenAt(address, port));
    } catch (error) {
      const errno = error instanceof HdError ? error.details?.['errno'] : undefined;
      if (NOT_HERE.includes(errno as number)) continue;
      for (const fd of fds) closeSync(fd);
      if (NOT_TO_BE_HAD.includes(errno as number)) return { kind: 'taken' };
      throw error;
    }
  }
  return fds.length === 0 ? { kind: 'no-address' } : { kind: 'claimed', fds };
}

/**
 * A socket that listens for TCP, in the network namespace of the calling thread. Port 0 lets the kernel choose.
 * @param blocking as other programs expect a socket that they are handed; Node wants it otherwise
 * @throws HdError SYSTEM_CALL
 */
export function listenAt(address: string, port: number, { blocking = false } = {}): number {
  return bound(address, port, SOCK_STREAM | (blocking ? 0 : SOCK_NONBLOCK), (fd) => sys().listen(fd, BACKLOG));
}

/** The same for UDP. */
export function datagramsAt(address: string, port: number): number {
  return bound(address, port, SOCK_DGRAM | SOCK_NONBLOCK, () => {});
}

function bound(address: string, port: number, type: number, then: (fd: number) => void): number {
  const isV6 = isIPv6(address);
  const fd = sys().socket(isV6 ? AF_INET6 : AF_INET, type, 0);
  try {
    const on = Buffer.from([1, 0, 0, 0]);
    // Connections of an earlier run that the kernel still remembers do not keep a port. One that somebody listens at is refused all the same.
    if ((type & SOCK_STREAM) !== 0) sys().setSocketOption(fd, SOL_SOCKET, SO_REUSEADDR, on);
    if (isV6) sys().setSocketOption(fd, IPPROTO_IPV6, IPV6_V6ONLY, on);
    sys().bind(fd, isV6 ? sockaddrV6(address, port) : sockaddrV4(address, port));
    then(fd);
    return fd;
  } catch (error) {
    closeSync(fd);
    throw error;
  }
}

function sockaddrV4(address: string, port: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(address.split('.').map(Number), 4);
  return bytes;
}

function sockaddrV6(address: string, port: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  bytes.set(bytesOfV6(address), 8);
  return bytes;
}

/** The URL parser writes an address out in its shortest form; from there it is a matter of filling the gap. */
function bytesOfV6(address: string): Buffer {
  const [before = '', after] = new URL(`http://[${address}]/`).hostname.slice(1, -1).split('::');
  const groups = (text: string): number[] => (text === '' ? [] : text.split(':').map((group) => Number.parseInt(group, 16)));
  const [head, tail] = [groups(before), groups(after ?? '')];
  const all = [...head, ...Array.from({ length: 8 - head.length - tail.length }, () => 0), ...tail];
  return Buffer.from(all.flatMap((group) => [group >> 8, group & 0xff]));
}
