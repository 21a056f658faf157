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

/** As long as a frame can get, `ZSTD_compressBound`: with less space zstd copies what goes in and out through buffers of its own. */
export function zstdSpace(rawBytes: number): number {
  return rawBytes + (rawBytes >> 8) + 64;
}

/** One frame, level 3, at the start of `into`. @returns its length; undefined: it does not fit there */
export function compressZstd(bytes: Uint8Array, into: Buffer): number | undefined {
  compressor ??= reusedContext(() => new ZstdCompress({ params: LEVEL }));
  if (compressor !== 'unknown' && bytes.byteLength <= MAX_REUSED_BYTES) {
    const length = compressor(constants.ZSTD_e_end, bytes, into);
    // As long as the space: there may have been more to come.
    return length === into.byteLength ? undefined : length;
  }
  const frame = zstdCompressSync(bytes, { params: LEVEL, chunkSize: Math.max(bytes.byteLength, MIN_CHUNK_BYTES) });
  return frame.length > into.length ? undefined : frame.copy(into);
}

/**
 * @param memory where it goes, of the length that it is called with; new memory without
 * @throws where `frame` is not one whole frame of exactly `rawBytes` bytes. Never inflates beyond that.
 */
export function decompressZstd(frame: Uint8Array, rawBytes: number, memory: (length: number) => Buffer = Buffer.allocUnsafeSlow): Buffer {
  decompressor ??= reusedContext(() => new ZstdDecompress());
  if (decompressor === 'unknown') {
    // A buffer that the output just fills makes zlib ask for another one, to see that nothing comes: 3-10 µs.
    const bytes = zstdDecompressSync(frame, { maxOutputLength: Math.max(rawBytes, 1), chunkSize: Math.max(rawBytes + 1, MIN_CHUNK_BYTES) });
    if (bytes.length !== rawBytes) throw new RangeError(`${bytes.length} bytes instead of ${rawBytes}`);
    return bytes;
  }
  // One byte more than there should be tells what is too long.
  const bytes = memory(rawBytes + 1);
  const length = decompressor(constants.ZSTD_e_end, frame, bytes);
  if (length !== rawBytes) throw new RangeError(`${length ?? 'no'} bytes instead of ${rawBytes}`);
  return bytes.subarray(0, rawBytes);
}

type Run = (flush: number, input: Uint8Array, output: Uint8Array) => number | undefined;

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
