import { closeSync, existsSync, mkdirSync, openSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { HdError, sys } from '@hyperdocker/base';

/** Where version 2 of cgroups is: alone, or beside version 1. */
const HIERARCHIES = ['/sys/fs/cgroup', '/sys/fs/cgroup/unified'];

/**
 * Counts in the kernel, with two programs on the container's cgroup, the internet sockets that its processes open, by whatever way, from its first process on.
 * They go with this object, and with this process.
 */
export class NetworkUse implements Disposable {
  readonly #stack: DisposableStack;
  readonly #counts: number;

  private constructor(stack: DisposableStack, counts: number) {
    this.#stack = stack;
    this.#counts = counts;
  }

  /** Call before the container starts. Undefined where the kernel, or the rights that there are, do not allow it. */
  static watch(containerId: string): NetworkUse | undefined {
    const hierarchy = HIERARCHIES.find((dir) => existsSync(join(dir, 'cgroup.procs')));
    if (hierarchy === undefined) return undefined;
    using stack = new DisposableStack();
    try {
      const group = join(hierarchy, 'hyperdocker', containerId);
      mkdirSync(group, { recursive: true });
      stack.defer(() => removeGroup(group));
      const fd = opened(stack, openSync(group, 'r'));
      const counts = opened(stack, makeMap());
      attach(stack, fd, loadCounter(stack, SOCKETS, counts), SOCKETS);
      attach(stack, fd, loadCounter(stack, DEVICES, counts), DEVICES);
      return new NetworkUse(stack.move(), counts);
    } catch (error) {
      if (isRefusal(error)) return undefined;
      throw error;
    }
  }

  /**
   * Call once the container has ended. `unknown`: its processes were not in the group; every runtime opens /dev/null as it starts a container, so that a
   * count of 0 devices says so.
   */
  result(): 'used' | 'unused' | 'unknown' {
    const counts = readCounts(this.#counts);
    if (counts.readBigUInt64LE(SOCKETS.at) > 0) return 'used';
    return counts.readBigUInt64LE(DEVICES.at) > 0 ? 'unused' : 'unknown';
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

const Command = { MAP_CREATE: 0, MAP_LOOKUP_ELEM: 1, PROG_LOAD: 5, LINK_CREATE: 28 } as const;
const BPF_MAP_TYPE_ARRAY = 2;
const COUNT_BYTES = 8;
const COUNTS_BYTES = 2 * COUNT_BYTES;

/** A kind of program, where it is attached to, and its counter. */
interface Hook { programType: number; attachType: number; at: number }
/** BPF_PROG_TYPE_CGROUP_SOCK at BPF_CGROUP_INET_SOCK_CREATE: for IPv4 and IPv6, of any type and protocol. */
const SOCKETS: Hook = { programType: 9, attachType: 2, at: 0 };
/** BPF_PROG_TYPE_CGROUP_DEVICE at BPF_CGROUP_DEVICE. */
const DEVICES: Hook = { programType: 15, attachType: 6, at: COUNT_BYTES };

function makeMap(): number {
  const attributes = Buffer.alloc(72);
  for (const [i, value] of [BPF_MAP_TYPE_ARRAY, 4, COUNTS_BYTES, 1].entries()) attributes.writeUInt32LE(value, i * 4);
  return sys().bpf(Command.MAP_CREATE, attributes);
}

/** Adds 1 to its counter, and lets happen what happens. */
function loadCounter(stack: DisposableStack, { programType, attachType, at }: Hook, counts: number): number {
  const program = Buffer.concat([
    ...[instruction(0x18, 1, 2, counts), instruction(0, 0, 0, at)], // r1 = where the counter is, in the only value of the map
    instruction(0xb7, 2, 0, 1), // r2 = 1
    instruction(0xdb, 1, 2, 0), // *r1 += r2, atomically
    instruction(0xb7, 0, 0, 1), // r0 = 1: allowed
    instruction(0x95, 0, 0, 0), // return r0
  ]);
  const attributes = Buffer.alloc(72);
  attributes.writeUInt32LE(programType, 0);
  attributes.writeUInt32LE(program.length / 8, 4);
  attributes.writeUInt32LE(attachType, 68);
  return opened(stack, sys().bpf(Command.PROG_LOAD, attributes, [[8, program], [16, Buffer.from('MIT\0')]]));
}

function instruction(code: number, to: number, from: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes[0] = code;
  bytes[1] = to | (from << 4);
  bytes.writeInt32LE(value, 4);
  return bytes;
}

/** As a link, which the kernel undoes when its descriptor is closed. */
function attach(stack: DisposableStack, group: number, program: number, { attachType }: Hook): void {
  const attributes = Buffer.alloc(64);
  for (const [i, value] of [program, group, attachType].entries()) attributes.writeUInt32LE(value, i * 4);
  opened(stack, sys().bpf(Command.LINK_CREATE, attributes));
}

function readCounts(map: number): Buffer {
  const [key, value] = [Buffer.alloc(4), Buffer.alloc(COUNTS_BYTES)];
  const attributes = Buffer.alloc(32);
  attributes.writeUInt32LE(map, 0);
  sys().bpf(Command.MAP_LOOKUP_ELEM, attributes, [[8, key], [16, value]]);
  return value;
}

function opened(stack: DisposableStack, fd: number): number {
  stack.defer(() => closeSync(fd));
  return fd;
}

/** Mostly the runtime has removed it. */
function removeGroup(group: string): void {
  try {
    rmdirSync(group);
  } catch {}
}

/** A kernel without it, no right to it, or cgroups that may not be written to. */
function isRefusal(error: unknown): boolean {
  return (error instanceof HdError && error.code === 'SYSTEM_CALL') || (error instanceof Error && 'code' in error && 'syscall' in error);
}
