import { crc32, zstdCompressSync, zstdDecompressSync, constants } from 'node:zlib';
import type { ObjectKind } from './reach.ts';

/**
 * A pack: this header, then records one after another, only ever appended. Each record describes itself, so that the index can be made
 * again from the packs alone, and ends with its payload. All integers are little-endian. docs/format/cas.md has the table.
 */
export const PACK_HEADER = Buffer.from('HDPACK\0\x01', 'latin1');
export const RECORD_HEADER_BYTES = 52;
const RECORD_MAGIC = Buffer.from('HDob', 'latin1');
const RECORD_VERSION = 1;
const CRC_OFFSET = 48;

const KIND_CODES: Record<ObjectKind, number> = { blob: 1, tree: 2, node: 3 };
const KINDS: readonly (ObjectKind | undefined)[] = [undefined, 'blob', 'tree', 'node'];
/** Recorded with each object, never guessed from its bytes. */
export type Codec = 0 | 1;
export const CODEC_RAW: Codec = 0;
export const CODEC_ZSTD: Codec = 1;
/** Below this, compression gains less than it costs. */
const MIN_COMPRESSED_BYTES = 512;
const ZSTD_PARAMS = { [constants.ZSTD_c_compressionLevel]: 3 };

export interface RecordHeader {
  kind: ObjectKind;
  digest: string;
  codec: Codec;
  /** Of the payload in the pack. */
  storedBytes: number;
  /** Of the object itself. */
  rawBytes: number;
}

export function kindCode(kind: ObjectKind): number {
  return KIND_CODES[kind];
}

export function kindOfCode(code: number): ObjectKind | undefined {
  return KINDS[code];
}

/** The whole record; compresses where that helps. */
export function encodeRecord(kind: ObjectKind, digest: string, bytes: Uint8Array): { header: RecordHeader; record: Buffer } {
  let payload = bytes;
  let codec = CODEC_RAW;
  if (bytes.byteLength > MIN_COMPRESSED_BYTES) {
    const compressed = zstdCompressSync(bytes, { params: ZSTD_PARAMS, chunkSize: bytes.byteLength });
    if (compressed.byteLength < bytes.byteLength) {
      payload = compressed;
      codec = CODEC_ZSTD;
    }
  }
  const record = Buffer.allocUnsafe(RECORD_HEADER_BYTES + payload.byteLength);
  RECORD_MAGIC.copy(record, 0);
  record[4] = RECORD_VERSION;
  record[5] = KIND_CODES[kind];
  record[6] = codec;
  record[7] = 0;
  record.writeUInt32LE(payload.byteLength, 8);
  record.writeUInt32LE(bytes.byteLength, 12);
  record.write(digest, 16, 'hex');
  record.set(payload, RECORD_HEADER_BYTES);
  record.writeUInt32LE(recordCrc(record), CRC_OFFSET);
  return { header: { kind, digest, codec, storedBytes: payload.byteLength, rawBytes: bytes.byteLength }, record };
}

/** The header at the start of `bytes`; undefined where there is none that this version can read. Checks no checksum. */
export function decodeRecordHeader(bytes: Buffer): RecordHeader | undefined {
  if (bytes.length < RECORD_HEADER_BYTES || bytes.compare(RECORD_MAGIC, 0, 4, 0, 4) !== 0 || bytes[4] !== RECORD_VERSION || bytes[7] !== 0) return undefined;
  const kind = KINDS[bytes[5]!];
  const codec = bytes[6]!;
  if (kind === undefined || codec > CODEC_ZSTD) return undefined;
  return { kind, codec: codec as Codec, storedBytes: bytes.readUInt32LE(8), rawBytes: bytes.readUInt32LE(12), digest: bytes.toString('hex', 16, CRC_OFFSET) };
}

/** The object in a record. The caller checks the digest. @throws where the payload does not decompress */
export function decodePayload(header: RecordHeader, payload: Buffer): Buffer {
  if (header.codec === CODEC_RAW) return payload;
  const sizeBytes = Math.max(header.rawBytes, MIN_COMPRESSED_BYTES);
  return zstdDecompressSync(payload, { maxOutputLength: sizeBytes, chunkSize: sizeBytes });
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

/** CRC-32 of everything in the record but the checksum itself. */
function recordCrc(record: Buffer): number {
  return crc32(record.subarray(RECORD_HEADER_BYTES), crc32(record.subarray(0, CRC_OFFSET)));
}
