import { HdError, fromBuffer, toText } from '@hyperdocker/base';
import type { ByteString } from '@hyperdocker/base';
import type { Extent } from './sparse-body.ts';
import { SparseBody, checkedCount, parseExtents } from './sparse-body.ts';

/** One member of a tar archive, with what PAX and GNU headers said about it folded in. Nothing here is checked for safety. */
export interface TarEntry {
  kind: 'file' | 'link' | 'symlink' | 'char' | 'block' | 'dir' | 'fifo';
  name: ByteString;
  /** Target of a `link` or `symlink`, else empty. */
  linkName: ByteString;
  /** Bytes of content; 0 for all but files. */
  size: number;
  mode: number;
  uid: number;
  gid: number;
  mtimeNs: bigint;
  major: number;
  minor: number;
  xattrs: [name: ByteString, value: Uint8Array][];
}

/** Receives an archive in order: `entry`, then for files any number of `data` and `hole` with `size` bytes together, then `end`. */
export interface TarSink {
  entry(entry: TarEntry): void;
  /** A view of the caller's buffer: copy what must outlive the call. */
  data(bytes: Buffer): void;
  /** So many zeros, of a file that was stored without them. */
  hole(sizeBytes: number): void;
  end(): void;
}

const BLOCK = 512;
/** PAX headers and GNU long names: Linux paths and xattrs are far smaller. */
const METADATA_BYTES_MAX = 4 << 20;
const KINDS: Record<string, TarEntry['kind']> = { '0': 'file', '\0': 'file', '7': 'file', S: 'file', '1': 'link', '2': 'symlink', '3': 'char', '4': 'block', '5': 'dir', '6': 'fifo' };
/** What the holes of all sparse members of an archive may come to: they cost nothing to write, and reading them time. */
const HOLE_BYTES_MAX = 8 * 2 ** 30;
const ID_MAX = 0xffff_fffe;

type Pax = Map<string, Buffer>;

/** A member that is stored without its zeros. `extents` undefined: its body begins with them. */
interface Sparse { sizeBytes: number; extents: Extent[] | undefined; name?: ByteString }
/** One of the old GNU format whose list goes on in blocks after its header. */
interface Unfinished { entry: TarEntry; storedBytes: number; sparse: Sparse & { extents: Extent[] } }

/**
 * A push parser for ustar, PAX and GNU tar, with sparse members of all their formats. Names stay bytes: PAX paths are not decoded, so no name is lost.
 * Feed it `push` in any pieces, then `finish`. @throws HdError LAYER_INVALID
 */
export class TarReader {
  readonly #sink: TarSink;
  readonly #partial = Buffer.alloc(BLOCK);
  #partialLength = 0;
  #bodyLeft = 0;
  #paddingLeft = 0;
  /** Set while the body is a PAX or GNU header and not a file. */
  #metadata: { type: string; bytes: Buffer; length: number } | undefined;
  #inEntry = false;
  #sparse: SparseBody | undefined;
  #unfinished: Unfinished | undefined;
  #holeBytes = 0;
  #global: Pax = new Map();
  #pax: Pax | undefined;
  #longName: ByteString | undefined;
  #longLink: ByteString | undefined;
  #zeroBlocks = 0;
  #offset = 0;

  constructor(sink: TarSink) {
    this.#sink = sink;
  }

  push(chunk: Uint8Array): void {
    const buffer = Buffer.from(chunk.buffer, chunk.byteOffset, chunk.byteLength);
    let at = 0;
    while (at < buffer.length && this.#zeroBlocks < 2) {
      const available = buffer.length - at;
      let taken: number;
      if (this.#bodyLeft > 0) {
        taken = Math.min(available, this.#bodyLeft);
        this.#body(buffer.subarray(at, at + taken));
      } else if (this.#paddingLeft > 0) {
        taken = Math.min(available, this.#paddingLeft);
        this.#paddingLeft -= taken;
      } else {
        taken = this.#header(buffer, at);
      }
      at += taken;
      this.#offset += taken;
    }
  }

  /** Call at the end of the input: a cut archive is an error, a missing end marker is not (as in Go and GNU tar). */
  finish(): void {
    if (this.#zeroBlocks >= 2) return;
    if (this.#bodyLeft > 0 || this.#partialLength > 0 || this.#unfinished !== undefined || this.#pax !== undefined || this.#longName !== undefined || this.#longLink !== undefined) {
      throw this.#invalid('the archive is cut off');
    }
  }

  #body(bytes: Buffer): void {
    this.#bodyLeft -= bytes.length;
    if (this.#metadata === undefined) {
      if (this.#sparse === undefined) this.#sink.data(bytes);
      else this.#sparse.push(bytes);
    } else {
      bytes.copy(this.#metadata.bytes, this.#metadata.length);
      this.#metadata.length += bytes.length;
    }
    if (this.#bodyLeft === 0) this.#bodyDone();
  }

  #bodyDone(): void {
    const metadata = this.#metadata;
    this.#metadata = undefined;
    if (metadata !== undefined) this.#applyMetadata(metadata.type, metadata.bytes);
    else if (this.#inEntry) {
      this.#inEntry = false;
      this.#sparse?.finish();
      this.#sparse = undefined;
      this.#sink.end();
    }
  }

  #applyMetadata(type: string, bytes: Buffer): void {
    if (type === 'L') this.#longName = cutAtNul(fromBuffer(bytes));
    else if (type === 'K') this.#longLink = cutAtNul(fromBuffer(bytes));
    else if (type === 'g') for (const [key, value] of this.#paxRecords(bytes)) this.#global.set(key, value);
    else this.#pax = this.#paxRecords(bytes);
  }

  /** Takes up to one block; parses in place where the whole block is at hand. Returns the bytes taken. */
  #header(buffer: Buffer, at: number): number {
    if (this.#partialLength === 0 && buffer.length - at >= BLOCK) {
      this.#block(buffer, at);
      return BLOCK;
    }
    const taken = buffer.copy(this.#partial, this.#partialLength, at, Math.min(buffer.length, at + BLOCK - this.#partialLength));
    this.#partialLength += taken;
    if (this.#partialLength === BLOCK) {
      this.#partialLength = 0;
      this.#block(this.#partial, 0);
    }
    return taken;
  }

  #block(buffer: Buffer, at: number): void {
    if (this.#unfinished !== undefined) return this.#moreExtents(this.#unfinished, buffer, at);
    if (isZeroBlock(buffer, at)) {
      this.#zeroBlocks++;
      return;
    }
    this.#zeroBlocks = 0;
    if (!checksumMatches(buffer, at)) throw this.#invalid('a header has a wrong checksum: this is no tar archive, or a damaged one');
    const type = buffer.toString('latin1', at + 156, at + 157);
    const size = this.#number(buffer, at + 124, 12);
    if ('xgLK'.includes(type)) this.#beginMetadata(type, size);
    else if (type === 'V') this.#beginBody(size);
    else this.#beginEntry(buffer, at, type, size);
  }

  #beginMetadata(type: string, size: number): void {
    if (size > METADATA_BYTES_MAX) throw this.#invalid(`an extended header of ${size} bytes`);
    this.#metadata = { type, bytes: Buffer.alloc(size), length: 0 };
    this.#beginBody(size);
  }

  #beginBody(size: number): void {
    this.#bodyLeft = size;
    this.#paddingLeft = (BLOCK - (size % BLOCK)) % BLOCK;
    if (size === 0) this.#bodyDone();
  }

  #beginEntry(buffer: Buffer, at: number, type: string, headerSize: number): void {
    const pax = this.#effectivePax();
    const entry = this.#entry(buffer, at, type, pax);
    const size = this.#paxInteger(pax, 'size') ?? headerSize;
    if (!Number.isSafeInteger(size) || size < 0) throw this.#invalid(`a member of ${size} bytes`);
    const old = type === 'S' ? this.#oldSparse(buffer, at) : undefined;
    const sparse = old ?? this.#paxSparse(this.#pax);
    this.#pax = this.#longName = this.#longLink = undefined;
    if (entry.kind === 'file') entry.size = size;
    if (sparse === undefined) this.#start(entry, entry.size);
    else if (entry.kind !== 'file') throw this.#invalid(`a sparse ${entry.kind}`);
    else if (old !== undefined && buffer[at + 482] === 1) this.#unfinished = { entry, storedBytes: size, sparse: old };
    else this.#startSparse(entry, size, sparse);
  }

  #start(entry: TarEntry, storedBytes: number): void {
    this.#inEntry = true;
    this.#sink.entry(entry);
    this.#beginBody(storedBytes);
  }

  #startSparse(entry: TarEntry, storedBytes: number, { sizeBytes, extents, name }: Sparse): void {
    const whole = { ...entry, name: name ?? entry.name, size: sizeBytes };
    this.#holeBytes += Math.max(0, sizeBytes - storedBytes);
    if (this.#holeBytes > HOLE_BYTES_MAX) {
      throw this.#invalid(`the sparse file ${toText(whole.name)} claims ${sizeBytes} bytes, of which ${storedBytes} are stored`, `do not use this image, or make the file smaller if you made it yourself: sparse files may have ${HOLE_BYTES_MAX} bytes of zeros in one layer`);
    }
    this.#sparse = new SparseBody(this.#sink, sizeBytes, extents, (what) => this.#invalid(what));
    this.#start(whole, storedBytes);
  }

  /** Of type `S`: four parts in the header, and more of them in blocks that follow. */
  #oldSparse(buffer: Buffer, at: number): Sparse & { extents: Extent[] } {
    const sizeBytes = this.#number(buffer, at + 483, 12);
    if (sizeBytes < 0) throw this.#invalid(`a sparse member of ${sizeBytes} bytes`);
    return { sizeBytes, extents: this.#extents(buffer, at + 386, 4) };
  }

  #moreExtents({ entry, storedBytes, sparse }: Unfinished, buffer: Buffer, at: number): void {
    sparse.extents.push(...this.#extents(buffer, at, 21));
    checkedCount(sparse.extents, (what) => this.#invalid(what));
    if (buffer[at + 504] === 1) return;
    this.#unfinished = undefined;
    this.#startSparse(entry, storedBytes, sparse);
  }

  /** An empty one ends them. */
  #extents(buffer: Buffer, at: number, count: number): Extent[] {
    const extents: Extent[] = [];
    for (let i = 0; i < count && buffer[at + 24 * i + 12] !== 0; i++) {
      const [offset, length] = [this.#number(buffer, at + 24 * i, 12), this.#number(buffer, at + 24 * i + 12, 12)];
      if (offset < 0 || length < 0) throw this.#invalid('a sparse member with a damaged list');
      extents.push({ offset, length });
    }
    return extents;
  }

  /** Formats 0.0 and 0.1 have the list in their records, 1.0 in the body. What is said of all members is not asked. */
  #paxSparse(pax: Pax = new Map()): Sparse | undefined {
    const name = paxBytes(pax, 'GNU.sparse.name');
    const named = name === undefined ? {} : { name };
    const sizeBytes = this.#paxInteger(pax, 'GNU.sparse.realsize') ?? this.#paxInteger(pax, 'GNU.sparse.size');
    const version = pax.get('GNU.sparse.major')?.toString('latin1');
    const map = pax.get('GNU.sparse.map')?.toString('latin1');
    if (version === undefined && map === undefined && sizeBytes === undefined) return undefined;
    if (sizeBytes === undefined || !Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw this.#invalid('a sparse member of no size');
    const format = `${version ?? '0'}.${pax.get('GNU.sparse.minor')?.toString('latin1') ?? '0'}`;
    if (format === '1.0') return { sizeBytes, extents: undefined, ...named };
    if (version !== undefined && version !== '0') throw this.#invalid(`a sparse member of the unknown format ${JSON.stringify(format)}`);
    return { sizeBytes, extents: parseExtents(map ?? '', (what) => this.#invalid(what)), ...named };
  }

  #entry(buffer: Buffer, at: number, type: string, pax: Pax): TarEntry {
    const name = paxBytes(pax, 'path') ?? this.#longName ?? headerName(buffer, at);
    let kind = KINDS[type];
    if (kind === undefined) throw this.#invalid(`a member of unknown type ${JSON.stringify(type)}`);
    if (kind === 'file' && type === '\0' && name.endsWith('/')) kind = 'dir';
    const device = kind === 'char' || kind === 'block';
    return {
      kind,
      name,
      linkName: kind === 'link' || kind === 'symlink' ? (paxBytes(pax, 'linkpath') ?? this.#longLink ?? cString(buffer, at + 157, 100)) : ('' as ByteString),
      size: 0,
      mode: this.#number(buffer, at + 100, 8) & 0o7777,
      uid: this.#id('uid', this.#paxInteger(pax, 'uid') ?? this.#number(buffer, at + 108, 8)),
      gid: this.#id('gid', this.#paxInteger(pax, 'gid') ?? this.#number(buffer, at + 116, 8)),
      mtimeNs: this.#paxTime(pax) ?? BigInt(this.#number(buffer, at + 136, 12)) * 1_000_000_000n,
      major: device ? this.#id('device number', this.#number(buffer, at + 329, 8)) : 0,
      minor: device ? this.#id('device number', this.#number(buffer, at + 337, 8)) : 0,
      xattrs: xattrsOf(pax),
    };
  }

  /** Records of this member over global ones. An empty value takes a global one back. */
  #effectivePax(): Pax {
    if (this.#global.size === 0) return this.#pax ?? new Map();
    return new Map([...this.#global, ...(this.#pax ?? [])]);
  }

  #paxRecords(bytes: Buffer): Pax {
    const records: Pax = new Map();
    const extents: string[] = [];
    for (let at = 0; at < bytes.length && bytes[at] !== 0; ) {
      const space = bytes.indexOf(0x20, at);
      const length = space < 0 || space - at > 10 ? Number.NaN : Number(bytes.toString('latin1', at, space));
      const end = at + length;
      const equals = bytes.indexOf(0x3d, space);
      if (!Number.isInteger(length) || end > bytes.length || equals < space || equals >= end || bytes[end - 1] !== 0x0a) throw this.#invalid('a damaged PAX record');
      const [key, value] = [bytes.toString('utf8', space + 1, equals), bytes.subarray(equals + 1, end - 1)];
      // The one format that says the same key again and again: by turns.
      if (key === (extents.length % 2 === 0 ? 'GNU.sparse.offset' : 'GNU.sparse.numbytes')) extents.push(value.toString('latin1'));
      else records.set(key, value);
      at = end;
    }
    if (extents.length > 0) records.set('GNU.sparse.map', Buffer.from(extents.join(','), 'latin1'));
    return records;
  }

  #paxInteger(pax: Pax, key: string): number | undefined {
    const text = pax.get(key)?.toString('latin1');
    if (text === undefined || text === '') return undefined;
    if (!/^-?\d+$/.test(text)) throw this.#invalid(`a PAX ${key} that is no number`);
    return Number(text);
  }

  #paxTime(pax: Pax): bigint | undefined {
    const text = pax.get('mtime')?.toString('latin1');
    if (text === undefined || text === '') return undefined;
    const match = /^(-?)(\d{1,12})(?:\.(\d*))?$/.exec(text);
    if (match === null) throw this.#invalid('a PAX mtime that is no time');
    const ns = BigInt(match[2] ?? '0') * 1_000_000_000n + BigInt((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
    return match[1] === '-' ? -ns : ns;
  }

  #id(what: string, value: number): number {
    if (value < 0 || value > ID_MAX) throw this.#invalid(`a ${what} of ${value}`);
    return value;
  }

  /** Octal digits, or GNU's base 256 (two's complement) where the high bit is set. */
  #number(buffer: Buffer, at: number, length: number): number {
    const first = buffer[at] ?? 0;
    if (first & 0x80) return this.#base256(buffer, at, length);
    let value = 0;
    let i = at;
    const end = at + length;
    while (i < end && (buffer[i] === 0x20 || buffer[i] === 0)) i++;
    for (; i < end; i++) {
      const byte = buffer[i] ?? 0;
      if (byte === 0 || byte === 0x20) break;
      if (byte < 0x30 || byte > 0x37) throw this.#invalid('a header with a damaged number');
      value = value * 8 + (byte - 0x30);
    }
    return value;
  }

  #base256(buffer: Buffer, at: number, length: number): number {
    const bits = length * 8 - 1;
    const raw = BigInt(`0x${buffer.toString('hex', at, at + length)}`);
    const value = Number(BigInt.asIntN(bits, raw));
    if (!Number.isSafeInteger(value)) throw this.#invalid('a header with a number over 53 bits');
    return value;
  }

  #invalid(what: string, hint?: string): HdError {
    return new HdError('LAYER_INVALID', `bad tar archive at byte ${this.#offset}: ${what}`, { hint: hint ?? 'fetch or build the image again' });
  }
}

function headerName(buffer: Buffer, at: number): ByteString {
  const name = cString(buffer, at, 100);
  // POSIX ustar has "ustar\0" and a prefix; GNU's "ustar " keeps times there.
  if (buffer[at + 345] === 0 || buffer.toString('latin1', at + 257, at + 263) !== 'ustar\0') return name;
  return `${cString(buffer, at + 345, 155)}/${name}` as ByteString;
}

function cString(buffer: Buffer, at: number, length: number): ByteString {
  return cutAtNul(buffer.toString('latin1', at, at + length) as ByteString);
}

function cutAtNul(text: ByteString): ByteString {
  const nul = text.indexOf('\0');
  return nul < 0 ? text : (text.slice(0, nul) as ByteString);
}

function paxBytes(pax: Pax, key: string): ByteString | undefined {
  const value = pax.get(key);
  return value === undefined || value.length === 0 ? undefined : fromBuffer(value);
}

function xattrsOf(pax: Pax): TarEntry['xattrs'] {
  const xattrs: TarEntry['xattrs'] = [];
  for (const [key, value] of pax) {
    if (key.startsWith('SCHILY.xattr.')) xattrs.push([Buffer.from(key.slice('SCHILY.xattr.'.length)).toString('latin1') as ByteString, Uint8Array.from(value)]);
  }
  return xattrs;
}

function isZeroBlock(buffer: Buffer, at: number): boolean {
  if (buffer[at] !== 0) return false;
  for (let i = at; i < at + BLOCK; i++) if (buffer[i] !== 0) return false;
  return true;
}

/** The sum of all bytes with the checksum itself as spaces; some old writers summed signed bytes. */
function checksumMatches(buffer: Buffer, at: number): boolean {
  let unsigned = 0;
  let signed = 0;
  for (let i = 0; i < BLOCK; i++) {
    const byte = i >= 148 && i < 156 ? 0x20 : (buffer[at + i] ?? 0);
    unsigned += byte;
    signed += byte > 127 ? byte - 256 : byte;
  }
  const stored = Number.parseInt(/^[\0 ]*([0-7]+)/.exec(buffer.toString('latin1', at + 148, at + 156))?.[1] ?? '', 8);
  return stored === unsigned || stored === signed;
}
