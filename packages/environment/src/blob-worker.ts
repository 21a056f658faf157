import { parentPort, workerData } from 'node:worker_threads';
import { HdError, assert, describeError } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { BlobAnswer, BlobTask } from './blob-threads.ts';

/** A helper of `BlobThreads`: stores what it is sent, in the order of the messages. */
const { storeDir } = workerData as { storeDir: string };
const store = openStore(storeDir);
assert(parentPort !== null, 'it is run as a worker');
const port = parentPort;
port.on('message', (task: BlobTask) => {
  if (task.kind === 'close') {
    store[Symbol.dispose]();
    port.close();
    return;
  }
  try {
    port.postMessage(answer(task) satisfies BlobAnswer);
  } catch (error) {
    const known = error instanceof HdError ? error : new HdError('STORE_WRITE', describeError(error));
    port.postMessage({ error: known.toJSON() } satisfies BlobAnswer);
  }
});

function answer(task: Exclude<BlobTask, { kind: 'close' }>): BlobAnswer {
  if (task.kind === 'flush') {
    store.flush();
    return { digests: [] };
  }
  let at = 0;
  const digests = task.sizes.map((size) => {
    const digest = store.putBlob(Buffer.from(task.bytes, at, size));
    at += size;
    return digest;
  });
  return { digests };
}
