import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, describeError } from '@hyperdocker/base';
import type { PathSet, Trace } from '@hyperdocker/engine';
import { decodeAskers, decodePathSet } from '@hyperdocker/engine';
import type { HostReply, HostRequest } from './fuse-host-main.ts';

/** Why FUSE cannot be used here, or undefined when it can. */
export function fuseProblem(): string | undefined {
  if (process.env['HD_FUSE'] === 'off') return 'switched off by HD_FUSE=off';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return `/dev/fuse cannot be opened (${describeError(error)})`;
  }
}

/** The threads make much short-lived garbage while somebody waits: collecting it less often saves some of their time (docs/perf/ledger.md). MiB. */
const YOUNG_HEAP = ['--min-semi-space-size=16', '--max-semi-space-size=32'];

/** The supervisor's end of the process that serves FUSE mounts. */
export class FuseHost {
  readonly #child: ChildProcess;
  #closing = false;
  readonly #reports = new Map<string, (paths: PathSet) => void>();
  readonly #waiting = new Map<string, { resolve: (reply: HostReply) => void; reject: (error: Error) => void }>();

  /**
   * @param options.onDeath called when the host ends without having been asked to.
   * @param options.attributeFreeFile where it remembers which trees have no extended attributes
   */
  constructor(options: { logFd?: number; onDeath?: () => void; attributeFreeFile?: string } = {}) {
    const log = options.logFd ?? 'ignore';
    const args = ['--disable-warning=ExperimentalWarning', ...YOUNG_HEAP, fileURLToPath(new URL('./fuse-host-main.ts', import.meta.url)), ...(options.attributeFreeFile === undefined ? [] : [options.attributeFreeFile])];
    this.#child = spawn(process.execPath, args, {
      stdio: ['ignore', log, log, 'ipc'],
      detached: true,
    });
    this.#child.on('message', (message) => this.#settle(message as HostReply));
    this.#child.once('exit', () => {
      for (const { reject } of this.#waiting.values()) reject(hostDied());
      this.#waiting.clear();
      if (!this.#closing) options.onDeath?.();
    });
    this.#child.unref();
    this.#child.channel?.unref();
  }

  get pid(): number {
    return this.#child.pid ?? -1;
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

  /** Resolves when the host is gone, with all mounts that it still had. */
  async close(): Promise<void> {
    this.#closing = true;
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise<void>((resolve) => this.#child.once('exit', () => resolve()));
    this.#child.ref();
    this.#child.send({ kind: 'exit' } satisfies HostRequest);
    await gone;
  }

  #ask(request: Extract<HostRequest, { id: string }>): Promise<HostReply> {
    return new Promise((resolve, reject) => {
      if (!this.#child.connected) return reject(hostDied());
      this.#child.channel?.ref();
      this.#waiting.set(request.id, { resolve, reject });
      this.#child.send(request);
    });
  }

  #settle(reply: HostReply): void {
    if (reply.kind === 'asked') {
      this.#reports.get(reply.id)?.(new Map(reply.paths.map(([path, asked]) => [path as ByteString, asked])));
      return;
    }
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#child.channel?.unref();
    if (reply.kind === 'failed') waiting?.reject(new HdError('FUSE_MOUNT', `FUSE: ${reply.message}`, { hint: 'see `hd doctor`' }));
    else waiting?.resolve(reply);
  }
}

function hostDied(): HdError {
  return new HdError('FUSE_HOST_DIED', 'the process that serves the files ended unexpectedly', { hint: 'start the environment again' });
}
