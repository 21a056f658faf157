import { MessageChannel, Worker, receiveMessageOnPort } from 'node:worker_threads';
import type { MessagePort } from 'node:worker_threads';

/**
 * Threads that work through one list of jobs together with the thread that gives them. The list may grow while they work. Nobody waits for them to start (which
 * takes longer than many lists do): those who come take what is left. All of it without an event loop, so that synchronous code can use it.
 *
 * ```
 * hire, give … ─▶ finish: no more are given, the caller takes part ─▶ workers bring to safety what they did, and leave ─▶ what one did not bring there is done again
 * ```
 */
export interface GangTicket {
  /** `PRESENT`, `NEXT`, `GIVEN`. */
  readonly control: SharedArrayBuffer;
  /** Jobs come in; `[number of the job, result]` go out, and at last `SAFE`. */
  readonly port: MessagePort;
}

const PRESENT = 0;
/** The number of the job that is taken next. */
const NEXT = 1;
/** How many jobs there are; once no more come, `~` of it. */
const GIVEN = 2;
/** What a thread has in hand at once is little: without a limit, several of them pile up garbage by the 50 MB. */
const YOUNG_MB = 16;

/** A worker has brought to safety what it did. */
const SAFE = 'safe';

/** What the caller does with results while workers do the last jobs. */
export interface Ahead<Result> {
  /** About how long it takes: so much work is left to the workers. */
  ms: number;
  /** @param soFar by the numbers of the jobs. Those of a worker may still turn out to be void: then `finish` returns others */
  work(soFar: ReadonlyMap<number, Result>): void;
}

export class Gang<Job, Result> {
  readonly #module: URL;
  readonly #data: object;
  readonly #control = new Int32Array(new SharedArrayBuffer(3 * 4));
  readonly #jobs: Job[] = [];
  readonly #ports: MessagePort[] = [];
  /** What each worker has told. */
  readonly #told: Map<number, Result>[] = [];
  readonly #safe = new Set<number>();

  /** @param module gets `{ gang: GangTicket, ...data }` as its `workerData`, and calls `takePart`. */
  constructor(module: URL, data: object) {
    this.#module = module;
    this.#data = data;
  }

  get workers(): number {
    return this.#ports.length;
  }

  /** One more thread. */
  hire(): void {
    const { port1, port2 } = new MessageChannel();
    const gang: GangTicket = { control: this.#control.buffer, port: port2 };
    const thread = new Worker(this.#module, { workerData: { gang, ...this.#data }, transferList: [port2], resourceLimits: { maxYoungGenerationSizeMb: YOUNG_MB } });
    // What it had taken will have no result, and whoever does it again meets the same problem.
    thread.on('error', () => {});
    thread.unref();
    port1.unref();
    for (const job of this.#jobs) port1.postMessage(job);
    this.#ports.push(port1);
    this.#told.push(new Map());
  }

  give(job: Job): void {
    this.#jobs.push(job);
    for (const port of this.#ports) port.postMessage(job);
    this.#tell(this.#jobs.length);
  }

  /**
   * Takes part with `perform` until all is done, and waits for the workers that came. Those still starting do not come any more.
   * @param perform `again`: a worker had begun it, perhaps
   * @param ahead called once, before the caller waits
   * @returns the results, in the order of the jobs
   */
  finish(perform: (job: Job, again: boolean) => Result, ahead?: Ahead<Result>): Result[] {
    this.#tell(~this.#jobs.length);
    const own = new Map<number, Result>();
    const performOne = (number: number, again: boolean): void => void own.set(number, perform(this.#jobs[number] as Job, again));
    const startedMs = performance.now();
    let waiting = ahead;
    const goAhead = (): void => {
      waiting?.work(this.#soFar(own));
      waiting = undefined;
    };
    try {
      for (;;) {
        if (waiting !== undefined && this.#canLeave(waiting.ms, (performance.now() - startedMs) / own.size)) goAhead();
        const number = claim(this.#control);
        if (number === undefined) break;
        performOne(number, false);
      }
      goAhead();
      for (let present = Atomics.load(this.#control, PRESENT); present > 0; present = Atomics.load(this.#control, PRESENT)) Atomics.wait(this.#control, PRESENT, present);
      this.#listen();
    } finally {
      this[Symbol.dispose]();
    }
    for (const [worker, told] of this.#told.entries()) if (this.#safe.has(worker)) for (const [number, result] of told) own.set(number, result);
    return this.#jobs.map((_, number) => {
      if (!own.has(number)) performOne(number, true);
      return own.get(number) as Result;
    });
  }

  /** Do the workers have enough to do for so long? */
  #canLeave(ms: number, msAJob: number): boolean {
    const present = Atomics.load(this.#control, PRESENT);
    return present > 0 && (this.#jobs.length - Atomics.load(this.#control, NEXT)) * msAJob <= ms * present;
  }

  #soFar(own: ReadonlyMap<number, Result>): ReadonlyMap<number, Result> {
    this.#listen();
    return new Map([own, ...this.#told].flatMap((results) => [...results]));
  }

  #listen(): void {
    for (const [worker, port] of this.#ports.entries()) {
      for (let got = receiveMessageOnPort(port); got !== undefined; got = receiveMessageOnPort(port)) {
        const message = got.message as typeof SAFE | [number, Result];
        if (message === SAFE) this.#safe.add(worker);
        else this.#told[worker]?.set(...message);
      }
    }
  }

  /** Without the rest. */
  [Symbol.dispose](): void {
    Atomics.store(this.#control, NEXT, this.#jobs.length);
    this.#tell(~this.#jobs.length);
    for (const port of this.#ports) port.close();
    this.#ports.length = 0;
  }

  #tell(given: number): void {
    Atomics.store(this.#control, GIVEN, given);
    Atomics.notify(this.#control, GIVEN);
  }
}

/**
 * A worker's part.
 * @param begin is called once there is a job, and returns what performs one. When none is left, it is disposed of, which brings to safety what was done: if that throws, none of it counts.
 */
export function takePart<Job, Result>({ control: shared, port }: GangTicket, begin: () => Disposable & { perform(job: Job): Result }): void {
  const control = new Int32Array(shared);
  const jobs: Job[] = [];
  Atomics.add(control, PRESENT, 1);
  try {
    let number = claim(control);
    if (number === undefined) return;
    {
      using part = begin();
      for (; number !== undefined; number = claim(control)) {
        while (jobs.length <= number) {
          const got = receiveMessageOnPort(port);
          if (got === undefined) return; // it is disposed of
          jobs.push(got.message as Job);
        }
        port.postMessage([number, part.perform(jobs[number] as Job)] satisfies [number, Result]);
      }
    }
    port.postMessage(SAFE);
  } finally {
    Atomics.sub(control, PRESENT, 1);
    Atomics.notify(control, PRESENT);
  }
}

/** The number of the next job, for which it waits; undefined: no more come. */
function claim(control: Int32Array): number | undefined {
  const number = Atomics.add(control, NEXT, 1);
  for (;;) {
    const given = Atomics.load(control, GIVEN);
    if (number < (given < 0 ? ~given : given)) return number;
    if (given < 0) return undefined;
    Atomics.wait(control, GIVEN, given);
  }
}
