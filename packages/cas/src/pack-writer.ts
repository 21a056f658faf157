import { closeSync, fsyncSync, ftruncateSync, openSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { storeWrite } from './errors.ts';
import { fillFrom } from './files.ts';
import { PACK_HEADER } from './pack-format.ts';

/** Small records are gathered into one write. */
const BUFFER_BYTES = 1 << 20;

/**
 * Appends records to one new pack of its own. What cannot be written (a full disk) stays in memory and is tried again with the next write:
 * a failed call leaves a pack of whole records.
 */
export class PackWriter {
  readonly id: string;
  readonly #path: string;
  readonly #fd: number;
  #buffered: Buffer[] = [];
  #bufferedBytes = 0;
  #writtenBytes = 0;
  #synced = false;

  /** @throws HdError STORE_WRITE */
  constructor(packsDir: string, id: string) {
    this.id = id;
    this.#path = join(packsDir, `${id}.pack`);
    try {
      this.#fd = openSync(this.#path, 'wx+', 0o644);
    } catch (error) {
      throw storeWrite(this.#path, error);
    }
    this.#push(PACK_HEADER);
  }

  /** Where the next record will start. */
  get lengthBytes(): number {
    return this.#writtenBytes + this.#bufferedBytes;
  }

  /** Into memory; cannot fail. @returns the offset of the record */
  append(record: Buffer): number {
    const offset = this.lengthBytes;
    this.#push(record);
    return offset;
  }

  /** Writes out once enough has gathered. @throws HdError STORE_WRITE */
  drain(): void {
    if (this.#bufferedBytes >= BUFFER_BYTES) this.writeOut();
  }

  /** Fills `into` with what was appended, from `offset` on. @returns how many bytes there were. @throws HdError STORE_WRITE */
  readInto(into: Buffer, offset: number): number {
    if (offset + into.length > this.#writtenBytes) this.writeOut();
    return fillFrom(this.#fd, into, offset);
  }

  /** Moves what is buffered to the file. @throws HdError STORE_WRITE */
  writeOut(): void {
    if (this.#bufferedBytes === 0) return;
    const bytes = this.#buffered.length === 1 ? this.#buffered[0]! : Buffer.concat(this.#buffered);
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done, bytes.length - done, this.#writtenBytes + done);
    } catch (error) {
      this.#buffered = [bytes];
      cutBack(this.#fd, this.#writtenBytes);
      throw storeWrite(this.#path, error);
    }
    this.#writtenBytes += bytes.length;
    this.#buffered = [];
    this.#bufferedBytes = 0;
    this.#synced = false;
  }

  /** @throws HdError STORE_WRITE */
  sync(): void {
    this.writeOut();
    if (this.#synced) return;
    try {
      fsyncSync(this.#fd);
    } catch (error) {
      throw storeWrite(this.#path, error);
    }
    this.#synced = true;
  }

  close(): void {
    closeSync(this.#fd);
  }

  #push(bytes: Buffer): void {
    this.#buffered.push(bytes);
    this.#bufferedBytes += bytes.length;
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
