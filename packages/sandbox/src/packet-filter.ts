import { be32, NLM_F_ACK, NLM_F_CREATE, Netlink, u32, type Attribute, type Message } from './netlink.ts';
import type { Ipv4 } from './network-links.ts';

/**
 * Tables of nf_tables, spoken to without the program `nft`. Each belongs to a socket (NFT_TABLE_F_OWNER, Linux 5.12): nobody else changes it, and it goes when
 * the socket closes, however this process ends. The caller disposes of it, in the thread whose network namespace it is for.
 */

/** What comes from `source` leaves with the address of the link that it leaves by, unless that is `link` itself. @throws HdError NETLINK */
export function masquerade(table: string, { source, link }: { source: Ipv4; link: string }): Disposable {
  return makeTable(table, [
    chain(table, 'postrouting', { type: 'nat', hook: HOOK.postrouting, priority: PRIORITY_NAT_SOURCE }),
    rule(table, 'postrouting', [...sourceIs(source), load(META.outputName), compare(DIFFERS, linkName(link)), ['masq', []]]),
  ]);
}

/** Nothing gets in but answers: connections from `link` are refused service without a word. @throws HdError NETLINK */
export function refuseNewConnections(table: string, link: string): Disposable {
  return makeTable(table, [
    chain(table, 'input', { type: 'filter', hook: HOOK.input, priority: 0 }),
    rule(table, 'input', [load(META.inputName), compare(EQUALS, linkName(link)), ...connectionIsNew(), verdict(DROP)]),
  ]);
}

/** Connections over TCP that would leave arrive at a port of loopback instead. @throws HdError NETLINK */
export function redirectOutgoing(table: string, port: number): Disposable {
  return makeTable(table, [
    chain(table, 'output', { type: 'nat', hook: HOOK.output, priority: PRIORITY_NAT_DESTINATION }),
    rule(table, 'output', [...destinationIsNotLoopback(), load(META.protocol), compare(EQUALS, Buffer.from([TCP])), ['immediate', [[1, be32(REGISTER)], [2, [[1, be16(port)]]]]], ['redir', [[1, be32(REGISTER)]]]]),
  ]);
}

/** From linux/netfilter/nf_tables.h and linux/netfilter.h. */
const SUBSYSTEM = 10;
const BATCH_BEGIN = 0x10;
const BATCH_END = 0x11;
const NEW_TABLE = 0;
const NEW_CHAIN = 3;
const NEW_RULE = 6;
const OWNED = 2;
const IPV4 = 2;
const HOOK = { input: 1, output: 3, postrouting: 4 } as const;
const PRIORITY_NAT_DESTINATION = -100;
const PRIORITY_NAT_SOURCE = 100;
const META = { inputName: 6, outputName: 7, protocol: 16 } as const;
const NETWORK_HEADER = 1;
const [SOURCE_AT, DESTINATION_AT] = [12, 16];
const CT_STATE = 0;
const CT_NEW = 8;
const REGISTER = 1;
const [EQUALS, DIFFERS] = [0, 1];
const DROP = 0;
const NLM_F_APPEND = 0x800;
const TCP = 6;
const LINK_NAME_BYTES = 16;

/** Name and attributes of an expression; the expressions of a rule are run from left to right as long as they hold. */
type Expression = readonly [name: string, attributes: readonly Attribute[]];

function makeTable(table: string, content: readonly Message[]): Disposable {
  const netlink = new Netlink('netfilter');
  try {
    netlink.send(
      { type: BATCH_BEGIN, head: head(0, SUBSYSTEM) },
      message(NEW_TABLE, NLM_F_CREATE, [[1, table], [2, be32(OWNED)]]),
      ...content,
      { type: BATCH_END, head: head(0, SUBSYSTEM) },
    );
    return netlink;
  } catch (error) {
    netlink[Symbol.dispose]();
    throw error;
  }
}

function chain(table: string, name: string, { type, hook, priority }: { type: string; hook: number; priority: number }): Message {
  return message(NEW_CHAIN, NLM_F_CREATE, [[1, table], [3, name], [4, [[1, be32(hook)], [2, be32(priority)]]], [7, type]]);
}

function rule(table: string, chainName: string, expressions: readonly Expression[]): Message {
  const list = expressions.map(([name, data]): Attribute => [1, [[1, name], [2, data]]]);
  return message(NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, [[1, table], [2, chainName], [4, list]]);
}

function message(type: number, flags: number, attributes: readonly Attribute[]): Message {
  return { type: (SUBSYSTEM << 8) | type, flags: flags | NLM_F_ACK, head: head(IPV4, 0), attributes };
}

/** struct nfgenmsg */
function head(family: number, resource: number): Buffer {
  return Buffer.from([family, 0, resource >> 8, resource & 0xff]);
}

function load(key: number): Expression {
  return ['meta', [[1, be32(REGISTER)], [2, be32(key)]]];
}

function loadHeader(offset: number): Expression {
  return ['payload', [[1, be32(REGISTER)], [2, be32(NETWORK_HEADER)], [3, be32(offset)], [4, be32(4)]]];
}

function compare(operation: number, value: Uint8Array): Expression {
  return ['cmp', [[1, be32(REGISTER)], [2, be32(operation)], [3, [[1, value]]]]];
}

function mask(bits: Uint8Array): Expression {
  return ['bitwise', [[1, be32(REGISTER)], [2, be32(REGISTER)], [3, be32(bits.length)], [4, [[1, bits]]], [5, [[1, Buffer.alloc(bits.length)]]]]];
}

function sourceIs(address: Ipv4): Expression[] {
  return [loadHeader(SOURCE_AT), compare(EQUALS, Buffer.from(address))];
}

function destinationIsNotLoopback(): Expression[] {
  return [loadHeader(DESTINATION_AT), mask(Buffer.from([255, 0, 0, 0])), compare(DIFFERS, Buffer.from([127, 0, 0, 0]))];
}

function connectionIsNew(): Expression[] {
  return [['ct', [[1, be32(REGISTER)], [2, be32(CT_STATE)]]], mask(u32(CT_NEW)), compare(DIFFERS, u32(0))];
}

function verdict(code: number): Expression {
  return ['immediate', [[1, be32(0)], [2, [[2, [[1, be32(code)]]]]]]];
}

function linkName(name: string): Buffer {
  const bytes = Buffer.alloc(LINK_NAME_BYTES);
  bytes.write(name, 'latin1');
  return bytes;
}

function be16(value: number): Buffer {
  return Buffer.from([value >> 8, value & 0xff]);
}
