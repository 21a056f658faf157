import { readSync, writeSync, writevSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { assert, isErrno } from '@hyperdocker/base';
import type { TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import type { PathSet } from '@hyperdocker/engine';
import { TraceRecorder, encodeAskers, encodePathSet } from '@hyperdocker/engine';
import { REQUEST_BUFFER_BYTES } from './fuse-protocol.ts';
import { FuseServer } from './fuse-server.ts';
import type { ArgumentsQuestion } from './programs.ts';
import { ArgumentsExchange, ProgramNames } from './programs.ts';
import type { Observer } from './projection.ts';
import { Projection } from './projection.ts';

/**
 * One thread serves one mount after the other, each told in a message: it sleeps in `read` until the kernel asks, and is free again when the
 * file system is unmounted. What it has read of the store, and the machine code made of this file, serve the next mount too.
 */
export interface FuseWorkerData {
  fd: number;
  storeDir: string;
  tree: TreeDigest;
  tracing: boolean;
  /** Tell while it goes on what is asked. */
  reporting: boolean;
  /** Of an `ArgumentsExchange`: what `arguments` messages are answered through. */
  exchange: SharedArrayBuffer;
  /** One Int32: 1 as soon as it is known that nothing in the tree has an extended attribute. */
  attributeFree: SharedArrayBuffer;
}
export type FuseWorkerMessage = { kind: 'asked'; paths: PathSet } | ({ kind: 'arguments' } & ArgumentsQuestion) | ({ kind: 'done' } & FuseWorkerResult);
export interface FuseWorkerResult {
  /** Encoded `PathSet` and, beside it, `Askers`; empty when not tracing. */
  paths: Uint8Array;
  askers: Uint8Array;
  requests: number;
}

/** Time enough between two reports for either to be worth a message. */
const REPORT_EVERY_MS = 50;

/**
 * What is kept of the store. Bytes: of large files that are read here and there; what has been read to its end is in the kernel's cache. Entries of directories: a step looks at much that the one before it looked
 * at, through a new mount; a mount that stays is asked once.
 */
const TRACED = { cacheBytes: 8 << 20, cacheEntries: 100_000 };
const STAYING = { cacheBytes: 8 << 20, cacheEntries: 1_000 };
/** In use in the mount itself. */
const USED_ENTRIES = { traced: 50_000, staying: 5_000 };

let opened: { dir: string; kept: typeof TRACED; store: Store } | undefined;

function storeAt(dir: string, kept: typeof TRACED): Store {
  if (opened?.dir !== dir || opened.kept !== kept) {
    opened?.store[Symbol.dispose]();
    opened = { dir, kept, store: openStore(dir, { readOnly: true, ...kept }) };
  }
  return opened.store;
}

function serve({ fd, storeDir, tree, tracing, reporting, exchange, attributeFree }: FuseWorkerData): FuseWorkerResult {
  const store = storeAt(storeDir, tracing ? TRACED : STAYING);
  const recorder = new TraceRecorder();
  const others = new ArgumentsExchange(exchange);
  const programs = new ProgramNames((pid) => others.ask(pid, (question) => send({ kind: 'arguments', ...question })));
  const asking = (): string | undefined => programs.of(server.askingPid);
  let unreported = new TraceRecorder();
  const observe: Observer = (path, asked) => {
    recorder.record(path, asked, asking);
    if (reporting) unreported.record(path, asked);
  };
  const projection = new Projection(store, tree, tracing ? observe : undefined, tracing ? USED_ENTRIES.traced : USED_ENTRIES.staying);
  const free = new Int32Array(attributeFree);
  const server = new FuseServer(projection, { tracing, attributeFree: () => Atomics.load(free, 0) === 1 });
  const buffer = Buffer.alloc(REQUEST_BUFFER_BYTES);
  let requests = 0;
  let reportedMs = 0;
  for (;;) {
    const length = readRequest(fd, buffer);
    if (length === 0) break;
    requests++;
    const answer = server.handle(buffer);
    if (answer.kind === 'destroy') break;
    if (answer.kind === 'reply') writeReply(fd, answer.head, answer.body);
    if (server.refusal !== undefined) throw server.refusal;
    if (reporting && performance.now() - reportedMs > REPORT_EVERY_MS) {
      send({ kind: 'asked', paths: unreported.finish() });
      unreported = new TraceRecorder();
      reportedMs = performance.now();
    }
  }
  programs.close();
  // A trace says "given these answers": with one that was none, it is worth nothing.
  if (tracing && server.failure !== undefined) throw server.failure;
  const paths = recorder.finish();
  return { paths: encodePathSet(paths), askers: encodeAskers({ paths, askers: recorder.askers }), requests };
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

function writeReply(fd: number, head: Buffer, body: Buffer | undefined): void {
  try {
    if (body === undefined) writeSync(fd, head);
    else writevSync(fd, [head, body]);
  } catch (error) {
    // ENOENT: the asking process was interrupted and no longer waits. ENODEV: unmounted meanwhile; the next read tells.
    if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
  }
}

assert(parentPort !== null, 'fuse-worker runs as a worker thread');
const port = parentPort;
port.on('message', (data) => send({ kind: 'done', ...serve(data as FuseWorkerData) }));

function send(message: FuseWorkerMessage): void {
  port.postMessage(message);
}
