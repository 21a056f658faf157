import { readSync, writeSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { assert, isErrno } from '@hyperdocker/base';
import type { TreeDigest } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { TraceRecorder, encodePathSet } from '@hyperdocker/engine';
import { REQUEST_BUFFER_BYTES } from './fuse-protocol.ts';
import { FuseServer } from './fuse-server.ts';
import { Projection } from './projection.ts';

/** One thread serves one mount, told in its only message: it sleeps in `read` until the kernel asks, and ends when the file system is unmounted. */
export interface FuseWorkerData {
  fd: number;
  storeDir: string;
  tree: TreeDigest;
  tracing: boolean;
}
export interface FuseWorkerResult {
  /** Encoded `PathSet`; empty when not tracing. */
  paths: Uint8Array;
  requests: number;
}

function serve({ fd, storeDir, tree, tracing }: FuseWorkerData): FuseWorkerResult {
  using store = openStore(storeDir, { readOnly: true });
  const recorder = new TraceRecorder();
  const projection = new Projection(store, tree, tracing ? (path, asked) => recorder.record(path, asked) : undefined);
  const server = new FuseServer(projection, { tracing });
  const buffer = Buffer.alloc(REQUEST_BUFFER_BYTES);
  let requests = 0;
  for (;;) {
    const length = readRequest(fd, buffer);
    if (length === 0) break;
    requests++;
    const answer = server.handle(buffer);
    if (answer.kind === 'destroy') break;
    if (answer.kind === 'reply') writeReply(fd, answer.bytes);
  }
  // A trace says "given these answers": with one that was none, it is worth nothing.
  if (tracing && server.failure !== undefined) throw server.failure;
  return { paths: encodePathSet(recorder.finish()), requests };
}

/** 0: unmounted. */
function readRequest(fd: number, buffer: Buffer): number {
  for (;;) {
    try {
      return readSync(fd, buffer, 0, buffer.length, null);
    } catch (error) {
      if (isErrno(error, 'ENODEV')) return 0;
      // ENOENT: the request was withdrawn while we read it.
      if (!isErrno(error, 'EINTR', 'ENOENT', 'EAGAIN')) throw error;
    }
  }
}

function writeReply(fd: number, bytes: Buffer): void {
  try {
    writeSync(fd, bytes);
  } catch (error) {
    // ENOENT: the asking process was interrupted and no longer waits. ENODEV: unmounted meanwhile; the next read tells.
    if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
  }
}

assert(parentPort !== null, 'fuse-worker runs as a worker thread');
const port = parentPort;
port.once('message', (data) => port.postMessage(serve(data as FuseWorkerData)));
