import { createHash } from 'node:crypto';
import { closeSync, createReadStream, openSync, readSync, statSync } from 'node:fs';
import { pipeline } from 'node:stream';
import type { Readable } from 'node:stream';
import { createGunzip, createZstdDecompress } from 'node:zlib';
import { HdError } from '@hyperdocker/base';

const READ_BYTES = 1 << 20;
/** How far the decoder, in a thread of its own, may be ahead of who reads: with less than a piece, one of the two always waits. */
const AHEAD_BYTES = 8 << 20;
const DECODER = { chunkSize: READ_BYTES, readableHighWaterMark: AHEAD_BYTES, writableHighWaterMark: 2 * READ_BYTES };
/** What is more than both is a bomb: deflate reaches 1000 : 1 only where there is nothing but zeros, layers of images seldom 10 : 1. */
const EXPANDED_BYTES_MAX = 2 ** 30;
const EXPANSION_MAX = 200;

export interface DecompressOptions {
  /** What people should read in errors. */
  name: string;
  /** `sha256:…` of the file as it is. */
  digest?: string | undefined;
  /** `sha256:…` of the decompressed bytes. */
  diffId?: string | undefined;
  /** Of the file: how much it may become where that is more than 200 times as much. Default 1 GiB. */
  expandedBytesMax?: number | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * The decompressed bytes of a file: gzip, zstd or plain, as its first bytes say. Digests are compared at the end, so what came
 * before is to be trusted only after the last byte.
 * @throws HdError LAYER_INVALID, DIGEST_MISMATCH
 */
export async function* decompressed(path: string, options: DecompressOptions): AsyncGenerator<Buffer> {
  const packed = options.digest === undefined ? undefined : createHash('sha256');
  const plain = options.diffId === undefined ? undefined : createHash('sha256');
  const source = createReadStream(path, { highWaterMark: READ_BYTES, ...(options.signal === undefined ? {} : { signal: options.signal }) });
  if (packed !== undefined) source.on('data', (chunk) => packed.update(chunk));
  const stream = withDecoder(source, path, options.name);
  const most = Math.max(options.expandedBytesMax ?? EXPANDED_BYTES_MAX, EXPANSION_MAX * statSync(path).size);
  let expanded = 0;
  try {
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      expanded += chunk.length;
      if (expanded > most) throw bomb(options.name, path, most);
      plain?.update(chunk);
      yield chunk;
    }
  } catch (error) {
    throw isCodecError(error) ? new HdError('LAYER_INVALID', `${options.name} cannot be decompressed`, { hint: 'fetch or build the image again', cause: error }) : error;
  } finally {
    stream.destroy();
  }
  if (packed !== undefined) compareDigest(options.name, options.digest, packed.digest('hex'));
  if (plain !== undefined) compareDigest(`${options.name}, decompressed`, options.diffId, plain.digest('hex'));
}

function bomb(name: string, path: string, most: number): HdError {
  return new HdError('LAYER_INVALID', `${name} is a decompression bomb: its ${statSync(path).size} bytes become more than ${most}`, { hint: 'do not use this image, or save it without compression if you made it yourself' });
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** @throws HdError DIGEST_MISMATCH */
export function compareDigest(name: string, expected: string | undefined, sha256Hex: string): void {
  if (expected === `sha256:${sha256Hex}`) return;
  throw new HdError('DIGEST_MISMATCH', `${name} is not what was asked for: expected ${expected}, found sha256:${sha256Hex}`, {
    hint: 'the data was damaged or replaced on its way: try again, or ask another registry',
  });
}

function withDecoder(source: Readable, path: string, name: string): Readable {
  const magic = firstBytes(path, 6).toString('hex');
  // Errors reach the reader of the last stream; the callback only says that they are not forgotten.
  if (magic.startsWith('1f8b')) return pipeline(source, createGunzip(DECODER), () => undefined);
  if (magic.startsWith('28b52ffd')) return pipeline(source, createZstdDecompress(DECODER), () => undefined);
  const other = magic === 'fd377a585a00' ? 'xz' : magic.startsWith('425a68') ? 'bzip2' : undefined;
  if (other === undefined) return source;
  source.destroy();
  throw new HdError('LAYER_INVALID', `${name} is compressed with ${other}`, { hint: 'use gzip, zstd or no compression' });
}

function firstBytes(path: string, count: number): Buffer {
  const fd = openSync(path, 'r');
  try {
    const bytes = Buffer.alloc(count);
    return bytes.subarray(0, readSync(fd, bytes, 0, count, 0));
  } finally {
    closeSync(fd);
  }
}

function isCodecError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && /^(Z_|ZSTD_|ERR_(ZSTD|ZLIB))/.test(String(error.code));
}
