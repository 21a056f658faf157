import type { Emitted, HdEvent } from './events.ts';

/** Keeps the latest events, so that who comes later sees what led to now, and hands new ones to whoever listens. */
export class EventLog {
  readonly #kept: Emitted[] = [];
  readonly #listeners = new Set<(event: Emitted) => void>();
  readonly #capacity: number;
  #seq = 0;

  constructor(capacity = 10_000) {
    this.#capacity = capacity;
  }

  emit(event: HdEvent): void {
    const emitted = { ...event, seq: ++this.#seq, atMs: Date.now() } as Emitted;
    this.#kept.push(emitted);
    if (this.#kept.length > this.#capacity) this.#kept.splice(0, this.#kept.length - this.#capacity);
    for (const listener of this.#listeners) listener(emitted);
  }

  get last(): number {
    return this.#seq;
  }

  /** Replays what is kept after `since`, then goes on live, in order and without a gap. */
  subscribe(since: number, listener: (event: Emitted) => void): Disposable {
    for (const event of this.#kept) if (event.seq > since) listener(event);
    this.#listeners.add(listener);
    return { [Symbol.dispose]: () => void this.#listeners.delete(listener) };
  }
}
