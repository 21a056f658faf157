import { ZstdCompress, ZstdDecompress, constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

/**
 * zstd in one call, with contexts that are used again. Node's own `zstdCompressSync` makes a stream and a context for every call, which for a file of 2 KB
 * takes twice as long as compressing it. What is used instead is what those functions use: the handle of a stream, which has no public name. Where it looks
 * otherwise than known here, Node's functions are called.
 */
const LEVEL = { [constants.ZSTD_c_compressionLevel]: 3 };
/** Beyond this, the context is a small part of the work, and the output would stay in memory. */
const MAX_REUSED_BYTES = 4 << 20;
/** The least that zlib takes. */
const MIN_CHUNK_BYTES = 64;

interface Handle {
  reset(): void;
  writeSync(flush: number, input: Uint8Array, inputOffset: number, inputLength: number, output: Uint8Array, outputOffset: number, outputLength: number): void;
  onerror: unknown;
}

/** One frame, level 3, in memory that the next call uses again. Undefined: it would not be smaller than `bytes`. */
export function compressZstd(bytes: Uint8Array): Buffer | undefined {
  if (bytes.byteLength > MAX_REUSED_BYTES) return smaller(zstdCompressSync(bytes, { params: LEVEL, chunkSize: bytes.byteLength }), bytes);
  compressor ??= reusedContext(() => new ZstdCompress({ params: LEVEL }));
  if (compressor === 'unknown') return smaller(zstdCompressSync(bytes, { params: LEVEL, chunkSize: Math.max(bytes.byteLength, MIN_CHUNK_BYTES) }), bytes);
  if (output.length < bytes.byteLength) output = Buffer.allocUnsafeSlow(Math.max(bytes.byteLength, output.length * 2));
  const length = compressor(constants.ZSTD_e_end, bytes, output.subarray(0, bytes.byteLength));
  // As long as what it was given: there may have been more to come.
  return length === undefined || length >= bytes.byteLength ? undefined : output.subarray(0, length);
}

/** @throws where `frame` is not one whole frame of exactly `rawBytes` bytes. Never inflates beyond that. */
export function decompressZstd(frame: Uint8Array, rawBytes: number): Buffer {
  decompressor ??= reusedContext(() => new ZstdDecompress());
  if (decompressor === 'unknown') {
    // A buffer that the output just fills makes zlib ask for another one, to see that nothing comes: 3-10 µs.
    const bytes = zstdDecompressSync(frame, { maxOutputLength: Math.max(rawBytes, 1), chunkSize: Math.max(rawBytes + 1, MIN_CHUNK_BYTES) });
    if (bytes.length !== rawBytes) throw new RangeError(`${bytes.length} bytes instead of ${rawBytes}`);
    return bytes;
  }
  // One byte more than there should be tells what is too long.
  const bytes = Buffer.allocUnsafeSlow(rawBytes + 1);
  const length = decompressor(constants.ZSTD_e_end, frame, bytes);
  if (length !== rawBytes) throw new RangeError(`${length ?? 'no'} bytes instead of ${rawBytes}`);
  return bytes.subarray(0, rawBytes);
}

type Run = (flush: number, input: Uint8Array, output: Uint8Array) => number | undefined;

let output: Buffer = Buffer.allocUnsafeSlow(64 << 10);
let compressor: Run | 'unknown' | undefined;
let decompressor: Run | 'unknown' | undefined;

/** Runs one input through: the length of the output, or undefined where it was refused or did not fit. */
function reusedContext(open: () => ZstdCompress | ZstdDecompress): Run | 'unknown' {
  const stream = open() as unknown as { _handle?: Partial<Handle>; _writeState?: unknown };
  const { _handle: handle, _writeState: state } = stream;
  if (typeof handle?.reset !== 'function' || typeof handle.writeSync !== 'function' || !(state instanceof Uint32Array) || state.length !== 2) return 'unknown';
  const { reset, writeSync } = handle as Handle;
  let failed = false;
  handle.onerror = () => (failed = true);
  return (flush, input, into) => {
    failed = false;
    reset.call(handle);
    writeSync.call(handle, flush, input, 0, input.byteLength, into, 0, into.byteLength);
    const [outputLeft = 0, inputLeft = 0] = state;
    return failed || inputLeft > 0 ? undefined : into.byteLength - outputLeft;
  };
}

function smaller(compressed: Buffer, bytes: Uint8Array): Buffer | undefined {
  return compressed.byteLength < bytes.byteLength ? compressed : undefined;
}
