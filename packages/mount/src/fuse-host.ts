import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { release } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { FRUGAL_MALLOC, HdError, describeError } from '@hyperdocker/base';
import type { PathSet, Trace } from '@hyperdocker/engine';
import { decodeAskers, decodePathSet } from '@hyperdocker/engine';
import type { HostReply, HostRequest } from './fuse-host-main.ts';
import type { HostLink } from './host-link.ts';
import { childLink, socketLink } from './host-link.ts';
import type { Keep } from './host-owner.ts';

/** Why FUSE cannot be used here, or undefined when it can. */
export function fuseProblem(): string | undefined {
  if (process.env['HD_FUSE'] === 'off') return 'switched off by HD_FUSE=off';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return kernelProblem(release());
  } catch (error) {
    return `/dev/fuse cannot be opened (${describeError(error)})`;
  }
}

/** FUSE 7.31, without which the server refuses the kernel anyway: but then there is an environment already. */
export function kernelProblem(version: string): string | undefined {
  const [major = 0, minor = 0] = version.split('.').map((part) => Number.parseInt(part, 10));
  return major > 5 || (major === 5 && minor >= 4) ? undefined : `Linux ${version} is too old for it: 5.4 or later is needed`;
}

/** V8's, MiB. What is served does not pass through it. */
const YOUNG_HEAP = '--max-semi-space-size=4';
export interface FuseHostOptions {
  logFd?: number;
  /** Where it remembers which trees have no extended attributes. */
  attributeFreeFile?: string;
  /** The host has ended without having been asked to. */
  onDeath?: () => void;
  /** Nobody serves this mount any more, though the host lives. */
  onBroken?: (id: string, why: HdError) => void;
}

/** The supervisor's end of the process that serves FUSE mounts. */
export class FuseHost {
  readonly #link: HostLink;
  #closing = false;
  /** It was asked for something, and may have to end well. */
  #isUsed: boolean;
  readonly #reports = new Map<string, (paths: PathSet) => void>();
  readonly #waiting = new Map<string, { resolve: (reply: HostReply) => void; reject: (error: Error) => void }>();

  /** @param running one that runs; without it, one is started */
  constructor(options: FuseHostOptions = {}, running?: HostLink) {
    const link = running ?? startHost(options);
    this.#link = link;
    this.#isUsed = running !== undefined;
    link.onReply((reply) => (reply.kind === 'broken' ? options.onBroken?.(reply.id, HdError.fromJSON(reply.error)) : this.#settle(reply)));
    link.onGone(() => {
      for (const { reject } of this.#waiting.values()) reject(hostDied());
      this.#waiting.clear();
      if (!this.#closing) options.onDeath?.();
    });
  }

  /**
   * A host that waits at `socket`, with the mounts that it was told to keep, by their ids.
   * @throws HdError FUSE_HOST_DIED
   */
  static async adopt(socket: string, pid: number, options: FuseHostOptions = {}): Promise<FuseHost> {
    return new FuseHost(options, await socketLink(socket, pid));
  }

  get pid(): number {
    return this.#link.pid;
  }

  /**
   * @param options.onAsked called while it goes on with what was asked since the last call: soon, not at once, and the last of it only by `unmount`
   * @throws HdError FUSE_MOUNT
   */
  async mount(id: string, { onAsked, ...options }: { tree: TreeDigest; mountpoint: string; storeDir: string; tracing: boolean; onAsked?: (paths: PathSet) => void }): Promise<void> {
    if (onAsked !== undefined) this.#reports.set(id, onAsked);
    await this.#ask({ kind: 'mount', id, ...options, reporting: onAsked !== undefined });
  }

  /** Every user of the mount must be gone. Returns what was asked of it while tracing, and by whom. */
  async unmount(id: string): Promise<Trace & { requests: number }> {
    const reply = await this.#ask({ kind: 'unmount', id });
    this.#reports.delete(id);
    if (reply.kind !== 'unmounted') throw new HdError('FUSE_MOUNT', `unexpected answer ${reply.kind}`);
    const paths = decodePathSet(Buffer.from(reply.paths, 'base64'));
    return { paths, askers: decodeAskers(Buffer.from(reply.askers, 'base64'), paths), requests: reply.requests };
  }

  /** From now on it outlives this process and waits for another owner; with no mounts, no longer. @throws HdError FUSE_HOST_DIED */
  async keep(keep: Keep): Promise<void> {
    await this.#ask({ kind: 'keep', id: 'keep', ...keep });
  }

  /** Leaves it to itself: without anything to keep, it ends. */
  release(): void {
    this.#closing = true;
    if (this.#link.isOpen) this.#link.close();
  }

  /** Resolves when the host is gone, with all mounts that it still had. */
  async close(): Promise<void> {
    this.#closing = true;
    const gone = new Promise<void>((resolve) => this.#link.onGone(resolve));
    this.#link.ref(true);
    if (this.#link.isOpen && this.#isUsed) this.#link.send({ kind: 'exit' });
    // It may not even have started yet.
    else if (this.#link.isOpen) process.kill(this.#link.pid, 'SIGKILL');
    await gone;
  }

  #ask(request: Extract<HostRequest, { id: string }>): Promise<HostReply> {
    return new Promise((resolve, reject) => {
      if (!this.#link.isOpen) return reject(hostDied());
      this.#isUsed = true;
      this.#link.ref(true);
      this.#waiting.set(request.id, { resolve, reject });
      this.#link.send(request);
    });
  }

  #settle(reply: Exclude<HostReply, { kind: 'broken' }>): void {
    if (reply.kind === 'asked') {
      this.#reports.get(reply.id)?.(new Map(reply.paths.map(([path, asked]) => [path as ByteString, asked])));
      return;
    }
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#link.ref(false);
    if (reply.kind === 'failed') waiting?.reject(new HdError('FUSE_MOUNT', `FUSE: ${reply.message}`, { hint: 'see `hd doctor`' }));
    else waiting?.resolve(reply);
  }
}

function startHost({ logFd, attributeFreeFile }: FuseHostOptions): HostLink {
  const log = logFd ?? 'ignore';
  const args = ['--disable-warning=ExperimentalWarning', YOUNG_HEAP, fileURLToPath(new URL('./fuse-host-main.ts', import.meta.url)), ...(attributeFreeFile === undefined ? [] : [attributeFreeFile])];
  return childLink(spawn(process.execPath, args, { stdio: ['ignore', log, log, 'ipc'], detached: true, env: { ...FRUGAL_MALLOC, ...process.env } }));
}

function hostDied(): HdError {
  return new HdError('FUSE_HOST_DIED', 'the process that serves the files ended unexpectedly', { hint: 'start the environment again' });
}
