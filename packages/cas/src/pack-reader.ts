import { closeSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fillFrom } from './files.ts';

const MAX_OPEN_PACKS = 64;

/** Reads packs by their id. Keeps the most recently opened ones open. */
export class PackReader {
  readonly #packsDir: string;
  readonly #fds = new Map<string, number>();

  constructor(packsDir: string) {
    this.#packsDir = packsDir;
  }

  /** Fills `into` from `offset` on. @returns how many bytes there were. @throws ENOENT */
  readInto(into: Buffer, pack: string, offset: number): number {
    return fillFrom(this.#fds.get(pack) ?? this.#open(pack), into, offset);
  }

  /** Before the pack's file goes. */
  forget(pack: string): void {
    const fd = this.#fds.get(pack);
    if (fd === undefined) return;
    closeSync(fd);
    this.#fds.delete(pack);
  }

  close(): void {
    for (const pack of [...this.#fds.keys()]) this.forget(pack);
  }

  #open(pack: string): number {
    const fd = openSync(join(this.#packsDir, `${pack}.pack`), 'r');
    for (const oldest of this.#fds.keys()) {
      if (this.#fds.size < MAX_OPEN_PACKS) break;
      this.forget(oldest);
    }
    this.#fds.set(pack, fd);
    return fd;
  }
}
