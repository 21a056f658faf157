import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Not between two edits. */
const QUIET_MS = 3_000;
/** With less, nobody minds. */
const WORTH_BYTES = 128 << 20;
/** More than it had after the last time. */
const MORE_BYTES = 48 << 20;

type Collect = (options: { type: 'major'; execution: 'sync'; flavor: 'last-resort' }) => void;

/**
 * Gives back what a first build of many files has left: V8 keeps the pages of its heap for the next work of that size, which may come in days. Takes a quarter of a second of a process that has nothing to do.
 */
export class MemoryRelease implements Disposable {
  #timer: NodeJS.Timeout | undefined;
  #afterwardsBytes = WORTH_BYTES - MORE_BYTES;
  readonly #residentBytes: () => number;
  readonly #collect: () => void;
  readonly #before: () => void;

  /** @param options.before lets go of what nobody will miss. The others are for tests */
  constructor({ before = (): void => {}, residentBytes = (): number => process.memoryUsage.rss(), collect = collectAll }: { before?: () => void; residentBytes?: () => number; collect?: () => void } = {}) {
    this.#before = before;
    this.#residentBytes = residentBytes;
    this.#collect = collect;
  }

  /** Call when work is done. */
  worked(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#release(), QUIET_MS).unref();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }

  #release(): void {
    if (this.#residentBytes() < this.#afterwardsBytes + MORE_BYTES) return;
    this.#before();
    this.#collect();
    this.#afterwardsBytes = Math.max(WORTH_BYTES - MORE_BYTES, this.#residentBytes());
  }
}

function collectAll(): void {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as Collect;
  collect({ type: 'major', execution: 'sync', flavor: 'last-resort' });
}
