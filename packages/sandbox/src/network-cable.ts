import { closeSync, openSync, readFileSync } from 'node:fs';
import { createConnection } from 'node:net';
import { HdError, sys } from '@hyperdocker/base';
import { listenAt } from './claim-port.ts';
import { isNetlinkErrno, Netlink } from './netlink.ts';
import { addAddress, addDefaultRoute, addVeth, linkIndex, removeLink, setUp, type Ipv4 } from './network-links.ts';
import { masquerade, refuseNewConnections } from './packet-filter.ts';

export interface CableOptions {
  readonly host: Netlink;
  readonly inside: Netlink;
  /** Descriptor of the namespace that the calling thread is in. */
  readonly namespace: number;
  readonly seed: number;
}

/** What keeps the way open. The link itself goes with its namespace. */
export type Cable = Disposable;

/** Each cable has eight addresses: two for itself, two for the test of whether packets are handed on. */
const ADDRESSES = 8;
const NUMBERS = 65_536 / ADDRESSES;
const PREFIX_BITS = 30;
const [EEXIST, EPERM, EOPNOTSUPP] = [17, 1, 95];
/** Rarely used by anybody; the first that no route of the host overlaps. */
const RANGES: readonly (readonly [number, number])[] = [[10, 87], [10, 139], [10, 213], [172, 27]];
const PROBE_MS = 1_000;
const INSIDE_NAME = 'eth0';

/**
 * A cable from the namespace to the host, which hands packets on under its own address. Nothing of it outlives this process and the namespace: the filters belong to sockets, the link to the namespace. The host's
 * own settings are left alone: where it does not hand packets on, this is no way out. What comes from outside is let in only as an answer.
 * @throws HdError NO_CABLE, which says why
 */
export async function openCable(options: CableOptions): Promise<Cable> {
  if (!mayUseHostNetwork(options)) throw noCable('it takes the rights of root over the host\'s network');
  const handsPackets = inHostNetwork(options, () => readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim() === '1');
  if (!handsPackets) throw noCable('this machine does not hand packets on (sysctl net.ipv4.ip_forward)');
  using made = new DisposableStack();
  try {
    const { name, addresses } = connect(options);
    made.defer(() => removeLink(options.host, name));
    made.use(refuseNewConnections(name, INSIDE_NAME));
    made.use(inHostNetwork(options, () => masquerade(name, { source: addresses[2], link: name })));
    if (!(await handsOn(options, { name, addresses }))) throw noCable('packets do not come through: a firewall of this machine drops what it would hand on');
    return made.move();
  } catch (error) {
    if (isNetlinkErrno(error, EPERM, EOPNOTSUPP)) throw noCable(`veth or nf_tables cannot be used (${(error as Error).message})`);
    throw error;
  }
}

interface Connected {
  readonly name: string;
  /** By their place in the eight. */
  readonly addresses: Record<1 | 2 | 5 | 6, Ipv4>;
}

/** The name of the host's end is the number of the cable: the kernel lets nobody have it twice, and frees it with the namespace. */
function connect({ host, inside, namespace, seed }: CableOptions): Connected {
  const range = RANGES.find((candidate) => !isRouted(candidate));
  if (range === undefined) throw noCable('all address ranges for it are in use on this machine');
  for (let attempt = 0; attempt < NUMBERS; attempt++) {
    const number = (seed + attempt) % NUMBERS;
    const name = `hdnet${number}`;
    try {
      addVeth(host, { name, peer: INSIDE_NAME, peerNamespace: namespace, mtuBytes: uplinkMtu() });
    } catch (error) {
      if (isNetlinkErrno(error, EEXIST)) continue;
      throw error;
    }
    const at = (place: number): Ipv4 => [...range, (number * ADDRESSES) >> 8, ((number * ADDRESSES) & 0xff) + place] as unknown as Ipv4;
    const addresses = { 1: at(1), 2: at(2), 5: at(5), 6: at(6) };
    join(host, name, addresses[1]);
    const index = join(inside, INSIDE_NAME, addresses[2]);
    addDefaultRoute(inside, index, addresses[1]);
    return { name, addresses };
  }
  throw noCable('all its numbers are in use');
}

function join(netlink: Netlink, name: string, address: Ipv4): number {
  const index = linkIndex(netlink, name);
  addAddress(netlink, index, address, PREFIX_BITS);
  setUp(netlink, index);
  return index;
}

/** Whether something that is sent through the host arrives at a namespace on its other side, and the answer comes back: rules of others may forbid it, in any of several places. */
async function handsOn({ host, namespace }: CableOptions, { name, addresses }: Connected): Promise<boolean> {
  const probe = name.replace('net', 'try');
  const beyond = makeBeyond(host, probe, addresses, namespace);
  try {
    return await accepts(addresses[6].join('.'), beyond.port);
  } finally {
    for (const fd of beyond.fds) closeSync(fd);
    // Nobody need wait for it.
    setImmediate(() => removeLink(host, probe));
  }
}

function accepts(host: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createConnection({ host, port, timeout: PROBE_MS });
    const finish = (answer: boolean) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', finish(true)).once('error', finish(false)).once('timeout', finish(false));
  });
}

function makeBeyond(host: Netlink, name: string, addresses: Connected['addresses'], home: number): { fds: number[]; port: number } {
  const port = 9;
  sys().unshareNetwork();
  const fd = openSync('/proc/thread-self/ns/net', 'r');
  using beyond = new Netlink('route');
  try {
    addVeth(host, { name, peer: INSIDE_NAME, peerNamespace: fd, mtuBytes: uplinkMtu() });
    join(host, name, addresses[5]);
    const index = join(beyond, INSIDE_NAME, addresses[6]);
    addDefaultRoute(beyond, index, addresses[5]);
    return { fds: [fd, listenAt('0.0.0.0', port)], port };
  } finally {
    sys().joinNetwork(home);
  }
}

/** The calling thread is inside; the process's first one is not. What /proc/sys/net shows is that of the calling thread. */
function inHostNetwork<T>({ namespace }: CableOptions, work: () => T): T {
  const outside = openSync('/proc/self/ns/net', 'r');
  try {
    sys().joinNetwork(outside);
    try {
      return work();
    } finally {
      sys().joinNetwork(namespace);
    }
  } finally {
    closeSync(outside);
  }
}

/** Root of a user namespace has no rights there. */
function mayUseHostNetwork(options: CableOptions): boolean {
  try {
    inHostNetwork(options, () => {});
    return true;
  } catch (error) {
    if (error instanceof HdError && error.details?.['errno'] === EPERM) return false;
    throw error;
  }
}

/** A packet that fits in here has to fit on the way out, too. */
function uplinkMtu(): number {
  const link = routes().find(({ destination, mask }) => destination === 0 && mask === 0)?.link;
  return link === undefined ? 1_500 : Number(readFileSync(`/sys/class/net/${link}/mtu`, 'utf8'));
}

function isRouted([first, second]: readonly [number, number]): boolean {
  return routes().some(({ link, destination, mask }) => {
    if (mask === 0 || link.startsWith('hdnet') || link.startsWith('hdtry')) return false;
    const common = mask & 0xffff0000;
    return (destination & common) >>> 0 === ((((first << 24) | (second << 16)) & common) >>> 0);
  });
}

/** Of the host: /proc/net is what the process's first thread sees. */
function routes(): { link: string; destination: number; mask: number }[] {
  const number = (hex: string): number => Buffer.from(hex, 'hex').readUInt32LE();
  return readFileSync('/proc/net/route', 'utf8').trim().split('\n').slice(1).map((line) => {
    const [link = '', destination = '', , , , , , mask = ''] = line.split('\t');
    return { link, destination: number(destination), mask: number(mask) };
  });
}

function noCable(why: string): HdError {
  return new HdError('NO_CABLE', why);
}
