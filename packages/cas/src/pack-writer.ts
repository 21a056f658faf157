import { closeSync, fsyncSync, ftruncateSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { HdError, writeAll } from '@hyperdocker/base';
import { storeWrite } from './errors.ts';
import { fillFrom } from './files.ts';
import { PACK_HEADER, RECORD_HEADER_BYTES, scanRecords } from './pack-format.ts';

/** Records are gathered into writes of this size. */
const WRITE_BYTES = 1 << 20;
/** Has place for the longest chunk beside them. */
const BUFFER_BYTES = 4 << 20;

/**
 * Appends records to one new pack of its own. What cannot be written (a full disk) stays in memory and is tried again with the next write:
 * a failed call leaves a pack of whole records.
 */
export class PackWriter {
  readonly id: string;
  readonly #path: string;
  readonly #fd: number;
  /** Records are made here, in place: memory of their own for each, and gathering them, cost a tenth of storing a `node_modules`. */
  #buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  #bufferedBytes = 0;
  #writtenBytes = 0;
  /** On the disk for sure. */
  #syncedBytes = 0;
  /** A sync failed: the system may have forgotten what it did not bring to the disk, and would say of the next sync that all is well. */
  #isDoubtful = false;

  /** @throws HdError STORE_WRITE */
  constructor(packsDir: string, id: string) {
    this.id = id;
    this.#path = join(packsDir, `${id}.pack`);
    try {
      this.#fd = openSync(this.#path, 'wx+', 0o644);
    } catch (error) {
      throw storeWrite(this.#path, error);
    }
    this.append(PACK_HEADER.length, (space) => PACK_HEADER.copy(space));
  }

  /** Where the next record will start. */
  get lengthBytes(): number {
    return this.#writtenBytes + this.#bufferedBytes;
  }

  /**
   * Into memory; cannot fail.
   * @param make writes the record into the space of at least `maxBytes` that it gets, and returns its length
   * @returns the offset of the record
   */
  append(maxBytes: number, make: (space: Buffer) => number): number {
    const offset = this.lengthBytes;
    this.#bufferedBytes += make(this.#space(maxBytes));
    return offset;
  }

  /** Writes out once enough has gathered. @throws HdError STORE_WRITE */
  drain(): void {
    if (this.#bufferedBytes >= WRITE_BYTES) this.writeOut();
  }

  /** Fills `into` with what was appended, from `offset` on. @returns how many bytes there were. @throws HdError STORE_WRITE */
  readInto(into: Buffer, offset: number): number {
    if (offset + into.length > this.#writtenBytes) this.writeOut();
    return fillFrom(this.#fd, into, offset);
  }

  /** Moves what is buffered to the file. @throws HdError STORE_WRITE */
  writeOut(): void {
    if (this.#bufferedBytes === 0) return;
    try {
      writeAll(this.#fd, this.#buffer.subarray(0, this.#bufferedBytes), this.#writtenBytes);
    } catch (error) {
      cutBack(this.#fd, this.#writtenBytes);
      throw storeWrite(this.#path, error);
    }
    this.#writtenBytes += this.#bufferedBytes;
    this.#bufferedBytes = 0;
    if (this.#buffer.length > BUFFER_BYTES) this.#buffer = Buffer.allocUnsafeSlow(BUFFER_BYTES);
  }

  /** @throws HdError STORE_WRITE */
  sync(): void {
    this.writeOut();
    if (this.#syncedBytes === this.#writtenBytes) return;
    try {
      if (this.#isDoubtful) this.#writeAgain();
      this.#isDoubtful = true;
      fsyncSync(this.#fd);
      this.#isDoubtful = false;
    } catch (error) {
      throw storeWrite(this.#path, error);
    }
    this.#syncedBytes = this.#writtenBytes;
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** What is not on the disk for sure, as it can still be read. */
  #writeAgain(): void {
    const from = Math.max(this.#syncedBytes, PACK_HEADER.length);
    const records = Buffer.allocUnsafe(this.#writtenBytes - from);
    let end = fillFrom(this.#fd, records, from) === records.length ? 0 : -1;
    for (const { offset, header } of scanRecords(records, 0)) if (offset === end) end += RECORD_HEADER_BYTES + header.storedBytes;
    if (end !== records.length) throw new HdError('STORE_WRITE', `the disk has lost what was written to ${this.#path}`, { hint: 'check the disk; what was not flushed must be put again' });
    const bytes = this.#syncedBytes === 0 ? Buffer.concat([PACK_HEADER, records]) : records;
    writeAll(this.#fd, bytes, this.#syncedBytes);
  }

  /** Grows for what is longer than a chunk, and while nothing can be written. */
  #space(bytes: number): Buffer {
    if (this.#buffer.length - this.#bufferedBytes < bytes) {
      const larger = Buffer.allocUnsafeSlow(Math.max(this.#buffer.length * 2, this.#bufferedBytes + bytes));
      this.#buffer.copy(larger, 0, 0, this.#bufferedBytes);
      this.#buffer = larger;
    }
    return this.#buffer.subarray(this.#bufferedBytes);
  }
}

/** Takes a partial write off again. Where even that fails, the checksums of the records tell later readers. */
function cutBack(fd: number, length: number): void {
  try {
    ftruncateSync(fd, length);
  } catch {
    return;
  }
}
