import { assert } from '@hyperdocker/base';
import { FASTCDC_WASM, WINDOW_AT, WINDOW_BYTES } from './fastcdc-wasm.ts';

/** What decides where FastCDC v2020 cuts. docs/format/chunking.md has the algorithm. */
export interface CdcParameters {
  /** Shortest chunk, but for the last. Even. */
  minBytes: number;
  /** What chunks tend to. Even, between 256 bytes and 4 MiB. */
  averageBytes: number;
  maxBytes: number;
  /** How strongly lengths are drawn to the average: 0 to 3. */
  normalization: number;
  /** Other seeds cut elsewhere. 64 bits; default 0. */
  seed?: bigint;
}

export type ChunkingProfile = 'fine' | 'standard';

/** `wholeBelowBytes`: blobs up to so long are not cut. */
export const PROFILES: Record<ChunkingProfile, CdcParameters & { wholeBelowBytes: number }> = {
  fine: { minBytes: 4 * 1024, averageBytes: 16 * 1024, maxBytes: 64 * 1024, normalization: 1, wholeBelowBytes: 4 * 1024 },
  standard: { minBytes: 128 * 1024, averageBytes: 512 * 1024, maxBytes: 2048 * 1024, normalization: 2, wholeBelowBytes: 2048 * 1024 },
};

/** Finds where to cut. Has no state between calls. */
export class Chunker {
  readonly #parameters: CdcParameters;
  readonly #scanner: ReturnType<typeof scannerFor>;
  readonly #strictBits: number;
  readonly #looseBits: number;

  constructor(parameters: CdcParameters) {
    const { minBytes, averageBytes, maxBytes, normalization, seed = 0n } = parameters;
    assert(minBytes > 0 && minBytes % 2 === 0 && averageBytes % 2 === 0, 'chunk sizes are even');
    assert(minBytes <= averageBytes && averageBytes <= maxBytes, 'min, average and max in this order');
    assert(averageBytes >= 256 && averageBytes <= 4 * 1024 * 1024 && normalization >= 0 && normalization <= 3, 'there is a mask');
    const bits = Math.round(Math.log2(averageBytes));
    this.#parameters = parameters;
    this.#scanner = scannerFor(BigInt.asUintN(64, seed));
    this.#strictBits = bits + normalization;
    this.#looseBits = bits - normalization;
  }

  /**
   * Length of the first chunk of `bytes[start, end)`. `last` tells that nothing comes after `end`; if more may come and there is no cut yet, the answer is
   * 0: ask again with more. Given `maxBytes`, the answer is never 0, so that nothing need be looked at twice.
   */
  cut(bytes: Uint8Array, start: number, end: number, last: boolean): number {
    const { minBytes, averageBytes, maxBytes } = this.#parameters;
    const length = Math.min(end - start, maxBytes);
    const noCut = last || length === maxBytes ? length : 0;
    if (length <= minBytes) return noCut;
    const { hash, window, scan } = this.#scanner;
    const limit = length - (length % 2);
    const center = Math.min(averageBytes, limit);
    hash.value = 0n;
    for (let at = minBytes; at < limit; ) {
      const strict = at < center;
      const stop = Math.min(at + WINDOW_BYTES, strict ? center : limit);
      window.set(new Uint8Array(bytes.buffer, bytes.byteOffset + start + at, stop - at));
      const found = scan(stop - at, strict ? this.#strictBits : this.#looseBits);
      if (found >= 0) return at + found;
      at = stop;
    }
    return noCut;
  }
}

/** The module's exports, see fastcdc-assembler.ts. */
interface Scanner {
  memory: { buffer: ArrayBuffer };
  hash: { value: bigint };
  scan(length: number, bits: number): number;
}
/** What Node has; it comes with the types of browsers alone. */
declare const WebAssembly: {
  Module: new (bytes: Uint8Array) => object;
  Instance: new (module: object) => { exports: unknown };
};

let module: object | undefined;
const scanners = new Map<bigint, Scanner & { window: Uint8Array }>();

/** One for all chunkers of a seed: it holds nothing from one `cut` to the next. */
function scannerFor(seed: bigint): Scanner & { window: Uint8Array } {
  const known = scanners.get(seed);
  if (known !== undefined) return known;
  module ??= new WebAssembly.Module(Buffer.from(FASTCDC_WASM, 'base64'));
  const { memory, hash, scan } = new WebAssembly.Instance(module).exports as Scanner;
  const gear = new BigUint64Array(memory.buffer, 0, 256);
  for (const [byte, value] of gear.entries()) gear[byte] = value ^ seed;
  const scanner = { memory, hash, scan, window: new Uint8Array(memory.buffer, WINDOW_AT, WINDOW_BYTES) };
  scanners.set(seed, scanner);
  return scanner;
}
