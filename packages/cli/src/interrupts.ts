const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type InterruptSignal = (typeof SIGNALS)[number];

/** Calls `onInterrupt` for every Ctrl-C and its like, counted from 1, instead of dying of it. */
export class Interrupts implements Disposable {
  #count = 0;
  readonly #listener: (signal: InterruptSignal) => void;

  constructor(onInterrupt: (count: number, signal: InterruptSignal) => void) {
    this.#listener = (signal) => onInterrupt(++this.#count, signal);
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  get count(): number {
    return this.#count;
  }

  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#listener);
  }
}
