import { assert, hasher } from '@hyperdocker/base';
import type { BlobDigest } from '@hyperdocker/base';

/**
 * The list of the chunks of a blob, payload of a record whose digest is the blob's. All integers are little-endian; docs/format/cas.md has the table.
 *
 * It ends with a check: BLAKE3 of the blob's digest and all that stands before. Hence no recipe passes for that of another blob.
 */
const RECIPE_VERSION = 1;
const HEADER_BYTES = 16;
const ENTRY_BYTES = 36;
const DIGEST_BYTES = 32;

export interface ChunkRef {
  digest: BlobDigest;
  sizeBytes: number;
}

/** Of one chunk, what is at `offset`. */
export interface ChunkPlace extends ChunkRef {
  offset: number;
}

export function encodeRecipe(blob: string, chunks: readonly ChunkRef[]): Buffer {
  const checked = HEADER_BYTES + chunks.length * ENTRY_BYTES;
  const payload = Buffer.alloc(checked + DIGEST_BYTES);
  payload[0] = RECIPE_VERSION;
  payload.writeUInt32LE(chunks.length, 4);
  payload.writeBigUInt64LE(BigInt(chunks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0)), 8);
  for (const [i, { digest, sizeBytes }] of chunks.entries()) {
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    payload.write(digest, at, 'hex');
    payload.writeUInt32LE(sizeBytes, at + DIGEST_BYTES);
  }
  payload.write(checkOf(blob, payload.subarray(0, checked)), checked, 'hex');
  return payload;
}

/** The recipe of `blob` in a payload; undefined where it is none that a writer of this version can have made. */
export function decodeRecipe(blob: string, payload: Buffer): Recipe | undefined {
  if (payload.length < HEADER_BYTES + DIGEST_BYTES || payload[0] !== RECIPE_VERSION || payload.readUIntLE(1, 3) !== 0) return undefined;
  const count = payload.readUInt32LE(4);
  const checked = HEADER_BYTES + count * ENTRY_BYTES;
  // One chunk would be the blob itself.
  if (count < 2 || payload.length !== checked + DIGEST_BYTES) return undefined;
  if (payload.toString('hex', checked) !== checkOf(blob, payload.subarray(0, checked))) return undefined;
  const starts = new Float64Array(count + 1);
  for (let i = 0; i < count; i++) {
    const sizeBytes = payload.readUInt32LE(HEADER_BYTES + i * ENTRY_BYTES + DIGEST_BYTES);
    if (sizeBytes === 0) return undefined;
    starts[i + 1] = starts[i]! + sizeBytes;
  }
  return BigInt(starts[count]!) === payload.readBigUInt64LE(8) ? new Recipe(payload, starts) : undefined;
}

/** A checked recipe, as compact as it is stored. */
export class Recipe {
  readonly #payload: Buffer;
  /** Where chunk i starts in the blob; the last entry is the blob's size. */
  readonly #starts: Float64Array;

  constructor(payload: Buffer, starts: Float64Array) {
    this.#payload = payload;
    this.#starts = starts;
  }

  get count(): number {
    return this.#starts.length - 1;
  }

  get sizeBytes(): number {
    return this.#starts[this.count]!;
  }

  /** What it takes in memory, about. */
  get weightBytes(): number {
    return this.#payload.length + this.#starts.byteLength + 200;
  }

  chunk(i: number): ChunkPlace {
    assert(i >= 0 && i < this.count, 'chunks are numbered from 0');
    const at = HEADER_BYTES + i * ENTRY_BYTES;
    const offset = this.#starts[i]!;
    return { digest: this.#payload.toString('hex', at, at + DIGEST_BYTES) as BlobDigest, sizeBytes: this.#starts[i + 1]! - offset, offset };
  }

  /** In order, from the one that holds byte `offset`, up to the one that holds the byte before `end`. */
  *chunks(offset = 0, end = this.sizeBytes): Generator<ChunkPlace> {
    for (let i = this.#indexAt(offset); i < this.count && this.#starts[i]! < end; i++) yield this.chunk(i);
  }

  #indexAt(offset: number): number {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#starts[middle + 1]! <= offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function checkOf(blob: string, payload: Buffer): string {
  return hasher.hash(Buffer.concat([Buffer.from(blob, 'hex'), payload]));
}
