import { assert, hasher } from '@hyperdocker/base';
import type { BlobDigest, StreamHasher } from '@hyperdocker/base';
import type { PutFile } from './contract.ts';
import type { CdcParameters, Chunker } from './fastcdc.ts';
import type { ChunkRef } from './recipe.ts';

/** How blobs are cut: a profile with its chunker. */
export interface Cutting {
  profile: CdcParameters & { wholeBelowBytes: number };
  chunker: Chunker;
}

/** How much of a blob is in memory at once. Blobs up to this are hashed in one call, which is two to three times as fast as hashing in parts. */
export const WINDOW_BYTES = 8 << 20;
const FIRST_WINDOW_BYTES = 64 << 10;

/** Where the pieces go. */
export interface PieceSink {
  isKnown(digest: string): boolean;
  putWhole(digest: string, bytes: Uint8Array): void;
  /** A chunk that may be there already. */
  putChunk(bytes: Uint8Array): ChunkRef;
  putRecipe(digest: string, chunks: readonly ChunkRef[]): void;
  /** Before the first chunk of a blob that does not fit the window: from here on, nothing that is there may go. */
  begin(): void;
}

/**
 * Takes a blob in parts through a window, and gives it on whole or in chunks. What fits the window is looked up before anything is cut or compressed.
 */
export class BlobCutter {
  readonly #sink: PieceSink;
  readonly #cutting: Cutting;
  #window: Buffer;
  #filled = 0;
  /** Of what is in the window, how much `#stream` has seen. */
  #hashed = 0;
  #chunks: ChunkRef[] = [];
  #cutBytes = 0;
  /** Once the blob has outgrown the window. */
  #stream: StreamHasher | undefined;

  /** `window`: memory to use, of `WINDOW_BYTES`, or the whole blob. */
  constructor(sink: PieceSink, cutting: Cutting, window: Buffer = Buffer.allocUnsafeSlow(FIRST_WINDOW_BYTES)) {
    this.#sink = sink;
    this.#cutting = cutting;
    this.#window = window;
  }

  get sizeBytes(): number {
    return this.#cutBytes + this.#filled;
  }

  /** Free memory to read the next bytes into, never empty; then call `filled`. */
  space(): Buffer {
    if (this.#filled === this.#window.length) this.#makeSpace();
    return this.#window.subarray(this.#filled);
  }

  filled(length: number): void {
    this.#filled += length;
    assert(this.#filled <= this.#window.length, 'no more than the space');
  }

  write(bytes: Uint8Array): void {
    for (let done = 0; done < bytes.byteLength; ) {
      const space = this.space();
      const part = bytes.subarray(done, done + space.length);
      space.set(part);
      this.filled(part.byteLength);
      done += part.byteLength;
    }
  }

  finish(): PutFile {
    const rest = this.#window.subarray(0, this.#filled);
    this.#stream?.update(rest.subarray(this.#hashed));
    const put = { digest: (this.#stream?.digest() ?? hasher.hash(rest)) as BlobDigest, size: this.sizeBytes };
    if (!this.#sink.isKnown(put.digest)) this.giveOut(put);
    return put;
  }

  /** Puts what is in the window as the end, or all, of the blob. */
  giveOut({ digest, size }: PutFile): void {
    if (size <= this.#cutting.profile.wholeBelowBytes) {
      this.#sink.putWhole(digest, this.#window.subarray(0, this.#filled));
      return;
    }
    this.#cut(true);
    // What has no boundary in it is the one chunk.
    if (this.#chunks.length > 1) this.#sink.putRecipe(digest, this.#chunks);
  }

  #makeSpace(): void {
    if (this.#window.length < WINDOW_BYTES) {
      const larger = Buffer.allocUnsafeSlow(Math.min(this.#window.length * 4, WINDOW_BYTES));
      this.#window.copy(larger, 0, 0, this.#filled);
      this.#window = larger;
      return;
    }
    if (this.#stream === undefined) {
      this.#sink.begin();
      this.#stream = hasher.stream();
    }
    this.#stream.update(this.#window.subarray(this.#hashed, this.#filled));
    this.#hashed = this.#filled;
    this.#cut(false);
  }

  /** Gives out the chunks that are sure; the rest moves to the front. */
  #cut(last: boolean): void {
    const { profile, chunker } = this.#cutting;
    let start = 0;
    while (start < this.#filled && (last || this.#filled - start >= profile.maxBytes)) {
      const length = chunker.cut(this.#window, start, this.#filled, last);
      this.#chunks.push(this.#sink.putChunk(this.#window.subarray(start, start + length)));
      start += length;
    }
    if (!last) this.#window.copyWithin(0, start, this.#filled);
    this.#filled -= start;
    this.#hashed = Math.max(0, this.#hashed - start);
    this.#cutBytes += start;
  }
}
