import type { TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';

/** Keeps one tree at a time from `gc`, the latest, for as long as this process lives. Unlike a lease it keeps no `gc` waiting. */
export class TreePin implements Disposable {
  readonly #store: Store;
  readonly #why: string;
  #tree: TreeDigest | undefined;
  #pin: Disposable | undefined;

  constructor(store: Store, why: string) {
    this.#store = store;
    this.#why = why;
  }

  /** The caller has the tree in its hands: a lease, or another pin, keeps it until here. */
  hold(tree: TreeDigest): void {
    if (tree === this.#tree) return;
    const pin = this.#store.pin({ kind: 'tree', digest: tree }, this.#why);
    this.#pin?.[Symbol.dispose]();
    [this.#tree, this.#pin] = [tree, pin];
  }

  [Symbol.dispose](): void {
    this.#pin?.[Symbol.dispose]();
    [this.#tree, this.#pin] = [undefined, undefined];
  }
}
