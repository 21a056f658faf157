import { crc32 } from 'node:zlib';
import { assert } from '@hyperdocker/base';
import type { ObjectKind } from './reach.ts';
import { compressZstd, decompressZstd, zstdSpace } from './zstd.ts';

/**
 * A pack: this header, then records one after another, only ever appended. Each record describes itself, so that the index can be made
 * again from the packs alone, and ends with its payload. All integers are little-endian. docs/format/cas.md has the table.
 */
export const PACK_HEADER = Buffer.from('HDPACK\0\x01', 'latin1');
export const RECORD_HEADER_BYTES = 52;
const RECORD_MAGIC = Buffer.from('HDob', 'latin1');
const RECORD_VERSION = 1;
const CRC_OFFSET = 48;

/** What a record holds. A recipe stands for a blob that is stored in chunks; each chunk is a blob. */
export type RecordKind = ObjectKind | 'recipe';
const KIND_CODES: Record<RecordKind, number> = { blob: 1, tree: 2, node: 3, recipe: 4 };
const KINDS: readonly (RecordKind | undefined)[] = [undefined, 'blob', 'tree', 'node', 'recipe'];
/** Recorded with each object, never guessed from its bytes. */
export type Codec = 0 | 1;
export const CODEC_RAW: Codec = 0;
export const CODEC_ZSTD: Codec = 1;
/** Below this, compression gains less than it costs. */
const MIN_COMPRESSED_BYTES = 512;
/** From here on, a sample must shrink before the whole is compressed: zstd takes 4 ms for a MiB that it cannot make smaller. */
const SAMPLED_BYTES = 64 << 10;
const SAMPLE_PARTS = 4;
const SAMPLE_PART_BYTES = 4 << 10;
/** What does not become this much smaller stays raw: then a read costs no decompression. */
const WORTHWHILE_RATIO = 0.97;
/** Longer objects are refused, so that no header makes a reader ask for the whole memory. */
export const MAX_OBJECT_BYTES = 1 << 30;

export interface RecordHeader {
  kind: RecordKind;
  digest: string;
  codec: Codec;
  /** Of the payload in the pack. */
  storedBytes: number;
  /** Of the object itself. */
  rawBytes: number;
}

export function kindCode(kind: RecordKind): number {
  return KIND_CODES[kind];
}

export function kindOfCode(code: number): RecordKind | undefined {
  return KINDS[code];
}

/** How much space `writeRecord` needs for an object of `rawBytes`. */
export function recordSpace(rawBytes: number): number {
  return RECORD_HEADER_BYTES + zstdSpace(rawBytes);
}

/** Writes the whole record to the start of `into`, which has the space that it needs; compresses where that helps. Its length is that of the header and `storedBytes`. */
export function writeRecord(into: Buffer, kind: RecordKind, digest: string, bytes: Uint8Array): RecordHeader {
  assert(bytes.byteLength <= MAX_OBJECT_BYTES, `one object of ${bytes.byteLength} bytes`);
  const compressedBytes = kind === 'recipe' ? undefined : compress(bytes, into.subarray(RECORD_HEADER_BYTES));
  if (compressedBytes === undefined) into.set(bytes, RECORD_HEADER_BYTES);
  const codec = compressedBytes === undefined ? CODEC_RAW : CODEC_ZSTD;
  const storedBytes = compressedBytes ?? bytes.byteLength;
  const record = into.subarray(0, RECORD_HEADER_BYTES + storedBytes);
  RECORD_MAGIC.copy(record, 0);
  record[4] = RECORD_VERSION;
  record[5] = KIND_CODES[kind];
  record[6] = codec;
  record[7] = 0;
  record.writeUInt32LE(storedBytes, 8);
  record.writeUInt32LE(bytes.byteLength, 12);
  record.write(digest, 16, 'hex');
  record.writeUInt32LE(recordCrc(record), CRC_OFFSET);
  return { kind, digest, codec, storedBytes, rawBytes: bytes.byteLength };
}

/** The header at the start of `bytes`; undefined where there is none that this version can read. Checks no checksum. */
export function decodeRecordHeader(bytes: Buffer): RecordHeader | undefined {
  if (bytes.length < RECORD_HEADER_BYTES || bytes.compare(RECORD_MAGIC, 0, 4, 0, 4) !== 0 || bytes[4] !== RECORD_VERSION || bytes[7] !== 0) return undefined;
  const kind = KINDS[bytes[5]!];
  const codec = bytes[6]!;
  if (kind === undefined || codec > CODEC_ZSTD) return undefined;
  return { kind, codec: codec as Codec, storedBytes: bytes.readUInt32LE(8), rawBytes: bytes.readUInt32LE(12), digest: bytes.toString('hex', 16, CRC_OFFSET) };
}

/**
 * The object in a record; a view of `payload` where it is stored raw. The caller checks the digest.
 * @param memory where it goes else; new memory without
 * @throws where the payload is not what the header says. Never inflates beyond that.
 */
export function decodePayload(header: RecordHeader, payload: Buffer, memory?: (length: number) => Buffer): Buffer {
  const { codec, rawBytes } = header;
  if (rawBytes > MAX_OBJECT_BYTES) throw new RangeError(`an object of ${rawBytes} bytes`);
  const bytes = codec === CODEC_RAW ? payload : decompressZstd(payload, rawBytes, memory);
  if (bytes.length !== rawBytes) throw new RangeError(`${bytes.length} bytes where the header says ${rawBytes}`);
  return bytes;
}

/**
 * Finds the whole records in the bytes of a pack from `from` on. A torn or damaged one is stepped over: the next magic with a right checksum goes on.
 */
export function* scanRecords(pack: Buffer, from: number): Generator<{ offset: number; header: RecordHeader }> {
  let offset = from;
  while (offset !== -1 && offset < pack.length) {
    const header = decodeRecordHeader(pack.subarray(offset, offset + RECORD_HEADER_BYTES));
    const end = header === undefined ? 0 : offset + RECORD_HEADER_BYTES + header.storedBytes;
    if (header !== undefined && end <= pack.length && recordCrc(pack.subarray(offset, end)) === pack.readUInt32LE(offset + CRC_OFFSET)) {
      yield { offset, header };
      offset = end;
    } else {
      offset = pack.indexOf(RECORD_MAGIC, offset + 1);
    }
  }
}

/** One zstd frame; its length, or undefined where it is not worth it. */
function compress(bytes: Uint8Array, into: Buffer): number | undefined {
  if (bytes.byteLength <= MIN_COMPRESSED_BYTES) return undefined;
  if (bytes.byteLength >= SAMPLED_BYTES && shrink(sampleOf(bytes), into) === undefined) return undefined;
  return shrink(bytes, into);
}

function shrink(bytes: Uint8Array, into: Buffer): number | undefined {
  const length = compressZstd(bytes, into);
  return length !== undefined && length < bytes.byteLength * WORTHWHILE_RATIO ? length : undefined;
}

/** Parts from all over, since archives and images begin with headers that do shrink. */
function sampleOf(bytes: Uint8Array): Buffer {
  const step = Math.floor((bytes.byteLength - SAMPLE_PART_BYTES) / (SAMPLE_PARTS - 1));
  return Buffer.concat(Array.from({ length: SAMPLE_PARTS }, (_, i) => bytes.subarray(i * step, i * step + SAMPLE_PART_BYTES)));
}

/** CRC-32 of everything in the record but the checksum itself. */
function recordCrc(record: Buffer): number {
  return crc32(record.subarray(RECORD_HEADER_BYTES), crc32(record.subarray(0, CRC_OFFSET)));
}
