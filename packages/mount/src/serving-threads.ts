import { Worker } from 'node:worker_threads';
import type { FuseWorkerData, FuseWorkerMessage, FuseWorkerResult } from './fuse-worker.ts';

/** What a thread knows of the store takes memory. */
const MAX_IDLE = 2;
/** Not while the step starts for which another thread has just been taken. */
const AHEAD_MS = 300;
/** An environment that nobody works in keeps none. */
const IDLE_MS = 300_000;
/** For V8 in MiB. What is served is in memory that is used again, so that little is to be collected: a larger young heap makes nothing faster. */
const MAX_YOUNG = 12;

export type Heard = (message: Exclude<FuseWorkerMessage, { kind: 'done' }>) => void;

/**
 * The threads of a FUSE host, one for each mount. One takes 50 ms and more to start, so that one is ahead where steps run; those that have served come first: their machine code is
 * made, and they know the store. An environment whose steps were all known has the one thread of its root.
 */
export class ServingThreads {
  readonly #idle: Worker[] = [newWorker()];
  #timer: NodeJS.Timeout | undefined;

  /** Resolves when there is no mount any more. Rejects when nobody serves it. */
  serve(service: FuseWorkerData, heard: Heard): Promise<FuseWorkerResult> {
    const worker = this.#idle.pop() ?? newWorker();
    worker.postMessage(service);
    const result = new Promise<FuseWorkerResult>((resolve, reject) => {
      worker.on('message', (message: FuseWorkerMessage) => (message.kind === 'done' ? resolve(message) : heard(message)));
      worker.once('error', reject);
    });
    result.then(() => this.#release(worker), () => {});
    if (service.tracing) {
      this.#wait(AHEAD_MS, () => {
        if (this.#idle.length === 0) this.#idle.push(newWorker());
      });
    }
    return result;
  }

  #release(worker: Worker): void {
    // By name: all at once, the worker's own would go too, and no message would come any more.
    for (const event of ['message', 'error']) worker.removeAllListeners(event);
    if (this.#idle.length < MAX_IDLE) this.#idle.push(worker);
    else void worker.terminate();
    this.#wait(0, () => {});
  }

  /** From the last mount of a step that came, or the last mount that went. */
  #wait(ms: number, then: () => void): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      then();
      this.#timer = setTimeout(() => {
        for (const worker of this.#idle.splice(0)) void worker.terminate();
      }, IDLE_MS).unref();
    }, ms).unref();
  }
}

function newWorker(): Worker {
  return new Worker(new URL('./fuse-worker.ts', import.meta.url), { resourceLimits: { maxYoungGenerationSizeMb: MAX_YOUNG } });
}
