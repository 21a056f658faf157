import type { RefTarget, Store } from '@hyperdocker/cas';

/**
 * One lease for several tasks of this process, which is there while any of them works. A task that waits for a command, for another task or for a network leaves it, with
 * what it needs afterwards pinned.
 */
export class SharedLease {
  readonly #store: Store;
  readonly #why: string;
  #workers = 0;
  #lease: Disposable | undefined;

  constructor(store: Store, why: string) {
    this.#store = store;
    this.#why = why;
  }

  /** @throws HdError STORE_BUSY */
  async work<T>(task: () => Promise<T>): Promise<T> {
    this.#enter();
    try {
      return await task();
    } finally {
      this.#leave();
    }
  }

  /** From inside of `work`. */
  async apart<T>(inUse: readonly RefTarget[], wait: () => Promise<T>): Promise<T> {
    using pins = new DisposableStack();
    this.#store.flush();
    for (const target of inUse) pins.use(this.#store.pin(target, this.#why));
    this.#leave();
    try {
      return await wait();
    } finally {
      this.#enter();
    }
  }

  #enter(): void {
    if (this.#workers++ === 0) this.#lease = this.#store.lease(this.#why);
  }

  #leave(): void {
    if (--this.#workers > 0) return;
    this.#lease?.[Symbol.dispose]();
    this.#lease = undefined;
  }
}
