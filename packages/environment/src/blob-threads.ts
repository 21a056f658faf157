import { availableParallelism } from 'node:os';
import { Worker } from 'node:worker_threads';
import type { BlobDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { BlobPutter, StoredFile } from '@hyperdocker/oci';

/** What is sent to a worker, which answers each but the last in turn. */
export type BlobTask = { kind: 'put'; bytes: ArrayBuffer; sizes: number[] } | { kind: 'flush' } | { kind: 'close' };
export type BlobAnswer = { digests: BlobDigest[] } | { error: ReturnType<HdError['toJSON']> };

const BATCH_BYTES = 2 << 20;
/** On their way to all workers together: so much memory it may take. */
const UNDER_WAY_BYTES_MAX = 32 << 20;
const MAX_THREADS = 3;

interface Batch { bytes: Buffer<ArrayBuffer>; used: number; files: StoredFile[] }
interface Waiting { resolve(digests: BlobDigest[]): void; reject(error: unknown): void }
/** `waiting`: undefined once nobody answers any more. */
interface Thread { worker: Worker; waiting: Waiting[] | undefined; ended: Promise<void> }

/**
 * Stores the files of layers in threads, each with the store open for itself: hashing and compressing them takes as long as reading the layers. As many threads as processors, at most three, are started when there is a batch for each; what is
 * less is stored by the caller's thread.
 *
 * What they have stored is not flushed until `flush` is called: until then no collection begins, as with what the caller's own store holds.
 */
export class BlobThreads implements BlobPutter, AsyncDisposable {
  readonly #store: Store;
  readonly #storeDir: string;
  readonly #threads: Thread[] = [];
  #batch: Batch | undefined;
  readonly #underWay = new Set<Promise<void>>();
  #underWayBytes = 0;
  #turn = 0;
  #failure: unknown;

  constructor(store: Store, storeDir: string) {
    this.#store = store;
    this.#storeDir = storeDir;
  }

  put(bytes: Buffer): StoredFile {
    const file: StoredFile = { digest: '' as BlobDigest, size: bytes.length };
    if (this.#batch !== undefined && this.#batch.used + bytes.length > this.#batch.bytes.length) this.#send(this.#batch);
    this.#batch ??= { bytes: Buffer.from(new ArrayBuffer(Math.max(BATCH_BYTES, bytes.length))), used: 0, files: [] };
    bytes.copy(this.#batch.bytes, this.#batch.used);
    this.#batch.used += bytes.length;
    this.#batch.files.push(file);
    return file;
  }

  async room(): Promise<void> {
    while (this.#underWayBytes > UNDER_WAY_BYTES_MAX) await Promise.race(this.#underWay);
    this.#throwFailure();
  }

  async settle(): Promise<void> {
    const rest = this.#batch;
    this.#batch = undefined;
    if (rest !== undefined && this.#threads.length > 0) this.#send(rest);
    else if (rest !== undefined) this.#putHere(rest);
    await Promise.all(this.#underWay);
    this.#throwFailure();
  }

  /** What was stored is on the disk. Call it with a lease, before refs name it. */
  async flush(): Promise<void> {
    await Promise.all(this.#threads.map((_, nth) => this.#ask(nth, { kind: 'flush' })));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#underWay);
    for (const { worker } of this.#threads) worker.postMessage({ kind: 'close' } satisfies BlobTask);
    await Promise.all(this.#threads.map(({ ended }) => ended));
  }

  #putHere({ bytes, files }: Batch): void {
    let at = 0;
    for (const file of files) {
      file.digest = this.#store.putBlob(bytes.subarray(at, at + file.size));
      at += file.size;
    }
  }

  #send(batch: Batch): void {
    this.#batch = undefined;
    const size = batch.bytes.length;
    this.#underWayBytes += size;
    const sent = this.#ask(this.#nextThread(), { kind: 'put', bytes: batch.bytes.buffer, sizes: batch.files.map((file) => file.size) }, [batch.bytes.buffer]).then(
      (digests) => void digests.forEach((digest, nth) => Object.assign(batch.files[nth] ?? {}, { digest })),
      (error: unknown) => void (this.#failure ??= error),
    ).finally(() => {
      this.#underWayBytes -= size;
      this.#underWay.delete(sent);
    });
    this.#underWay.add(sent);
  }

  /** One after the other, so that equal files that are far from each other seldom meet in two. */
  #nextThread(): number {
    const most = Math.min(MAX_THREADS, availableParallelism());
    if (this.#threads.length < most) return this.#start();
    return this.#turn++ % most;
  }

  #start(): number {
    const worker = new Worker(new URL('./blob-worker.ts', import.meta.url), { workerData: { storeDir: this.#storeDir }, resourceLimits: { maxYoungGenerationSizeMb: 16 } });
    const end = Promise.withResolvers<void>();
    const thread: Thread = { worker, waiting: [], ended: end.promise };
    const fail = (error: unknown): void => {
      for (const each of thread.waiting ?? []) each.reject(error);
      thread.waiting = undefined;
    };
    worker.on('message', (answer: BlobAnswer) => {
      const first = thread.waiting?.shift();
      if ('error' in answer) first?.reject(HdError.fromJSON(answer.error));
      else first?.resolve(answer.digests);
    });
    worker.on('error', fail);
    worker.on('exit', () => {
      fail(hasEnded());
      end.resolve();
    });
    return this.#threads.push(thread) - 1;
  }

  #ask(nth: number, task: BlobTask, transfer: ArrayBuffer[] = []): Promise<BlobDigest[]> {
    const thread = this.#threads[nth];
    return new Promise((resolve, reject) => {
      if (thread?.waiting === undefined) return reject(hasEnded());
      thread.waiting.push({ resolve, reject });
      thread.worker.postMessage(task, transfer);
    });
  }

  #throwFailure(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}

function hasEnded(): HdError {
  return new HdError('STORE_WRITE', 'a thread that stores files has ended');
}
