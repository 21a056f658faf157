import { HdError, fromBuffer, joinBytes, toBuffer, toByteString, toText, unreachable } from '@hyperdocker/base';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { Meta, Store, TreeEntry } from '@hyperdocker/cas';

const BLOCK = 512;
const READ_BYTES = 1 << 20;
const NO_META: Meta = { uid: 0, gid: 0, mtimeNs: 0n, xattrs: [], linkGroup: 0, links: 1 };

/**
 * A tree as a tar archive: one tree has exactly one archive. Members in path order, ustar headers, PAX records for what
 * those cannot say. Deltas become layers: whiteouts and opaque directories as `.wh.` files. Sockets have no form in tar and
 * are left out, as every tar does. @throws HdError LAYER_INVALID where a name starts with `.wh.`, which layers cannot say
 */
export function* writeLayer(store: Store, tree: TreeDigest): Generator<Uint8Array> {
  yield* directoryMembers(store, tree, '' as ByteString, new Map());
  yield fileEnd();
}

function* directoryMembers(store: Store, tree: TreeDigest, parent: ByteString, linked: Map<number, ByteString>): Generator<Uint8Array> {
  for (const entry of store.getTree(tree)) {
    const path = joinBytes(parent, entry.name);
    if (entry.name.startsWith('.wh.')) throw new HdError('LAYER_INVALID', `${JSON.stringify(toText(path))} cannot be in a layer: the prefix ".wh." marks a removal`, { hint: 'rename it' });
    const group = entry.meta?.linkGroup ?? 0;
    const first = group === 0 ? undefined : linked.get(group);
    if (group !== 0 && first === undefined) linked.set(group, path);
    if (entry.kind === 'socket') continue;
    yield first === undefined ? header(member(path, entry)) : header({ ...member(path, entry), type: '1', size: 0, link: first });
    if (entry.kind === 'file' && first === undefined) yield* content(store, entry);
    if (entry.kind === 'dir') {
      if (entry.opaque === true) yield header(emptyFile(joinBytes(path, toByteString('.wh..wh..opq'))));
      yield* directoryMembers(store, entry.digest, path, linked);
    }
  }
}

function* content(store: Store, entry: Extract<TreeEntry, { kind: 'file' }>): Generator<Uint8Array> {
  for (let at = 0; at < entry.size; ) {
    const piece = store.readBlob(entry.digest, at, READ_BYTES);
    at += piece.length;
    yield piece;
  }
  const padding = (BLOCK - (entry.size % BLOCK)) % BLOCK;
  if (padding > 0) yield Buffer.alloc(padding);
}

/** Of an ordinary file in an archive that is no tree. Its content follows, in blocks of 512 bytes. */
export function fileHeader(path: ByteString, size: number): Uint8Array {
  return header({ ...emptyFile(path), mode: 0o644, size });
}

/** What an archive ends with. */
export function fileEnd(): Uint8Array {
  return Buffer.alloc(2 * BLOCK);
}

interface Member { path: ByteString; type: string; mode: number; size: number; link: ByteString; major: number; minor: number; meta: Meta }

function emptyFile(path: ByteString): Member {
  return { path, type: '0', mode: 0, size: 0, link: '' as ByteString, major: 0, minor: 0, meta: NO_META };
}

function member(path: ByteString, entry: TreeEntry): Member {
  const plain: Member = { ...emptyFile(path), mode: entry.mode, meta: entry.meta ?? NO_META };
  switch (entry.kind) {
    case 'file':
      return { ...plain, size: entry.size };
    case 'dir':
      return { ...plain, type: '5', path: `${path}/` as ByteString };
    case 'symlink':
      return { ...plain, type: '2', link: entry.target };
    case 'char':
    case 'block':
      return { ...plain, type: entry.kind === 'char' ? '3' : '4', major: entry.major, minor: entry.minor };
    case 'fifo':
    case 'socket':
      return { ...plain, type: '6' };
    case 'whiteout':
      return emptyFile(whiteoutPath(path));
    default:
      return unreachable(entry);
  }
}

function whiteoutPath(path: ByteString): ByteString {
  const slash = path.lastIndexOf('/') + 1;
  return `${path.slice(0, slash)}.wh.${path.slice(slash)}` as ByteString;
}

function header(of: Member): Uint8Array {
  const records = paxRecords(of);
  const main = block(of);
  if (records.length === 0) return main;
  const body = Buffer.concat(records);
  const padded = Buffer.alloc(Math.ceil(body.length / BLOCK) * BLOCK);
  body.copy(padded);
  return Buffer.concat([block({ ...emptyFile(toByteString('./PaxHeaders/0')), type: 'x', mode: 0o644, size: body.length }), padded, main]);
}

function paxRecords(of: Member): Buffer[] {
  const { mtimeNs, uid, gid, xattrs } = of.meta;
  const records: Buffer[] = [];
  const text = (key: string, value: string) => records.push(paxRecord(key, Buffer.from(value, 'latin1')));
  if ([of.path, of.link].some((bytes) => !isUtf8(bytes))) text('hdrcharset', 'BINARY');
  if (!fits(of.path)) text('path', of.path);
  if (!fits(of.link)) text('linkpath', of.link);
  if (of.size > 0o77777777777) text('size', String(of.size));
  if (uid > 0o7777777) text('uid', String(uid));
  if (gid > 0o7777777) text('gid', String(gid));
  if (mtimeNs < 0n || mtimeNs % 1_000_000_000n !== 0n || mtimeNs > 0o77777777777n * 1_000_000_000n) text('mtime', paxTime(mtimeNs));
  for (const [name, value] of xattrs) records.push(paxRecord(`SCHILY.xattr.${toBuffer(name).toString('utf8')}`, Buffer.from(value)));
  return records;
}

/** `"<length> <key>=<value>\n"`, where the length counts its own digits. */
function paxRecord(key: string, value: Buffer): Buffer {
  const rest = Buffer.concat([Buffer.from(` ${key}=`), value, Buffer.from('\n')]);
  let length = rest.length + String(rest.length).length;
  if (String(length).length !== String(rest.length).length) length = rest.length + String(length).length;
  return Buffer.concat([Buffer.from(String(length)), rest]);
}

function paxTime(ns: bigint): string {
  const absolute = ns < 0n ? -ns : ns;
  const fraction = String(absolute % 1_000_000_000n).padStart(9, '0').replace(/0+$/, '');
  return `${ns < 0n ? '-' : ''}${absolute / 1_000_000_000n}${fraction === '' ? '' : `.${fraction}`}`;
}

/** PAX wants UTF-8 for everything but ASCII, so that readers do not guess. */
function fits(path: ByteString): boolean {
  return path.length <= 100 && toBuffer(path).every((byte) => byte < 0x80);
}

function isUtf8(path: ByteString): boolean {
  const bytes = toBuffer(path);
  return fromBuffer(Buffer.from(bytes.toString('utf8'))) === path;
}

function block(of: Member): Buffer {
  const buffer = Buffer.alloc(BLOCK);
  const seconds = of.meta.mtimeNs / 1_000_000_000n;
  const octal = (value: number | bigint, at: number, digits: number) => {
    const max = 8n ** BigInt(digits) - 1n;
    const clamped = BigInt(value) < 0n ? 0n : BigInt(value) > max ? max : BigInt(value);
    buffer.write(clamped.toString(8).padStart(digits, '0'), at, 'latin1');
  };
  buffer.write(of.path.slice(0, 100), 0, 'latin1');
  octal(of.mode, 100, 7);
  octal(of.meta.uid, 108, 7);
  octal(of.meta.gid, 116, 7);
  octal(of.size, 124, 11);
  octal(seconds, 136, 11);
  buffer.write('        ', 148, 'latin1');
  buffer.write(of.type, 156, 'latin1');
  buffer.write(of.link.slice(0, 100), 157, 'latin1');
  buffer.write('ustar\u000000', 257, 'latin1');
  octal(of.major, 329, 7);
  octal(of.minor, 337, 7);
  let sum = 0;
  for (const byte of buffer) sum += byte;
  buffer.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  return buffer;
}
