import { HdError, assert, hasher, isErrno } from '@hyperdocker/base';
import { objectCorrupt, objectMissing } from './errors.ts';
import { LentMemory } from './lent-memory.ts';
import { locationOf } from './object-index.ts';
import type { BlobRow, IndexEdit, IndexRow, Location, ObjectIndex } from './object-index.ts';
import type { OwnPacks } from './own-packs.ts';
import { RECORD_HEADER_BYTES, decodePayload, decodeRecordHeader, recordSpace, writeRecord } from './pack-format.ts';
import type { RecordHeader, RecordKind } from './pack-format.ts';
import type { PackReader } from './pack-reader.ts';
import type { ObjectKind } from './reach.ts';
import { decodeRecipe, encodeRecipe } from './recipe.ts';
import type { ChunkRef, Recipe } from './recipe.ts';

type PackPlace = Location & { place: 'pack' };

/** Records up to this length are read into memory that is used again, which spares the page faults of new memory: 4 µs instead of 13 for 60 KB. */
const SCRATCH_BYTES = 256 << 10;

/**
 * Objects as records of packs: in own packs and not yet in the index, or where the index says. Everything read is checked.
 *
 * A first read of a header file of 2-8 KB takes 45-60 µs of a loaded machine's time where it took 60-85, of 8-60 KB 60-85 where it took 110-180, of 70 raw bytes 10-16 where it
 * took 14-24: one look-up, one read of just the record, a decompression that ends at the right length. What is left is zlib's own setup (14 µs) and the work itself.
 */
export class PackedObjects {
  readonly #index: ObjectIndex;
  readonly #own: OwnPacks;
  readonly #reader: PackReader;
  /** In own packs, not in the index yet. */
  readonly #pending = new Map<string, IndexRow>();
  /** Seen to be damaged or incomplete by this process: a put writes them again. */
  readonly #damaged = new Set<string>();
  /** Blobs whose damaged whole record is succeeded by a recipe: it must not be found first any more. */
  readonly #succeeded = new Set<string>();
  readonly #lent = new LentMemory();
  readonly #lentRecord = new LentMemory();
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  /** Since the last flush, as far as it was asked. */
  #indexIsEmpty: boolean | undefined;

  constructor(index: ObjectIndex, own: OwnPacks, reader: PackReader) {
    this.#index = index;
    this.#own = own;
    this.#reader = reader;
  }

  get pending(): Iterable<IndexRow> {
    return this.#pending.values();
  }

  locate(kind: RecordKind, digest: string): Location | undefined {
    return (this.#pending.size === 0 ? undefined : this.#pending.get(recordKey(kind, digest))?.location) ?? this.#index.find(kind, digest);
  }

  /**
   * Is there a record of it, for who is about to write one? In a store without any object no index is asked (a twentieth of filling it): what other processes have begun to
   * put there since the last flush may then be put twice.
   */
  hasRecord(kind: RecordKind, digest: string): boolean {
    return this.#pending.has(recordKey(kind, digest)) || (this.#mayBeIndexed() && this.#index.find(kind, digest)?.place === 'pack');
  }

  /** As `hasRecord`, of a blob, which may also be a recipe or a file. */
  hasBlob(digest: string): boolean {
    return this.#pending.has(recordKey('blob', digest)) || this.#pending.has(recordKey('recipe', digest)) || (this.#mayBeIndexed() && this.#index.findBlob(digest) !== undefined);
  }

  /** A blob, whole or as a recipe. */
  locateBlob(digest: string): BlobRow | undefined {
    if (this.#pending.size > 0) {
      const row = this.#pending.get(recordKey('blob', digest)) ?? this.#pending.get(recordKey('recipe', digest));
      if (row !== undefined) return row as BlobRow;
    }
    return this.#index.findBlob(digest);
  }

  /** From now on a put of it writes it again. */
  noteDamage(kind: ObjectKind, digest: string): void {
    this.#damaged.add(`${kind}:${digest}`);
  }

  /** Was it seen to be damaged, and not put since? */
  isDamaged(kind: ObjectKind, digest: string): boolean {
    return this.#damaged.size > 0 && this.#damaged.has(`${kind}:${digest}`);
  }

  /** Appends it; the caller knows that it is not there, or damaged. @throws HdError STORE_WRITE */
  append(kind: ObjectKind, digest: string, bytes: Uint8Array): void {
    this.#append(kind, digest, bytes);
  }

  /** As `append`, of a blob whose chunks are put. @throws HdError STORE_WRITE */
  appendRecipe(digest: string, chunks: readonly ChunkRef[]): void {
    this.#append('recipe', digest, encodeRecipe(digest, chunks), chunks.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0));
  }

  /**
   * The object at `location`, verified; in memory of its own. Looks once more where a collection in another process has moved it meanwhile.
   * @throws HdError OBJECT_MISSING, OBJECT_CORRUPT
   */
  read(kind: ObjectKind, digest: string, location: Location): Buffer {
    return this.#follow(kind, digest, location, (place) => this.readAt(kind, digest, place));
  }

  /** As `read`, in memory that the next `lend` uses again. */
  lend(kind: ObjectKind, digest: string, location: Location): Buffer {
    return this.#follow(kind, digest, location, (place) => this.#verified(kind, digest, place, true));
  }

  /** Some bytes of a payload that is stored raw, not verified; in memory that the next `lend` uses again. Undefined: it is not there any more. */
  lendSlice(digest: string, location: PackPlace, from: number, to: number): Buffer | undefined {
    const bytes = this.#lent.take(to - from);
    try {
      return this.#readInto(bytes, 'blob', digest, location.pack, location.offset + RECORD_HEADER_BYTES + from) === bytes.length ? bytes : undefined;
    } catch (error) {
      if (error instanceof HdError) return undefined;
      throw error;
    }
  }

  /** As `read`, from this location alone. */
  readAt(kind: ObjectKind, digest: string, location: Location): Buffer {
    const bytes = this.#verified(kind, digest, location, false);
    // Short raw payloads stand in memory that the next read uses.
    return bytes.buffer === this.#scratch.buffer ? Buffer.from(bytes) : bytes;
  }

  /** As `read`; what it names need not be there. @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  readRecipe(digest: string, location: Location): Recipe {
    return this.#follow('recipe', digest, location, (place) => {
      const recipe = decodeRecipe(digest, Buffer.from(this.#payload('recipe', digest, place)));
      if (recipe === undefined || recipe.sizeBytes !== place.rawBytes) throw this.#corrupt('recipe', digest, place);
      return recipe;
    });
  }

  /** Everything pending onto the disk, and then into the index. @throws HdError STORE_WRITE */
  flush(update: (change: (edit: IndexEdit) => void) => void): void {
    if (this.#pending.size === 0) return;
    this.#own.sync();
    update((edit) => {
      // A pending row that the index has as well replaces a damaged one, or one that another process wrote at the same time.
      for (const row of this.#pending.values()) edit.replace(row);
      for (const digest of this.#succeeded) edit.remove('blob', digest);
      for (const [pack, length] of this.#own.lengths()) edit.setScanned(pack, length);
    });
    this.#pending.clear();
    this.#succeeded.clear();
    this.#indexIsEmpty = undefined;
    this.#own.settle();
  }

  /**
   * Copies records as they are into new packs, for gc. These are synced when it returns.
   * @returns their new rows, with the lengths of the packs
   * @throws HdError OBJECT_MISSING, OBJECT_CORRUPT (the record is cut off, or another one), STORE_WRITE
   */
  copyRecords(rows: Iterable<IndexRow>): { rows: IndexRow[]; packs: Map<string, number> } {
    const copied: IndexRow[] = [];
    for (const row of rows) {
      assert(row.location.place === 'pack', 'only packs are rewritten');
      const { record } = this.#record(row.kind, row.digest, row.location);
      copied.push({ ...row, location: { ...row.location, ...this.#own.append(record.length, (space) => record.copy(space)) } });
      this.#own.drain();
    }
    this.#own.sync();
    return { rows: copied, packs: this.#own.lengths() };
  }

  #mayBeIndexed(): boolean {
    this.#indexIsEmpty ??= this.#index.isEmpty;
    return !this.#indexIsEmpty;
  }

  #append(kind: RecordKind, digest: string, bytes: Uint8Array, blobBytes?: number): void {
    let header: RecordHeader | undefined;
    const { pack, offset } = this.#own.append(recordSpace(bytes.byteLength), (space) => {
      header = writeRecord(space, kind, digest, bytes);
      return RECORD_HEADER_BYTES + header.storedBytes;
    });
    assert(header !== undefined, 'a record is made where it goes');
    this.#pending.set(recordKey(kind, digest), { kind, digest, location: locationOf(pack, offset, header, blobBytes) });
    if (kind === 'recipe' && this.isDamaged('blob', digest)) this.#succeeded.add(digest);
    this.#damaged.delete(`${objectKind(kind)}:${digest}`);
    this.#own.drain();
  }

  #follow<T>(kind: RecordKind, digest: string, location: Location, read: (location: Location) => T): T {
    try {
      return read(location);
    } catch (error) {
      if (!(error instanceof HdError) || error.code !== 'OBJECT_MISSING') throw error;
      const moved = this.#index.find(kind, digest);
      if (moved?.place === 'pack' && location.place === 'pack' && moved.pack !== location.pack) return read(moved);
      this.noteDamage(objectKind(kind), digest);
      throw error;
    }
  }

  #verified(kind: ObjectKind, digest: string, location: Location, lent: boolean): Buffer {
    const bytes = this.#payload(kind, digest, location, lent);
    if (hasher.hash(bytes) !== digest) throw this.#corrupt(kind, digest, location);
    return bytes;
  }

  #payload(kind: RecordKind, digest: string, location: Location, lent = false): Buffer {
    assert(location.place === 'pack', 'a file is no record');
    const { header, record } = this.#record(kind, digest, location, lent);
    try {
      return decodePayload(header, record.subarray(RECORD_HEADER_BYTES), lent ? this.#lent.take : undefined);
    } catch (error) {
      throw this.#corrupt(kind, digest, location, error);
    }
  }

  /** Exactly the record, in one read; often in `#scratch` (`lent`: always in memory that is used again). The index is believed no further than the record's own header goes along. */
  #record(kind: RecordKind, digest: string, location: PackPlace, lent = false): { header: RecordHeader; record: Buffer } {
    const { pack, offset, storedBytes, rawBytes, codec } = location;
    const length = RECORD_HEADER_BYTES + storedBytes;
    const record = length <= SCRATCH_BYTES ? this.#scratch.subarray(0, length) : lent ? this.#lentRecord.take(length) : Buffer.allocUnsafeSlow(length);
    const header = this.#readInto(record, kind, digest, pack, offset) === record.length ? decodeRecordHeader(record) : undefined;
    if (
      header === undefined || header.kind !== kind || header.codec !== codec || header.storedBytes !== storedBytes || header.digest !== digest ||
      header.rawBytes !== (kind === 'recipe' ? storedBytes : rawBytes)
    ) {
      throw this.#corrupt(kind, digest, location);
    }
    return { header, record };
  }

  /** @throws HdError OBJECT_MISSING: the pack is gone */
  #readInto(record: Buffer, kind: RecordKind, digest: string, pack: string, offset: number): number {
    const own = this.#own.find(pack);
    if (own !== undefined) return own.readInto(record, offset);
    try {
      return this.#reader.readInto(record, pack, offset);
    } catch (error) {
      throw isErrno(error, 'ENOENT') ? objectMissing(objectKind(kind), digest) : error;
    }
  }

  #corrupt(kind: RecordKind, digest: string, location: Location, cause?: unknown): HdError {
    this.noteDamage(objectKind(kind), digest);
    return objectCorrupt(objectKind(kind), digest, location.place === 'pack' ? `pack ${location.pack}` : 'a file', cause);
  }
}

/** What a record is a form of. */
function objectKind(kind: RecordKind): ObjectKind {
  return kind === 'recipe' ? 'blob' : kind;
}

function recordKey(kind: RecordKind, digest: string): string {
  return `${kind}:${digest}`;
}
