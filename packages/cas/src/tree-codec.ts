import { Decoder, Encoder, HdError, assert, unreachable } from '@hyperdocker/base';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import type { DirEntry, EntryKind, Meta, Tree, TreeEntry } from './contract.ts';

/** The canonical encoding of a directory; docs/format/tree.md has it byte for byte. */
export const TREE_DOMAIN = 'hd.tree/1';

const KIND_CODES: Record<EntryKind, number> = { file: 1, dir: 2, symlink: 3, char: 4, block: 5, fifo: 6, socket: 7, whiteout: 8 };
const KINDS_BY_CODE = new Map(Object.entries(KIND_CODES).map(([kind, code]) => [code, kind as EntryKind]));
const HAS_META = 1;
const IS_OPAQUE = 2;
const MAX_U32 = 0xffff_ffff;
const MAX_LINK_GROUP = Number.MAX_SAFE_INTEGER;

/**
 * Sorts, then encodes. Entries that break the rules of `Tree` are a bug of the caller and fail an assertion. Two things without
 * meaning are not encoded: mode and meta of a whiteout, and `links` of an entry that is not linked.
 */
export function encodeTree(entries: Tree): Buffer {
  const sorted = sortEntries(entries);
  const encoder = new Encoder(TREE_DOMAIN).uint(sorted.length);
  let previous: ByteString | undefined;
  for (const entry of sorted) {
    const problem = nameProblem(entry.name, previous) ?? entryProblem(entry);
    assert(problem === undefined, `tree entry ${JSON.stringify(entry.name)}: ${problem}`);
    encodeEntry(encoder, entry);
    previous = entry.name;
  }
  return encoder.finish();
}

/** @throws HdError CORRUPT_OBJECT for everything that `encodeTree` cannot have written. */
export function decodeTree(bytes: Uint8Array): Tree {
  const decoder = new Decoder(bytes, TREE_DOMAIN);
  const count = decoder.uint();
  if (count > bytes.byteLength) throw corrupt(`a tree of ${bytes.byteLength} bytes cannot hold ${count} entries`);
  const entries: TreeEntry[] = [];
  let previous: ByteString | undefined;
  for (let i = 0; i < count; i++) {
    const entry = decodeEntry(decoder);
    const problem = nameProblem(entry.name, previous) ?? entryProblem(entry);
    if (problem !== undefined) throw corrupt(`tree entry ${JSON.stringify(entry.name)}: ${problem}`);
    entries.push(entry);
    previous = entry.name;
  }
  decoder.end();
  return entries;
}

/** By the bytes of the names. Returns the input where it is sorted already. */
export function sortEntries(entries: Tree): Tree {
  for (let i = 1; i < entries.length; i++) {
    if (entries[i - 1]!.name > entries[i]!.name) return entries.toSorted((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }
  return entries;
}

/** Can this be the name of a tree entry? */
export function isEntryName(name: string): boolean {
  return nameProblem(name as ByteString, undefined) === undefined;
}

function encodeEntry(encoder: Encoder, entry: TreeEntry): void {
  encoder.byteString(entry.name).uint(KIND_CODES[entry.kind]);
  if (entry.kind === 'whiteout') {
    encoder.uint(0).uint(0);
    return;
  }
  const opaque = entry.kind === 'dir' && entry.opaque === true;
  encoder.uint(entry.mode).uint((entry.meta === undefined ? 0 : HAS_META) | (opaque ? IS_OPAQUE : 0));
  switch (entry.kind) {
    case 'file':
      encoder.digest(entry.digest).uint(entry.size);
      break;
    case 'dir':
      encoder.digest(entry.digest);
      break;
    case 'symlink':
      encoder.byteString(entry.target);
      break;
    case 'char':
    case 'block':
      encoder.uint(entry.major).uint(entry.minor);
      break;
    case 'fifo':
    case 'socket':
      break;
    default:
      unreachable(entry);
  }
  if (entry.meta !== undefined) encodeMeta(encoder, entry.meta);
}

function encodeMeta(encoder: Encoder, meta: Meta): void {
  encoder.uint(meta.uid).uint(meta.gid).uint(zigzag(meta.mtimeNs)).uint(meta.linkGroup);
  if (meta.linkGroup !== 0) encoder.uint(meta.links);
  encoder.uint(meta.xattrs.length);
  for (const [name, value] of meta.xattrs) encoder.byteString(name).bytes(value);
}

function decodeEntry(decoder: Decoder): TreeEntry {
  const name = decoder.byteString();
  const code = decoder.uint();
  const kind = KINDS_BY_CODE.get(code);
  if (kind === undefined) throw corrupt(`unknown entry kind ${code}`);
  const mode = decoder.uint();
  const flags = decoder.uint();
  if ((flags & ~(kind === 'whiteout' ? 0 : kind === 'dir' ? HAS_META | IS_OPAQUE : HAS_META)) !== 0 || flags > 3) throw corrupt(`flags ${flags} on a ${kind}`);
  const entry = decodePayload(decoder, kind, name, mode);
  if ((flags & IS_OPAQUE) !== 0) (entry as DirEntry).opaque = true;
  if ((flags & HAS_META) !== 0) entry.meta = decodeMeta(decoder);
  return entry;
}

function decodePayload(decoder: Decoder, kind: EntryKind, name: ByteString, mode: number): TreeEntry {
  switch (kind) {
    case 'file':
      return { name, kind, mode, digest: decoder.digest() as BlobDigest, size: decoder.uint() };
    case 'dir':
      return { name, kind, mode, digest: decoder.digest() as TreeDigest };
    case 'symlink':
      return { name, kind, mode, target: decoder.byteString() };
    case 'char':
    case 'block':
      return { name, kind, mode, major: decoder.uint(), minor: decoder.uint() };
    case 'fifo':
    case 'socket':
      return { name, kind, mode };
    case 'whiteout':
      if (mode !== 0) throw corrupt('a whiteout with a mode');
      return { name, kind, mode };
    default:
      return unreachable(kind);
  }
}

function decodeMeta(decoder: Decoder): Meta {
  const uid = decoder.uint();
  const gid = decoder.uint();
  const mtimeNs = unzigzag(decoder.bigUint());
  const linkGroup = decoder.uint();
  const links = linkGroup === 0 ? 1 : decoder.uint();
  const xattrs: [ByteString, Uint8Array][] = [];
  for (let left = decoder.uint(); left > 0; left--) xattrs.push([decoder.byteString(), Buffer.from(decoder.bytes())]);
  return { uid, gid, mtimeNs, xattrs, linkGroup, links };
}

function nameProblem(name: ByteString, previous: ByteString | undefined): string | undefined {
  if (name === '' || name === '.' || name === '..') return 'not a name';
  if (name.includes('/') || name.includes('\0')) return 'a name with / or NUL';
  if (previous !== undefined && previous >= name) return previous === name ? 'a name twice' : 'names out of order';
  return undefined;
}

function entryProblem(entry: TreeEntry): string | undefined {
  if (!isUint(entry.mode, 0o7777)) return `mode ${entry.mode}`;
  if (entry.kind === 'file' && !isUint(entry.size, Number.MAX_SAFE_INTEGER)) return `size ${entry.size}`;
  if (entry.kind === 'symlink' && (entry.target === '' || entry.target.includes('\0'))) return 'a link target that is empty or has NUL';
  if ((entry.kind === 'char' || entry.kind === 'block') && !(isUint(entry.major, MAX_U32) && isUint(entry.minor, MAX_U32))) return 'device number';
  return entry.meta === undefined || entry.kind === 'whiteout' ? undefined : metaProblem(entry.meta);
}

function metaProblem(meta: Meta): string | undefined {
  if (!isUint(meta.uid, MAX_U32) || !isUint(meta.gid, MAX_U32)) return 'owner over 32 bits';
  if (!isUint(meta.linkGroup, MAX_LINK_GROUP)) return `link group ${meta.linkGroup}`;
  if (meta.linkGroup !== 0 && !(meta.links >= 1 && isUint(meta.links, MAX_U32))) return `${meta.links} links`;
  let previous = '';
  for (const [name] of meta.xattrs) {
    if (name <= previous || name.includes('\0')) return 'extended attributes unnamed, twice or out of order';
    if (name.startsWith('trusted.overlay.')) return `the attribute ${name} of an overlay mount`;
    previous = name;
  }
  return undefined;
}

function isUint(value: number, max: number): boolean {
  return Number.isInteger(value) && value >= 0 && value <= max;
}

/** Times before 1970 are negative: 0, -1, 1, -2 … become 0, 1, 2, 3 … */
function zigzag(value: bigint): bigint {
  return value >= 0n ? value << 1n : (-value << 1n) - 1n;
}

function unzigzag(value: bigint): bigint {
  return (value & 1n) === 0n ? value >> 1n : -((value + 1n) >> 1n);
}

function corrupt(message: string): HdError {
  return new HdError('CORRUPT_OBJECT', message, { hint: 'check the store with `hd cas fsck`' });
}
