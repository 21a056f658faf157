/** Larger pieces are rare, and would stay for the sake of the next one. */
const MAX_LENT_BYTES = 4 << 20;

/**
 * Memory for bytes that are passed on before the next are asked for. New memory for each costs page faults, and is collected late: garbage outside of the heap is nothing that
 * the collector sees coming.
 */
export class LentMemory {
  #bytes = Buffer.alloc(0);

  /** Valid until the next call. */
  readonly take = (length: number): Buffer => {
    if (length > MAX_LENT_BYTES) return Buffer.allocUnsafeSlow(length);
    if (length > this.#bytes.length) this.#bytes = Buffer.allocUnsafeSlow(Math.min(MAX_LENT_BYTES, Math.max(length, 2 * this.#bytes.length)));
    return this.#bytes.subarray(0, length);
  };
}
