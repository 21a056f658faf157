import { fstatSync } from 'node:fs';
import { HdError, assert, hasher } from '@hyperdocker/base';
import type { BlobDigest } from '@hyperdocker/base';
import { BlobCutter, WINDOW_BYTES } from './blob-writer.ts';
import type { Cutting, PieceSink } from './blob-writer.ts';
import type { BlobWriter, PutFile } from './contract.ts';
import { fileChanged, objectCorrupt, objectMissing } from './errors.ts';
import { fillFrom, readAt, withFile } from './files.ts';
import { LentMemory } from './lent-memory.ts';
import { Lru } from './lru.ts';
import type { BlobRow } from './object-index.ts';
import type { PackedObjects } from './packed-objects.ts';
import type { PromotedFiles } from './promoted-files.ts';
import { CODEC_RAW } from './pack-format.ts';
import type { ChunkPlace, Recipe } from './recipe.ts';

/** Blobs of this size and above can be had as files. */
export const PROMOTE_BYTES = 64 << 10;
export const PIECE_CACHE_BYTES = 64 << 20;
const RECIPE_CACHE_BYTES = 16 << 20;
/** Who reads all of a larger blob has it, or the kernel has: keeping it here as well would push out what is read in parts. */
const MAX_CACHED_WHOLE_BYTES = 16 << 10;
/** In what parts files are given out. */
const FILE_PART_BYTES = 1 << 20;
/** What is at most this part of a chunk is read by itself, where it can be. */
const SMALL_PART = 4;
const MAX_VERIFIED_CHUNKS = 100_000;
/** Kept beside the bytes of a piece in a cache. */
const PIECE_OVERHEAD_BYTES = 128;

interface BlobSpace {
  objects: PackedObjects;
  files: PromotedFiles;
  cutting: Cutting;
  readOnly: boolean;
  /** Of what is read in parts. */
  cacheBytes: number;
  /** Called before something is looked up that is going to be relied on, or written. */
  beginBatch(): void;
  assertWritable(): void;
  lease(why: string): Disposable;
}

/** Blobs over records: whole ones, and those that are a recipe and chunks. */
export class Blobs {
  readonly #space: BlobSpace;
  readonly #objects: PackedObjects;
  readonly #files: PromotedFiles;
  readonly #pieces: Lru<string, Buffer>;
  readonly #recipes = new Lru<string, Recipe>(RECIPE_CACHE_BYTES);
  /** Seen to be right by this process, and stored as they are. */
  readonly #verifiedChunks = new Set<string>();
  readonly #lent = new LentMemory();
  /** For `putFile`, one call after another: new memory of this size costs more than reading a small file. */
  #window: Buffer | undefined;

  constructor(space: BlobSpace) {
    this.#space = space;
    this.#objects = space.objects;
    this.#files = space.files;
    this.#pieces = new Lru(space.cacheBytes);
  }

  put(bytes: Uint8Array): BlobDigest {
    this.#space.beginBatch();
    const digest = hasher.hash(bytes) as BlobDigest;
    if (this.#isSound(digest)) return digest;
    const cutter = new BlobCutter(this.#sink(), this.#space.cutting, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    cutter.filled(bytes.byteLength);
    cutter.giveOut({ digest, size: bytes.byteLength });
    return digest;
  }

  /** What does not fit the window must not grow meanwhile: it might never end. @throws HdError FILE_CHANGED, STORE_WRITE */
  putFile(path: string | Buffer): PutFile {
    return withFile(path, (fd) => {
      this.#window ??= Buffer.allocUnsafeSlow(WINDOW_BYTES);
      this.#space.beginBatch();
      const cutter = new BlobCutter(this.#sink(), this.#space.cutting, this.#window);
      let done = fillFrom(fd, cutter.space(), 0);
      cutter.filled(done);
      if (done < WINDOW_BYTES) return cutter.finish();
      const { size } = fstatSync(fd);
      while (done < size) {
        const got = fillFrom(fd, cutter.space().subarray(0, size - done), done);
        if (got === 0) throw fileChanged(path);
        cutter.filled(got);
        done += got;
      }
      if (done > size || readAt(fd, size, 1).length !== 0) throw fileChanged(path);
      return cutter.finish();
    });
  }

  /** From its first chunk on it holds a lease of its own, since flushes, which end the batch, may come between its parts. */
  writer(): BlobWriter {
    let lease: Disposable | undefined;
    let isOpen = true;
    const close = (): void => {
      isOpen = false;
      lease?.[Symbol.dispose]();
    };
    const cutter = new BlobCutter(this.#sink(() => (lease = this.#space.lease('a blob that is being written'))), this.#space.cutting);
    return {
      write: (bytes) => {
        assert(isOpen, 'a blob that is finished takes no more');
        cutter.write(bytes);
      },
      finish: () => {
        assert(isOpen, 'a blob is finished once');
        this.#space.beginBatch();
        const put = cutter.finish();
        close();
        return put;
      },
      [Symbol.dispose]: close,
    };
  }

  has(digest: string): boolean {
    return this.#objects.locateBlob(digest) !== undefined;
  }

  size(digest: string): number {
    return this.#find(digest).location.rawBytes;
  }

  get(digest: string): Buffer {
    return this.read(digest, 0, Infinity);
  }

  read(digest: string, offset: number, length: number): Buffer {
    const cached = this.#pieces.get(digest);
    if (cached !== undefined) return Buffer.from(cached.subarray(offset, offset + length));
    const source = this.#source(digest);
    if (source.kind === 'file') return this.#readFile(source.row, offset, length);
    if (source.kind === 'chunks') return this.#readChunks(digest, source.recipe, offset, length);
    const bytes = this.#objects.read('blob', digest, source.row.location);
    if (offset === 0 && length >= bytes.length && bytes.length > MAX_CACHED_WHOLE_BYTES) return bytes;
    this.#pieces.set(digest, bytes, bytes.length + PIECE_OVERHEAD_BYTES);
    return Buffer.from(bytes.subarray(offset, offset + length));
  }

  /** As `read`, in memory that is valid until the next call. What goes out to its end is not kept: whoever has it passes it on, and does not ask for it again. */
  lend(digest: string, offset: number, length: number): Buffer {
    const cached = this.#pieces.get(digest);
    if (cached !== undefined) return cached.subarray(offset, offset + length);
    const source = this.#source(digest);
    if (source.kind === 'file') return this.#readFile(source.row, offset, length);
    if (source.kind === 'chunks') return this.#lendChunks(digest, source.recipe, offset, length);
    const bytes = this.#objects.lend('blob', digest, source.row.location);
    return offset === 0 && length >= bytes.length ? bytes : this.#keepPiece(digest, bytes).subarray(offset, offset + length);
  }

  *stream(digest: string): Generator<Buffer> {
    const row = this.#find(digest);
    if (row.location.place === 'loose') {
      for (let offset = 0; offset < row.location.rawBytes; offset += FILE_PART_BYTES) yield this.#files.read(digest, offset, FILE_PART_BYTES);
    } else if (row.kind === 'recipe') {
      yield* this.#streamChunks(digest, this.#loadRecipe(row));
    } else if (row.location.rawBytes > 0) {
      yield this.#objects.read('blob', digest, row.location);
    }
  }

  /** As the contract has it. Makes the file, unless the store is for reading only. */
  file(digest: string): string | undefined {
    const { location } = this.#find(digest);
    if (location.place === 'loose') {
      this.#noting(digest, () => this.#files.verify(digest));
      return this.#files.path(digest);
    }
    if (location.rawBytes < PROMOTE_BYTES) return undefined;
    if (this.#hasFile(digest)) {
      if (!this.#space.readOnly) this.#files.touch(digest);
    } else if (this.#space.readOnly) return undefined;
    else this.#files.make(digest, this.stream(digest));
    return this.#files.path(digest);
  }

  /** The chunks of a blob that is stored as a recipe, none for another one; undefined where there is no such blob. */
  chunks(digest: string): Iterable<ChunkPlace> | undefined {
    const row = this.#objects.locateBlob(digest);
    if (row === undefined) return undefined;
    return row.kind === 'recipe' ? this.#loadRecipe(row).chunks() : [];
  }

  /** Reads it from where the row says, past all caches. Of a recipe, the list alone. @throws HdError OBJECT_CORRUPT, OBJECT_MISSING */
  verify({ kind, digest, location }: BlobRow): void {
    if (location.place === 'loose') this.#noting(digest, () => this.#files.verify(digest, { again: true }));
    else if (kind === 'recipe') this.#objects.readRecipe(digest, location);
    else this.#objects.readAt('blob', digest, location);
  }

  clearCaches(): void {
    this.#pieces.clear();
    this.#recipes.clear();
    this.#verifiedChunks.clear();
  }

  /** Is it there, and not known to be damaged? */
  #isSound(digest: string): boolean {
    return !this.#objects.isDamaged('blob', digest) && this.#objects.hasBlob(digest);
  }

  #find(digest: string): BlobRow {
    const row = this.#objects.locateBlob(digest);
    if (row === undefined) throw objectMissing('blob', digest);
    return row;
  }

  /** What it is read from. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  #source(digest: string): { kind: 'chunks'; recipe: Recipe } | { kind: 'file' | 'record'; row: BlobRow } {
    const known = this.#recipes.get(digest);
    if (known !== undefined) return { kind: 'chunks', recipe: known };
    const row = this.#find(digest);
    if (row.location.place === 'loose' || this.#files.isVerified(digest)) return { kind: 'file', row };
    return row.kind === 'recipe' ? { kind: 'chunks', recipe: this.#loadRecipe(row) } : { kind: 'record', row };
  }

  #sink(begin?: () => void): PieceSink {
    return {
      isKnown: (digest) => this.#isSound(digest),
      putWhole: (digest, bytes) => this.#putWhole(digest, bytes),
      putChunk: (bytes) => {
        const digest = hasher.hash(bytes) as BlobDigest;
        // Only as a record of its own: that it is there as a recipe is of no use to another recipe.
        if (this.#objects.isDamaged('blob', digest) || !this.#objects.hasRecord('blob', digest)) this.#putWhole(digest, bytes);
        return { digest, sizeBytes: bytes.byteLength };
      },
      putRecipe: (digest, recipe) => {
        this.#recipes.delete(digest);
        this.#objects.appendRecipe(digest, recipe);
      },
      begin: () => begin?.(),
    };
  }

  #putWhole(digest: string, bytes: Uint8Array): void {
    this.#space.assertWritable();
    this.#pieces.delete(digest);
    this.#objects.append('blob', digest, bytes);
  }

  #loadRecipe(row: BlobRow): Recipe {
    const cached = this.#recipes.get(row.digest);
    if (cached !== undefined) return cached;
    const recipe = this.#objects.readRecipe(row.digest, row.location);
    this.#recipes.set(row.digest, recipe, recipe.weightBytes);
    return recipe;
  }

  /** Copies what is asked for, never whole chunks. The whole blob is also checked as a whole. */
  #readChunks(digest: string, recipe: Recipe, offset: number, length: number): Buffer {
    const end = Math.min(offset + length, recipe.sizeBytes);
    const bytes = Buffer.allocUnsafe(Math.max(0, end - offset));
    const isWhole = bytes.length === recipe.sizeBytes;
    for (const chunk of recipe.chunks(offset, end)) {
      const piece = this.#chunk(digest, chunk, isWhole);
      piece.copy(bytes, Math.max(0, chunk.offset - offset), Math.max(0, offset - chunk.offset), end - chunk.offset);
    }
    if (isWhole && hasher.hash(bytes) !== digest) throw this.#wrongRecipe(digest);
    return bytes;
  }

  /** Each chunk is verified, and kept while it has not been given out to its end. */
  #lendChunks(digest: string, recipe: Recipe, offset: number, length: number): Buffer {
    const end = Math.min(offset + length, recipe.sizeBytes);
    const bytes = this.#lent.take(Math.max(0, end - offset));
    for (const chunk of recipe.chunks(offset, end)) {
      const [from, to] = [Math.max(0, offset - chunk.offset), Math.min(chunk.sizeBytes, end - chunk.offset)];
      const slice = to - from > chunk.sizeBytes / SMALL_PART ? undefined : this.#lendSlice(digest, chunk, from, to);
      if (slice !== undefined) {
        slice.copy(bytes, chunk.offset + from - offset);
        continue;
      }
      const piece = to < chunk.sizeBytes ? this.#chunk(digest, chunk, false) : this.#lentChunk(digest, chunk);
      piece.copy(bytes, chunk.offset + from - offset, from, to);
    }
    return bytes;
  }

  /**
   * A small part of a chunk that does not compress. Verified as a whole when it is first needed, and then believed, as a file is: packs do not change. Reading and hashing half a MiB
   * for each 4 KiB made random reads of a large file a hundred times as slow as the disk.
   */
  #lendSlice(blob: string, chunk: ChunkPlace, from: number, to: number): Buffer | undefined {
    const location = this.#objects.locate('blob', chunk.digest);
    if (location?.place !== 'pack' || location.codec !== CODEC_RAW || this.#pieces.get(chunk.digest) !== undefined) return undefined;
    if (this.#verifiedChunks.has(chunk.digest)) return this.#objects.lendSlice(chunk.digest, location, from, to);
    const whole = this.#lentChunk(blob, chunk);
    if (this.#verifiedChunks.size >= MAX_VERIFIED_CHUNKS) this.#verifiedChunks.clear();
    this.#verifiedChunks.add(chunk.digest);
    return whole.subarray(from, to);
  }

  #lentChunk(blob: string, chunk: ChunkPlace): Buffer {
    const location = this.#pieces.get(chunk.digest) === undefined ? this.#objects.locate('blob', chunk.digest) : undefined;
    if (location?.place !== 'pack') return this.#chunk(blob, chunk, true);
    const piece = this.#noting(blob, () => this.#objects.lend('blob', chunk.digest, location));
    if (piece.length !== chunk.sizeBytes) throw this.#wrongRecipe(blob);
    return piece;
  }

  /** A copy. */
  #keepPiece(digest: string, lent: Buffer): Buffer {
    const piece = Buffer.from(lent);
    this.#pieces.set(digest, piece, piece.length + PIECE_OVERHEAD_BYTES);
    return piece;
  }

  *#streamChunks(digest: string, recipe: Recipe): Generator<Buffer> {
    const stream = hasher.stream();
    for (const chunk of recipe.chunks()) {
      const piece = this.#chunk(digest, chunk, true);
      stream.update(piece);
      // Who has got everything knows that it is right.
      if (chunk.offset + chunk.sizeBytes === recipe.sizeBytes && stream.digest() !== digest) throw this.#wrongRecipe(digest);
      yield this.#pieces.get(chunk.digest) === piece ? Buffer.from(piece) : piece;
    }
  }

  /** A chunk of `blob`, verified; perhaps the cache's own. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT: of the blob */
  #chunk(blob: string, { digest, sizeBytes }: ChunkPlace, once: boolean): Buffer {
    const cached = this.#pieces.get(digest);
    if (cached?.length === sizeBytes) return cached;
    const location = this.#objects.locate('blob', digest);
    if (location === undefined) {
      this.#forget(blob);
      throw objectMissing('blob', digest);
    }
    const piece = this.#noting(blob, () => (location.place === 'loose' ? this.#files.read(digest, 0, sizeBytes) : this.#objects.read('blob', digest, location)));
    if (piece.length !== sizeBytes) throw this.#wrongRecipe(blob);
    if (!once) this.#pieces.set(digest, piece, piece.length + PIECE_OVERHEAD_BYTES);
    return piece;
  }

  /** From the only copy, or from one that this process has verified. */
  #readFile({ digest, location }: BlobRow, offset: number, length: number): Buffer {
    const wanted = Math.min(length, location.rawBytes);
    if (location.place === 'loose') return this.#noting(digest, () => this.#files.read(digest, offset, wanted));
    return this.#hasFile(digest) ? this.#files.read(digest, offset, wanted) : this.read(digest, offset, length);
  }

  /** A copy that is not there, or not right, is none: the packs have the blob. */
  #hasFile(digest: string): boolean {
    try {
      this.#files.verify(digest);
      return true;
    } catch (error) {
      if (!(error instanceof HdError)) throw error;
      this.#files.forget(digest);
      return false;
    }
  }

  /** Remembers what could not be read, so that a put writes it again. */
  #noting<T>(blob: string, read: () => T): T {
    try {
      return read();
    } catch (error) {
      if (error instanceof HdError) this.#forget(blob);
      throw error;
    }
  }

  #wrongRecipe(digest: string): HdError {
    this.#forget(digest);
    return objectCorrupt('blob', digest, 'its chunks');
  }

  #forget(digest: string): void {
    this.#objects.noteDamage('blob', digest);
    this.#recipes.delete(digest);
    this.#verifiedChunks.clear();
  }
}
