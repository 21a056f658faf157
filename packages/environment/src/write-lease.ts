import type { RefTarget, Store } from '@hyperdocker/cas';

/**
 * A lease for work that writes, waits for something that takes long, and writes again. While it waits there is no lease: collections go ahead, and what
 * is in use meanwhile is pinned.
 */
export class WriteLease implements Disposable {
  readonly #store: Store;
  readonly #why: string;
  #lease: Disposable;

  /** @throws HdError STORE_BUSY */
  constructor(store: Store, why: string) {
    this.#store = store;
    this.#why = why;
    this.#lease = store.lease(why);
  }

  /** What `work` leaves in the store has to be pinned or unflushed when it ends. */
  async apart<T>(inUse: readonly RefTarget[], work: () => Promise<T>): Promise<T> {
    using pins = new DisposableStack();
    for (const target of inUse) pins.use(this.#store.pin(target, this.#why));
    this.#store.flush();
    this.#lease[Symbol.dispose]();
    try {
      return await work();
    } finally {
      this.#lease = this.#store.lease(this.#why);
    }
  }

  [Symbol.dispose](): void {
    this.#lease[Symbol.dispose]();
  }
}
