import { closeSync, readSync, writeSync } from 'node:fs';
import { getSystemErrorMessage } from 'node:util';
import { HdError, sys } from '@hyperdocker/base';

/** One attribute of a message. Text ends with a NUL; a list is nested. Numbers have no order of their own here: `u32`, `be32`. */
export type Attribute = readonly [type: number, value: Uint8Array | string | readonly Attribute[]];

export interface Message {
  readonly type: number;
  /** NLM_F_*, beside "this is a request". */
  readonly flags?: number;
  /** What stands before the attributes: the structure that belongs to `type`. */
  readonly head: Uint8Array;
  readonly attributes?: readonly Attribute[];
}

export const NLM_F_ACK = 4;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

const PROTOCOLS = { route: 0, netfilter: 12 } as const;
const AF_NETLINK = 16;
const SOCK_RAW = 3;
const NLM_F_REQUEST = 1;
const NLMSG_ERROR = 2;
const HEADER_BYTES = 16;
const NESTED = 0x8000;
const MAX_REPLY_BYTES = 65_536;

/**
 * The kernel's own interface to links, addresses, routes and packet filters, of the network namespace that the calling thread is in when it opens this. Whatever the kernel
 * ties to the socket ends with it, also when this process is killed.
 */
export class Netlink implements Disposable {
  readonly #fd: number;
  #sequence = 0;

  constructor(protocol: keyof typeof PROTOCOLS) {
    this.#fd = sys().socket(AF_NETLINK, SOCK_RAW, PROTOCOLS[protocol]);
  }

  /** Sends messages in one piece, and waits until those that ask for it are acknowledged. @throws HdError NETLINK, with `errno` in its details */
  send(...messages: readonly Message[]): void {
    const awaited = new Set<number>();
    const bytes = messages.map((message) => {
      const sequence = ++this.#sequence;
      if (((message.flags ?? 0) & NLM_F_ACK) !== 0) awaited.add(sequence);
      return encode(message, sequence);
    });
    writeSync(this.#fd, Buffer.concat(bytes));
    while (awaited.size > 0) {
      for (const reply of this.#receive()) if (reply.type === NLMSG_ERROR) settle(reply, awaited);
    }
  }

  /** The head and attributes of the one answer to a question. @throws HdError NETLINK */
  ask(message: Message): Buffer {
    writeSync(this.#fd, encode(message, ++this.#sequence));
    const [reply] = this.#receive();
    if (reply === undefined || reply.type === NLMSG_ERROR) throw failed(reply?.body.readInt32LE(0) ?? 0);
    return reply.body;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #receive(): Reply[] {
    const buffer = Buffer.alloc(MAX_REPLY_BYTES);
    const end = readSync(this.#fd, buffer);
    const replies: Reply[] = [];
    for (let at = 0; at + HEADER_BYTES <= end; ) {
      const length = buffer.readUInt32LE(at);
      replies.push({ type: buffer.readUInt16LE(at + 4), sequence: buffer.readUInt32LE(at + 8), body: buffer.subarray(at + HEADER_BYTES, at + length) });
      at += aligned(length);
    }
    return replies;
  }
}

interface Reply {
  readonly type: number;
  readonly sequence: number;
  readonly body: Buffer;
}

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value >>> 0);
  return bytes;
}

export function be32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value >>> 0);
  return bytes;
}

export function encodeAttribute([type, value]: Attribute): Buffer {
  const payload = typeof value === 'string' ? Buffer.from(`${value}\0`) : value instanceof Uint8Array ? value : Buffer.concat(value.map(encodeAttribute));
  const header = Buffer.alloc(4);
  header.writeUInt16LE(4 + payload.length, 0);
  header.writeUInt16LE(Array.isArray(value) ? type | NESTED : type, 2);
  return padded(Buffer.concat([header, payload]));
}

export function isNetlinkErrno(error: unknown, ...errnos: readonly number[]): boolean {
  return error instanceof HdError && error.code === 'NETLINK' && errnos.includes(error.details?.['errno'] as number);
}

function settle({ body, sequence }: Reply, awaited: Set<number>): void {
  const errno = body.readInt32LE(0);
  if (errno !== 0) throw failed(errno);
  awaited.delete(sequence);
}

function failed(negative: number): HdError {
  return new HdError('NETLINK', `the kernel refused it: ${negative === 0 ? 'it gave no answer' : getSystemErrorMessage(negative)} (errno ${-negative})`, { details: { errno: -negative } });
}

function encode({ type, flags = 0, head, attributes = [] }: Message, sequence: number): Buffer {
  const body = Buffer.concat([padded(head), ...attributes.map(encodeAttribute)]);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt32LE(HEADER_BYTES + body.length, 0);
  header.writeUInt16LE(type, 4);
  header.writeUInt16LE(NLM_F_REQUEST | flags, 6);
  header.writeUInt32LE(sequence, 8);
  return Buffer.concat([header, body]);
}

function padded(bytes: Uint8Array): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)]);
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}
