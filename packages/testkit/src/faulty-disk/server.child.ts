import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, openSync, read, writeFileSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { serialize } from 'node:v8';
import { describeError, isErrno } from '@hyperdocker/base';
import { DiskServer } from './disk-server.ts';
import { REQUEST_BUFFER_BYTES } from './fuse-wire.ts';
import { MemoryDisk } from './memory-disk.ts';
import type { ChangeKind } from './memory-disk.ts';
import type { Fault } from './operation.ts';

/**
 * The process of one faulty disk: `<mountpoint>`. A process of its own, since one that waits for its own file system cannot be killed.
 * It ends with its parent, and takes the mount along.
 */
export type DiskRequest = { id: number } & ({ kind: 'arm'; fault: Fault } | { kind: 'repair' | 'record' | 'take-log' | 'changes' });
export type DiskReply =
  | { kind: 'mounted' }
  | { kind: 'failed'; message: string }
  /** `logPath`: a file with the operations as `v8.serialize` writes them, for the asker to remove. A channel between processes is slow with megabytes. */
  | { kind: 'done'; id: number; logPath?: string; changes?: readonly ChangeKind[]; hits?: number };

const [mountpoint = ''] = process.argv.slice(2);
const disk = new MemoryDisk();
const server = new DiskServer(disk);
const readAsync = promisify(read);
const reply = (message: DiskReply): void => void process.send?.(message);

function answer(request: DiskRequest): Omit<DiskReply & { kind: 'done' }, 'kind' | 'id'> {
  switch (request.kind) {
    case 'arm':
      disk.arm(request.fault);
      return {};
    case 'repair':
      disk.repair();
      return { hits: disk.hits };
    case 'record':
      disk.record();
      return {};
    case 'take-log':
      return { logPath: writeLog() };
    case 'changes':
      return { changes: disk.changes, hits: disk.hits };
  }
}

function writeLog(): string {
  const path = join(mkdtempSync(join(tmpdir(), 'hd-disk-log-')), 'log');
  writeFileSync(path, serialize(disk.takeLog()));
  return path;
}

function leave(): void {
  spawnSync('umount', ['-l', mountpoint], { stdio: 'ignore' });
  // A pool thread that sleeps in `read` would keep the process from ending by itself.
  process.kill(process.pid, 'SIGKILL');
}

function fail(error: unknown): void {
  process.stderr.write(`faulty disk: ${describeError(error)}\n`);
  leave();
}

/** Nothing can be read from `fd` before it is done. @returns what went wrong */
async function mount(fd: number): Promise<string | undefined> {
  const options = 'noatime,fd=3,rootmode=40000,user_id=0,group_id=0,allow_other';
  const child = spawn('mount', ['-i', '-t', 'fuse', '-o', options, 'hd-faulty-disk', mountpoint], { stdio: ['ignore', 'ignore', 'pipe', fd] });
  let stderr = '';
  child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
  try {
    const [status] = (await once(child, 'close')) as [number | null];
    return status === 0 ? undefined : stderr.trim();
  } catch (error) {
    return describeError(error);
  }
}

/** Until unmounted. */
async function serve(fd: number): Promise<void> {
  const buffer = Buffer.alloc(REQUEST_BUFFER_BYTES);
  for (;;) {
    try {
      await readAsync(fd, buffer, 0, buffer.length, null);
    } catch (error) {
      if (isErrno(error, 'ENODEV')) return;
      // ENOENT: the request was withdrawn while we read it.
      if (isErrno(error, 'EINTR', 'ENOENT', 'EAGAIN')) continue;
      throw error;
    }
    const result = server.handle(buffer);
    if (result.kind === 'destroy') return;
    if (result.kind === 'reply') write(fd, result.bytes);
  }
}

function write(fd: number, bytes: Buffer): void {
  try {
    writeSync(fd, bytes);
  } catch (error) {
    // Whoever asked was interrupted, or the disk is unmounted; the next read tells.
    if (!isErrno(error, 'ENOENT', 'ENODEV')) throw error;
  }
}

process.on('message', (message) => {
  const request = message as DiskRequest;
  reply({ kind: 'done', id: request.id, ...answer(request) });
});
process.on('disconnect', leave);
process.on('uncaughtException', fail);
// Ctrl-C in a terminal reaches the whole process group; the parent decides what it means.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
const fd = openSync('/dev/fuse', 'r+');
const problem = await mount(fd);
if (problem === undefined) {
  reply({ kind: 'mounted' });
  await serve(fd).catch(fail);
} else {
  reply({ kind: 'failed', message: problem });
}
