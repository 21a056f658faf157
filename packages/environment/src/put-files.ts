import { availableParallelism } from 'node:os';
import { Gang, HdError, isErrno, isGone } from '@hyperdocker/base';
import type { BlobDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';

/** A file to store; `size` as it was seen last. */
export interface FileToPut { host: string | Buffer; size: number }
export interface FilePut { digest: BlobDigest; size: number }
export type Hosts = (string | Uint8Array)[];
/** In the order in which they were added; with gaps. */
export type Puts = (FilePut | undefined)[];

const NOTHING_AHEAD = { ms: 0, work: (): void => {} };
/** Below both, threads would start for work that is done before they are there. */
const MIN_BYTES = 8 << 20;
const MIN_FILES = 500;
/** Enough for a thread to be worth its start. */
const BYTES_A_THREAD = 8 << 20;
const FILES_A_THREAD = 500;
const MAX_THREADS = 8;
const UNIT_BYTES = 1 << 20;
const UNIT_FILES = 128;
/** Below this, a file that two threads store at the same time costs less than waiting to know which ones are alike. */
const SMALL_BYTES = 64 << 10;
/** From here on the store may cut a file into chunks. */
const LARGE_BYTES = 2 << 20;
/** How often a file is read that changes meanwhile. */
const ATTEMPTS = 3;

/**
 * Files to store, with the help of threads where there are many. Each has the store open for itself, and begins with small files while the caller still looks for more.
 *
 * One thread stores once what it meets twice, two threads may not: so files of equal size come together, since they may be equal, and large ones of one name, since these
 * are often versions of each other and share chunks. A file of some KB does not wait for that.
 */
export class FilesToPut {
  readonly #store: Store;
  readonly #storeDir: string | undefined;
  readonly #files: FileToPut[] = [];
  /** Of each unit, the indices of its files. */
  readonly #units: number[][] = [];
  /** Small files that are in no unit yet. */
  #small: number[] = [];
  #smallBytes = 0;
  #bytes = 0;
  #gang: Gang<Hosts, (FilePut | undefined)[]> | undefined;

  /** @param storeDir where the store is; without it nobody helps */
  constructor(store: Store, storeDir: string | undefined) {
    this.#store = store;
    this.#storeDir = storeDir;
  }

  add(file: FileToPut): void {
    const index = this.#files.push(file) - 1;
    this.#bytes += file.size;
    if (file.size >= SMALL_BYTES) return;
    this.#small.push(index);
    this.#smallBytes += file.size;
    if (this.#small.length >= UNIT_FILES || this.#smallBytes >= UNIT_BYTES) this.#giveSmall();
  }

  /**
   * What the threads put is durable on return, the rest at the latest with the next `flush`. In the order of `add`; undefined for those that could not be stored: another try by the caller
   * tells why.
   * @param ahead where there are threads: what the caller does, in about `ms`, with what is put already, while they put the last. Should one of them fail, some of it is put again, and may have changed
   */
  finish(ahead: { ms: number; work: (puts: Puts) => void } = NOTHING_AHEAD): Puts {
    this.#giveSmall();
    for (const unit of this.#unitsOfOthers()) this.#give(unit);
    const perform = (hosts: Hosts): (FilePut | undefined)[] => putAll(this.#store, hosts);
    if (this.#gang === undefined) return this.#inOrder(new Map(this.#units.map((unit, nth) => [nth, perform(this.#hosts(unit))])));
    const work = (soFar: ReadonlyMap<number, (FilePut | undefined)[]>): void => {
      ahead.work(this.#inOrder(soFar));
      // Each thread has as much to bring to the disk: the caller's is there when the others come to theirs.
      this.#store.flush();
    };
    const puts = this.#gang.finish(perform, { ms: ahead.ms, work });
    return this.#inOrder(new Map(puts.entries()));
  }

  [Symbol.dispose](): void {
    this.#gang?.[Symbol.dispose]();
  }

  #inOrder(ofUnits: ReadonlyMap<number, (FilePut | undefined)[]>): Puts {
    const inOrder: Puts = [];
    for (const [nth, puts] of ofUnits) for (const [at, index] of (this.#units[nth] ?? []).entries()) inOrder[index] = puts[at];
    return inOrder;
  }

  #giveSmall(): void {
    if (this.#small.length > 0) this.#give(this.#small);
    this.#small = [];
    this.#smallBytes = 0;
  }

  #give(unit: number[]): void {
    this.#units.push(unit);
    if (this.#gang === undefined) this.#assemble();
    else this.#gang.give(this.#hosts(unit));
    while (this.#gang !== undefined && this.#gang.workers < this.#countHelpers()) this.#gang.hire();
  }

  /** Once there is enough to do. */
  #assemble(): void {
    if (this.#storeDir === undefined || (this.#bytes < MIN_BYTES && this.#files.length < MIN_FILES) || this.#countHelpers() === 0) return;
    this.#gang = new Gang(new URL('./put-worker.ts', import.meta.url), { storeDir: this.#storeDir });
    for (const unit of this.#units) this.#gang.give(this.#hosts(unit));
  }

  #countHelpers(): number {
    const worth = Math.max(this.#bytes / BYTES_A_THREAD, this.#files.length / FILES_A_THREAD);
    return Math.min(availableParallelism(), MAX_THREADS, Math.ceil(worth)) - 1;
  }

  #hosts(unit: readonly number[]): Hosts {
    return unit.map((index) => this.#files[index]?.host ?? '');
  }

  /** The larger files, in units of about the same size, the largest first. */
  #unitsOfOthers(): number[][] {
    const others = [...this.#files.keys()].filter((index) => this.#size(index) >= SMALL_BYTES);
    const groups = [...Map.groupBy(others, (index) => this.#kinship(index)).values()].map((indices) => ({ indices, bytes: indices.reduce((sum, index) => sum + this.#size(index), 0) }));
    groups.sort((a, b) => b.bytes - a.bytes);
    const units: number[][] = [];
    let unitBytes = Infinity;
    for (const { indices, bytes } of groups) {
      if (unitBytes >= UNIT_BYTES) {
        units.push([]);
        unitBytes = 0;
      }
      units.at(-1)?.push(...indices);
      unitBytes += bytes;
    }
    return units;
  }

  #kinship(index: number): number | string {
    const size = this.#size(index);
    if (size < LARGE_BYTES) return size;
    const host = this.#files[index]?.host ?? '';
    const path = typeof host === 'string' ? host : host.toString('latin1');
    return path.slice(path.lastIndexOf('/'));
  }

  #size(index: number): number {
    return this.#files[index]?.size ?? 0;
  }
}

/** Of a worker and of the caller alike. */
export function putAll(store: Store, hosts: Hosts): (FilePut | undefined)[] {
  return hosts.map((host) => {
    try {
      return store.putFile(typeof host === 'string' ? host : Buffer.from(host));
    } catch (error) {
      // The store's own troubles are not the file's.
      if (error instanceof HdError && error.code !== 'FILE_CHANGED') throw error;
      return undefined;
    }
  });
}

/**
 * One of those that `finish` could not store. Undefined: gone, or turned into something else, since it was looked at.
 * @param unreadable what is thrown where the file cannot be read @throws HdError of the store, FILE_CHANGED
 */
export function putOnceMore(store: Store, host: string | Buffer, unreadable: (cause: unknown) => HdError): FilePut | undefined {
  for (let attempt = 1; ; attempt++) {
    try {
      return store.putFile(host);
    } catch (cause) {
      if (isGone(cause) || isErrno(cause, 'EISDIR')) return undefined;
      if (attempt < ATTEMPTS && cause instanceof HdError && cause.code === 'FILE_CHANGED') continue;
      throw cause instanceof HdError ? cause : unreadable(cause);
    }
  }
}
