const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type InterruptSignal = (typeof SIGNALS)[number];

/** Signals this close together are one wish: `timeout` signals its child and then its whole group. */
const SAME_WISH_MS = 100;

/** Calls `onInterrupt` for every Ctrl-C and its like, counted from 1, instead of dying of it. */
export class Interrupts implements Disposable {
  #count = 0;
  #lastMs = -Infinity;
  readonly #listener: (signal: InterruptSignal) => void;

  constructor(onInterrupt: (count: number, signal: InterruptSignal) => void) {
    this.#listener = (signal) => {
      const now = performance.now();
      const isNew = now - this.#lastMs >= SAME_WISH_MS;
      this.#lastMs = now;
      if (isNew) onInterrupt(++this.#count, signal);
    };
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#listener);
  }
}
