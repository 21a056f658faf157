import { availableParallelism } from 'node:os';
import { Gang, HdError } from '@hyperdocker/base';
import type { BlobDigest, Claim } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';

/** A file to store; `size` as it was seen last. */
export interface FileToPut { host: string | Buffer; size: number }
export interface FilePut { digest: BlobDigest; size: number }

/** Below both, threads would start for work that is done before they are there. */
const MIN_BYTES = 8 << 20;
const MIN_FILES = 500;
/** Enough for a thread to be worth its start. */
const BYTES_A_THREAD = 8 << 20;
const FILES_A_THREAD = 500;
const MAX_THREADS = 8;
const UNIT_BYTES = 1 << 20;
/** From here on the store may cut a file into chunks. */
const LARGE_BYTES = 2 << 20;
const UNIT_FILES = 128;

/** What the threads share beside the claims; a file's size below 0: not stored. */
export interface PutWork {
  storeDir: string;
  hosts: (string | Uint8Array)[];
  /** Indices into `hosts`; unit `n` is from `starts[n]` to `starts[n + 1]`. */
  order: Int32Array;
  starts: Int32Array;
  digests: Uint8Array<SharedArrayBuffer>;
  sizes: Float64Array<SharedArrayBuffer>;
}

/**
 * Stores files, with the help of threads where there is much to do. Each has the store open for itself; what they put is durable on return, the rest at the
 * next `flush`. Files in the order given; undefined for those that could not be stored: another try by the caller tells why.
 * @param storeDir where the store is; without it nobody helps
 */
export function putFiles(store: Store, storeDir: string | undefined, files: readonly FileToPut[]): (FilePut | undefined)[] {
  const bytes = files.reduce((sum, { size }) => sum + size, 0);
  const helpers = storeDir === undefined || (bytes < MIN_BYTES && files.length < MIN_FILES) ? 0 : countHelpers(bytes, files.length);
  if (storeDir === undefined || helpers === 0) return files.map(({ host }) => tryPut(store, host));
  const { order, starts } = divide(files);
  const work: PutWork = {
    storeDir, order, starts,
    hosts: files.map(({ host }) => host),
    digests: new Uint8Array(new SharedArrayBuffer(files.length * 32)),
    sizes: new Float64Array(new SharedArrayBuffer(files.length * 8)),
  };
  const units = starts.length - 1;
  const gang = new Gang(new URL('./put-worker.ts', import.meta.url), { workers: helpers, units, data: { work } });
  putUnits(store, work, gang.claim);
  const lost = gang.finish();
  putUnits(store, work, () => lost.pop());
  return files.map((_, index) => {
    const size = work.sizes[index] ?? -1;
    return size < 0 ? undefined : { size, digest: Buffer.from(work.digests.buffer, index * 32, 32).toString('hex') as BlobDigest };
  });
}

/** Of a worker and of the caller alike. */
export function putUnits(store: Store, { hosts, order, starts, digests, sizes }: PutWork, claim: Claim): void {
  for (let unit = claim(); unit !== undefined; unit = claim()) {
    for (const index of order.subarray(starts[unit], starts[unit + 1])) {
      const host = hosts[index] ?? '';
      const put = tryPut(store, typeof host === 'string' ? host : Buffer.from(host));
      sizes[index] = put?.size ?? -1;
      if (put !== undefined) digests.set(Buffer.from(put.digest, 'hex'), index * 32);
    }
  }
}

function tryPut(store: Store, host: string | Buffer): FilePut | undefined {
  try {
    return store.putFile(host);
  } catch (error) {
    // The store's own troubles are not the file's.
    if (error instanceof HdError && error.code !== 'FILE_CHANGED') throw error;
    return undefined;
  }
}

function countHelpers(bytes: number, files: number): number {
  const worth = Math.max(bytes / BYTES_A_THREAD, files / FILES_A_THREAD);
  return Math.min(availableParallelism(), MAX_THREADS, Math.ceil(worth)) - 1;
}

/**
 * Into units of about the same size, the largest files first, else in the given order. One thread stores once what it meets twice, two threads may not: so files
 * of equal size come together, since they may be equal, and large ones of one name, since these are often versions of each other and share chunks.
 */
function divide(files: readonly FileToPut[]): { order: Int32Array; starts: Int32Array } {
  const groups = [...Map.groupBy(files.keys(), (index) => kinship(files[index])).values()].map((indices) => ({ indices, bytes: sizeOf(files, indices) }));
  groups.sort((a, b) => (a.bytes < LARGE_BYTES && b.bytes < LARGE_BYTES ? 0 : b.bytes - a.bytes));
  const order = new Int32Array(files.length);
  const starts = [0];
  let length = 0;
  let [unitBytes, unitFiles] = [0, 0];
  for (const { indices, bytes } of groups) {
    // A group of large ones stays whole; one of small ones may be most of all files.
    const isWhole = indices.length < UNIT_FILES;
    for (const [nth, index] of indices.entries()) {
      if ((nth === 0 || !isWhole) && (unitBytes >= UNIT_BYTES || unitFiles >= UNIT_FILES || (nth === 0 && length > 0 && bytes >= LARGE_BYTES))) {
        starts.push(length);
        [unitBytes, unitFiles] = [0, 0];
      }
      order[length++] = index;
      unitBytes += files[index]?.size ?? 0;
      unitFiles++;
    }
  }
  starts.push(length);
  return { order, starts: Int32Array.from(starts) };
}

function kinship(file: FileToPut | undefined): number | string {
  if (file === undefined || file.size < LARGE_BYTES) return file?.size ?? 0;
  const path = typeof file.host === 'string' ? file.host : file.host.toString('latin1');
  return path.slice(path.lastIndexOf('/'));
}

function sizeOf(files: readonly FileToPut[], indices: readonly number[]): number {
  return indices.reduce((sum, index) => sum + (files[index]?.size ?? 0), 0);
}
