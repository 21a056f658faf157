import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, rmdirSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deserialize } from 'node:v8';
import { HdError, assert } from '@hyperdocker/base';
import type { ChangeKind } from './memory-disk.ts';
import type { Fault, Operation } from './operation.ts';
import { CONTROL_PREFIX } from './operation.ts';
import type { DiskReply, DiskRequest } from './server.child.ts';

/**
 * A disk for programs that write: a real mount, therefore below everything, `node:fs` and SQLite alike. It keeps its files in the memory of a process
 * of its own, logs what is done to it, and fails when told. Call inside a mount namespace (see `inMountNamespace`). Needs root and /dev/fuse.
 */
export interface FaultyDisk extends AsyncDisposable {
  /** Where it is mounted. */
  readonly path: string;
  arm(fault: Fault): Promise<void>;
  /** @returns how many changes the fault has touched */
  repair(): Promise<number>;
  /** Logs from here on. */
  record(): Promise<void>;
  takeLog(): Promise<Operation[]>;
  /** What the changes since `arm` were, in order. */
  changes(): Promise<readonly ChangeKind[]>;
}

type Order = DiskRequest extends infer R ? (R extends { id: number } ? Omit<R, 'id'> : never) : never;
type Done = DiskReply & { kind: 'done' };

/** @throws HdError DISK_MOUNT */
export async function faultyDisk(): Promise<FaultyDisk> {
  const path = mkdtempSync(join(tmpdir(), 'hd-disk-'));
  const child = spawn(process.execPath, ['--disable-warning=ExperimentalWarning', fileURLToPath(new URL('./server.child.ts', import.meta.url)), path], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const problem = await firstWord(child);
  if (problem !== undefined) {
    child.kill('SIGKILL');
    rmdirSync(path);
    throw new HdError('DISK_MOUNT', `the faulty disk cannot be mounted: ${problem}`);
  }
  const ask = asker(child);
  return {
    path,
    arm: async (fault) => void (await ask({ kind: 'arm', fault })),
    repair: async () => (await ask({ kind: 'repair' })).hits ?? 0,
    record: async () => void (await ask({ kind: 'record' })),
    takeLog: async () => readLog((await ask({ kind: 'take-log' })).logPath),
    changes: async () => (await ask({ kind: 'changes' })).changes ?? [],
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) {
        const ended = once(child, 'exit');
        child.disconnect();
        await ended;
      }
      rmdirSync(path);
    },
  };
}

/** Why it is not mounted. */
function firstWord(child: ChildProcess): Promise<string | undefined> {
  return new Promise((resolve) => {
    child.once('exit', () => resolve('its process ended'));
    child.once('message', (message) => {
      const reply = message as DiskReply;
      resolve(reply.kind === 'mounted' ? undefined : reply.kind === 'failed' ? reply.message : reply.kind);
    });
  });
}

function readLog(path: string | undefined): Operation[] {
  assert(path !== undefined, 'the answer to take-log names a file');
  const log = deserialize(readFileSync(path)) as Operation[];
  rmSync(dirname(path), { recursive: true });
  return log;
}

function asker(child: ChildProcess): (order: Order) => Promise<Done> {
  const waiting = new Map<number, { resolve: (reply: Done) => void; reject: (error: Error) => void }>();
  let nextId = 0;
  child.once('exit', () => {
    for (const { reject } of waiting.values()) reject(new HdError('DISK_MOUNT', 'the faulty disk ended unexpectedly'));
  });
  child.on('message', (message) => {
    const reply = message as DiskReply;
    assert(reply.kind === 'done', `unexpected answer ${reply.kind}`);
    waiting.get(reply.id)?.resolve(reply);
    waiting.delete(reply.id);
  });
  return (order) =>
    new Promise((resolve, reject) => {
      const id = nextId++;
      waiting.set(id, { resolve, reject });
      child.send({ ...order, id } satisfies DiskRequest);
    });
}

/**
 * An order from inside synchronous code in any process: the disk hears it as the look-up of a name.
 * @param order `mark <text>` for the log, `arm <kind> <at>`, or `repair`
 * @returns how many changes the fault has touched
 */
export function tellDisk(path: string, order: string): number {
  return statSync(join(path, `${CONTROL_PREFIX}${order}`)).size;
}
