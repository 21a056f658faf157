import { openSync, closeSync, readFileSync, writeFileSync } from 'node:fs';
import { HdError, assert, describeError, sys } from '@hyperdocker/base';
import type { HdErrorJson, TreeDigest } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { AttributeFree } from './attribute-free.ts';
import { MAX_READ_BYTES } from './fuse-protocol.ts';
import { MountFlag, detach, mountAt, unmountAt } from './mount-at.ts';
import type { FuseWorkerData, FuseWorkerResult } from './fuse-worker.ts';
import type { Keep } from './host-owner.ts';
import { Owner } from './host-owner.ts';
import { ArgumentsExchange } from './programs.ts';
import { ServingThreads } from './serving-threads.ts';

/**
 * The process that serves the FUSE mounts of one environment, one thread a mount. It ends with its owner, which may be killed at any moment, unless it has been told to
 * keep something: then it waits for another owner.
 */
export type HostRequest =
  | { kind: 'mount'; id: string; tree: TreeDigest; mountpoint: string; storeDir: string; tracing: boolean; reporting: boolean }
  | { kind: 'unmount'; id: string }
  | ({ kind: 'keep'; id: string } & Keep)
  | { kind: 'exit' };
export type HostReply =
  | { kind: 'mounted'; id: string }
  | { kind: 'unmounted'; id: string; paths: string; askers: string; requests: number }
  | { kind: 'kept'; id: string }
  /** Not an answer: nobody serves this mount any more. */
  | { kind: 'broken'; id: string; error: HdErrorJson }
  /** Not an answer: what a mount that reports was asked since it reported last. Pairs of a path, as latin1, and a mask. */
  | { kind: 'asked'; id: string; paths: [path: string, asked: number][] }
  | { kind: 'failed'; id: string; message: string };

interface Mount { fd: number; mountpoint: string; result: Promise<FuseWorkerResult> }
const mounts = new Map<string, Mount>();
const threads = new ServingThreads();
const attributeFree = new AttributeFree(process.argv[2]);
// What mounts takes 10 ms to load: now, while nobody waits.
sys();

async function handle(request: HostRequest): Promise<void> {
  switch (request.kind) {
    case 'mount':
      mounts.set(request.id, await mount(request));
      reply({ kind: 'mounted', id: request.id });
      return;
    case 'unmount': {
      const found = mounts.get(request.id);
      assert(found !== undefined, `no mount ${request.id}`);
      // Fails while somebody uses it; it is still there then, and can be asked for again.
      unmountAt(found.mountpoint);
      mounts.delete(request.id);
      const { paths, askers, requests } = await found.result;
      closeSync(found.fd);
      reply({ kind: 'unmounted', id: request.id, paths: Buffer.from(paths).toString('base64'), askers: Buffer.from(askers).toString('base64'), requests });
      return;
    }
    case 'keep':
      await owner.keep(request);
      reply({ kind: 'kept', id: request.id });
      return;
    case 'exit':
      leave();
      return;
  }
}

async function mount({ id, tree, mountpoint, storeDir, tracing, reporting }: Extract<HostRequest, { kind: 'mount' }>): Promise<Mount> {
  const fd = openSync('/dev/fuse', 'r+');
  const exchange = new ArgumentsExchange();
  const free = new SharedArrayBuffer(4);
  const service: FuseWorkerData = { fd, storeDir, tree, tracing, reporting, exchange: exchange.shared, attributeFree: free };
  // INIT is answered by the thread that is given the descriptor below; until then whoever looks waits.
  // Without ro and noatime each read ages the attributes, and the kernel asks for them again: 11 k GETATTRs on the way through /usr.
  const data = `fd=${fd},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read=${1 << 20}`;
  try {
    mountAt('FUSE_MOUNT', mountpoint, { type: 'fuse', flags: MountFlag.readOnly | MountFlag.noAtime, data });
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  const result = threads.serve(service, (message) => {
    if (message.kind === 'asked') reply({ kind: 'asked', id, paths: [...message.paths] });
    else exchange.answer(message);
  });
  readAhead(mountpoint);
  void findAttributes(storeDir, tree, free);
  result.catch((error: unknown) => {
    process.stderr.write(`fuse worker: ${describeError(error)}\n`);
    // Nobody reads requests any more. Without the descriptor the kernel answers them with an error; else they would hang.
    closeSync(fd);
    reply({ kind: 'broken', id, error: asJson(error) });
  });
  return { fd, mountpoint, result };
}

/** An error that comes out of a thread has kept its fields, not its class. */
function asJson(error: unknown): HdErrorJson {
  const { code, hint } = error as Partial<HdErrorJson>;
  return { code: code ?? 'FUSE_MOUNT', message: describeError(error), ...(hint === undefined ? {} : { hint }) };
}

/** Large files in few requests: by itself the kernel reads 128 KiB ahead. Without the right to say so it stays at that. */
function readAhead(mountpoint: string): void {
  try {
    const line = readFileSync('/proc/self/mountinfo', 'utf8').split('\n').findLast((mounted) => mounted.split(' ')[4] === escaped(mountpoint));
    writeFileSync(`/sys/class/bdi/${line?.split(' ')[2]}/read_ahead_kb`, String(MAX_READ_BYTES / 1024));
  } catch {}
}

/** As mountinfo writes paths. */
function escaped(path: string): string {
  return path.replace(/[ \t\n\\]/g, (character) => `\\${character.charCodeAt(0).toString(8).padStart(3, '0')}`);
}

/** While nobody knows, each question for an attribute is answered by itself. */
async function findAttributes(storeDir: string, tree: TreeDigest, free: SharedArrayBuffer): Promise<void> {
  try {
    using store = openStore(storeDir, { readOnly: true, cacheEntries: 1_000 });
    if (await attributeFree.has(store, tree)) Atomics.store(new Int32Array(free), 0, 1);
  } catch (error) {
    // The thread that serves the tree tells those who ask.
    if (!(error instanceof HdError)) throw error;
  }
}

function reply(message: HostReply): void {
  owner.reply(message);
}

/** Of mounts that nobody will ask for again: those who use them are on their way out, and the kernel waits for the last of them. */
function leaveMounts(kept: readonly string[]): void {
  for (const [id, { fd, mountpoint, result }] of mounts) {
    if (kept.includes(id)) continue;
    detach(mountpoint);
    mounts.delete(id);
    result.then(() => closeSync(fd), () => {});
  }
}

/** A thread that sleeps in `read` cannot be ended from here, so this process ends by a signal to itself. */
function leave(): void {
  for (const { mountpoint } of mounts.values()) detach(mountpoint);
  process.kill(process.pid, 'SIGKILL');
}

const owner = new Owner({
  request: (request) => void handle(request).catch((error: unknown) => reply({ kind: 'failed', id: 'id' in request ? request.id : '', message: describeError(error) })),
  left: leaveMounts,
  end: leave,
});
// Ctrl-C in a terminal reaches the whole process group; the parent decides what it means.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
