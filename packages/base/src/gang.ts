import { Worker } from 'node:worker_threads';
import { assert } from './assert.ts';

/**
 * Threads that work through one list of units together with the thread that called them. The caller does not wait for them to start (which takes
 * longer than most lists do): it begins at once, and those who come take what is left. All of it without an event loop, so that synchronous code can use it.
 */
export interface GangTicket {
  /** `CLOSED`, `PRESENT`, `NEXT`, a state for each worker, the owner of each unit. */
  readonly control: SharedArrayBuffer;
  readonly worker: number;
  readonly workers: number;
  readonly units: number;
}

/** Takes the next unit; undefined: none is left. */
export type Claim = () => number | undefined;

const CLOSED = 0;
const PRESENT = 1;
const NEXT = 2;
const HEAD = 3;
const WORKING = 1;
const FAILED = 2;
const NO_OWNER = -1;
/** What a thread has in hand at once is little: without a limit, several of them pile up garbage by the 50 MB. */
const YOUNG_MB = 16;

export class Gang {
  readonly #control: Int32Array<SharedArrayBuffer>;
  readonly #workers: number;
  readonly #units: number;

  /** @param module gets `{ gang: GangTicket, ...data }` as its `workerData`, and calls `takePart`. */
  constructor(module: URL, options: { workers: number; units: number; data: object }) {
    this.#workers = options.workers;
    this.#units = options.units;
    this.#control = new Int32Array(new SharedArrayBuffer((HEAD + options.workers + options.units) * 4));
    this.#control.fill(NO_OWNER, HEAD + this.#workers);
    for (let worker = 0; worker < this.#workers; worker++) {
      const gang: GangTicket = { control: this.#control.buffer, worker, workers: this.#workers, units: this.#units };
      const thread = new Worker(module, { workerData: { gang, ...options.data }, resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB } });
      // What a failed worker had taken is told by `finish`, and whoever does it again meets the same problem.
      thread.on('error', () => {});
      thread.unref();
    }
  }

  readonly claim: Claim = () => claimUnit(this.#control, this.#workers, this.#units, this.#workers);

  /**
   * Waits until every worker that came is gone. Those still starting do not come any more.
   * @returns the units that a worker took and did not bring to an end: to be done again
   */
  finish(): number[] {
    Atomics.store(this.#control, CLOSED, 1);
    for (let present = Atomics.load(this.#control, PRESENT); present > 0; present = Atomics.load(this.#control, PRESENT)) Atomics.wait(this.#control, PRESENT, present);
    const lost: number[] = [];
    for (let unit = 0; unit < this.#units; unit++) {
      const owner = this.#control[HEAD + this.#workers + unit] ?? NO_OWNER;
      assert(owner !== NO_OWNER, 'a gang ends when all units are taken');
      if (owner < this.#workers && this.#control[HEAD + owner] === FAILED) lost.push(unit);
    }
    return lost;
  }
}

/** A worker's part: `work` ends when `claim` says so, and when all that it did is safe. If it throws, its units count as lost. */
export function takePart(ticket: GangTicket, work: (claim: Claim) => void): void {
  const { worker, workers, units } = ticket;
  const control = new Int32Array(ticket.control);
  Atomics.add(control, PRESENT, 1);
  let state = FAILED;
  try {
    if (Atomics.load(control, CLOSED) === 0) {
      Atomics.store(control, HEAD + worker, WORKING);
      work(() => claimUnit(control, workers, units, worker));
    }
    state = 0;
  } finally {
    Atomics.store(control, HEAD + worker, state);
    Atomics.sub(control, PRESENT, 1);
    Atomics.notify(control, PRESENT);
  }
}

function claimUnit(control: Int32Array, workers: number, units: number, owner: number): number | undefined {
  const unit = Atomics.add(control, NEXT, 1);
  if (unit >= units) return undefined;
  Atomics.store(control, HEAD + workers + unit, owner);
  return unit;
}
