import { randomBytes } from 'node:crypto';
import { syncPath } from './files.ts';
import { PackWriter } from './pack-writer.ts';

/** A pack that has grown beyond this is closed at the next flush or record. */
const MAX_PACK_BYTES = 64 << 20;

interface OwnPack {
  writer: PackWriter;
  /** Keeps collections of other processes off it. */
  hold: Disposable;
  isNew: boolean;
}

/** The packs that this open store appends to: those that have grown since the last `settle`, and the current one. */
export class OwnPacks {
  readonly #packsDir: string;
  /** Tells other processes that a pack is written to. */
  readonly #holdPack: (id: string) => Disposable;
  /** The last is the current one. */
  #packs: OwnPack[] = [];

  constructor(packsDir: string, holdPack: (id: string) => Disposable) {
    this.#packsDir = packsDir;
    this.#holdPack = holdPack;
  }

  find(id: string): PackWriter | undefined {
    return this.#packs.find(({ writer }) => writer.id === id)?.writer;
  }

  /**
   * Into memory, as `PackWriter.append`: only making a new pack can fail. The caller notes the place, then calls `drain`, which writes once enough has gathered.
   * @throws HdError STORE_WRITE
   */
  append(maxBytes: number, make: (space: Buffer) => number): { pack: string; offset: number } {
    const writer = this.#current();
    return { pack: writer.id, offset: writer.append(maxBytes, make) };
  }

  /** @throws HdError STORE_WRITE */
  drain(): void {
    this.#packs.at(-1)?.writer.drain();
  }

  /** All that was appended, and the names of new packs, onto the disk. @throws HdError STORE_WRITE */
  sync(): void {
    for (const { writer } of this.#packs) writer.sync();
    if (!this.#packs.some(({ isNew }) => isNew)) return;
    syncPath(this.#packsDir);
    for (const pack of this.#packs) pack.isNew = false;
  }

  /** Ids and lengths. */
  lengths(): Map<string, number> {
    return new Map(this.#packs.map(({ writer }) => [writer.id, writer.lengthBytes]));
  }

  /** What was appended is in the index now: full packs are closed. */
  settle(): void {
    const current = this.#packs.at(-1);
    this.#close(current !== undefined && current.writer.lengthBytes < MAX_PACK_BYTES ? current : undefined);
  }

  closeAll(): void {
    this.#close(undefined);
  }

  #close(keep: OwnPack | undefined): void {
    for (const pack of this.#packs) {
      if (pack === keep) continue;
      pack.writer.close();
      pack.hold[Symbol.dispose]();
    }
    this.#packs = keep === undefined ? [] : [keep];
  }

  #current(): PackWriter {
    const current = this.#packs.at(-1);
    if (current !== undefined && current.writer.lengthBytes < MAX_PACK_BYTES) return current.writer;
    const id = `${Date.now().toString(16).padStart(12, '0')}-${randomBytes(8).toString('hex')}`;
    // The hold comes first: a collection that sees the file sees the hold.
    const hold = this.#holdPack(id);
    try {
      const writer = new PackWriter(this.#packsDir, id);
      this.#packs.push({ writer, hold, isNew: true });
      return writer;
    } catch (error) {
      hold[Symbol.dispose]();
      throw error;
    }
  }
}
