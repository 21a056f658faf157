import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Store } from '@hyperdocker/cas';
import type { StoredFile } from './image-tree.ts';

/** Larger files go through a temporary file, so that memory stays bounded. */
const IN_MEMORY_BYTES_MAX = 8 << 20;

/** Stores the contents of files somewhere else than in the calling thread. */
export interface BlobPutter {
  /** Copies the bytes. The digest is there when `settle` has resolved. */
  put(bytes: Buffer): StoredFile;
  /** Waits while more is under way than should be. */
  room(): Promise<void>;
  /** All that was put has its digest. @throws HdError of the store */
  settle(): Promise<void>;
}

/** Turns the pieces of one file after another into blobs. */
export class BlobSpool implements Disposable {
  readonly #store: Store;
  readonly #putter: BlobPutter | undefined;
  readonly #parent: string;
  #directory: string | undefined;
  #size = 0;
  #received = 0;
  #whole: Buffer | undefined;
  #fd: number | undefined;

  /** @param putter stores what needs no temporary file; default: the store itself */
  constructor(store: Store, tempDir: string | undefined, putter?: BlobPutter) {
    this.#store = store;
    this.#putter = putter;
    this.#parent = tempDir ?? tmpdir();
  }

  begin(sizeBytes: number): void {
    this.#close();
    this.#size = sizeBytes;
    this.#received = 0;
    this.#whole = undefined;
    if (sizeBytes > IN_MEMORY_BYTES_MAX) this.#fd = openSync(this.#path(), 'w', 0o600);
  }

  write(bytes: Buffer): void {
    if (this.#fd !== undefined) writeAll(this.#fd, bytes, this.#received);
    // The usual case: the file lies whole in the reader's buffer, which outlives the call to `end`.
    else if (this.#received === 0 && bytes.length === this.#size) this.#whole = bytes;
    else bytes.copy((this.#whole ??= Buffer.allocUnsafe(this.#size)), this.#received);
    this.#received += bytes.length;
  }

  /** So many zeros, which take no room in a temporary file. */
  hole(sizeBytes: number): void {
    if (this.#fd === undefined) (this.#whole ??= Buffer.allocUnsafe(this.#size)).fill(0, this.#received, this.#received + sizeBytes);
    this.#received += sizeBytes;
  }

  end(): StoredFile {
    if (this.#fd === undefined) {
      const whole = this.#whole ?? Buffer.alloc(0);
      this.#whole = undefined;
      return this.#putter?.put(whole) ?? { digest: this.#store.putBlob(whole), size: this.#size };
    }
    // Zeros at its end have not been written.
    ftruncateSync(this.#fd, this.#size);
    this.#close();
    return this.#store.putFile(this.#path());
  }

  [Symbol.dispose](): void {
    this.#close();
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
  }

  #path(): string {
    this.#directory ??= mkdtempSync(join(this.#parent, 'hd-layer-'));
    return join(this.#directory, 'file');
  }

  #close(): void {
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}

/** Writes at `position`, or where the file stands. */
export function writeAll(fd: number, bytes: Uint8Array, position?: number): void {
  for (let at = 0; at < bytes.length; ) at += writeSync(fd, bytes, at, bytes.length - at, position === undefined ? null : position + at);
}
