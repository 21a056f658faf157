import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { FuseHostOptions } from '@hyperdocker/mount';
import { FuseHost, fuseProblem } from '@hyperdocker/mount';
import type { Emit, Warn } from './events.ts';
import type { EnvPaths, Home } from './home.ts';
import { LIVE_MOUNT } from './live-root.ts';
import type { LiveRecord } from './live-record.ts';
import { withoutFuse } from './machine-warnings.ts';
import type { Projector } from './step-runner.ts';

export interface FileServerOptions {
  home: Home;
  paths: EnvPaths;
  /** The root of a supervisor before, whose process still serves it. */
  left: LiveRecord | undefined;
  emit: Emit;
  warn: Warn;
  /** Nobody serves the files any more, and what runs on them is of no use. `often`: another process will do no better. */
  onLost: (error: HdError, often: boolean) => void;
}

/** A process that serves files and dies so often will do so again. */
const MAX_DEATHS = 3;
const DEATHS_WITHIN_MS = 300_000;

/**
 * The process that serves an environment's files through FUSE, one after the other:
 *
 *   left by a supervisor before ──adopt──▶ serves ──it dies──▶ lost
 *                │                          ▲  ▲                │
 *                └─gone by now─▶ a new one ─┘  └────replace─────┘
 *
 * Where there is no FUSE, there is no process: files are written out to disk.
 */
export class FileServer {
  readonly #options: FileServerOptions;
  readonly #deathsMs: number[] = [];
  #left: LiveRecord | undefined;
  #host: FuseHost | undefined;
  #served = new AbortController();

  constructor(options: FileServerOptions) {
    this.#options = options;
    this.#left = options.left;
    // It takes as long to start as everything up to a build that has nothing to do: both at once.
    if (this.#left === undefined) this.#start();
  }

  /** Undefined: there is no FUSE here, or what was left is not adopted yet. */
  get host(): FuseHost | undefined {
    return this.#host;
  }

  /** Ends what runs on files that nobody serves any more. Of the process that serves now: another has another one. */
  get signal(): AbortSignal {
    return this.#served.signal;
  }

  /** What a supervisor before has left has neither been taken nor given up. */
  get isLeft(): boolean {
    return this.#left !== undefined;
  }

  projector(store: Store): Projector {
    const { storeDir, materializedDir } = this.#options.home;
    return { store, storeDir, fuse: this.#host, materializedDir };
  }

  /** The process that was left, where one was, or, where that is gone by now, a new one. */
  async adopt(): Promise<void> {
    if (this.#left === undefined) return;
    try {
      this.#host = await FuseHost.adopt(this.#options.paths.hostSocket, this.#left.host.pid, this.#hostOptions());
    } catch (error) {
      this.#options.warn(error, 'the environment begins anew');
      this.#left = undefined;
      this.#start();
    }
  }

  /** The root that the adopted process serves, once: from now on it is not left any more. */
  takeLeft(): { record: LiveRecord; host: FuseHost } | undefined {
    if (this.#left === undefined || this.#host === undefined) return undefined;
    const record = this.#left;
    this.#left = undefined;
    return { record, host: this.#host };
  }

  /** Ends the process, with all its mounts, and starts another. */
  async replace(): Promise<void> {
    await this.#host?.close();
    this.#served = new AbortController();
    this.#start();
  }

  /** Ends it. What was left, and could not be adopted, is left once more. */
  async close(): Promise<void> {
    if (this.isLeft) this.release();
    else await this.#host?.close();
  }

  /** Leaves it to the next supervisor. */
  release(): void {
    this.#host?.release();
  }

  #start(): void {
    const problem = fuseProblem();
    if (problem !== undefined) {
      this.#options.emit(withoutFuse(problem, 'a step'));
      return;
    }
    this.#host = new FuseHost(this.#hostOptions());
  }

  #hostOptions(): FuseHostOptions {
    return {
      logFd: 2, attributeFreeFile: this.#options.home.attributeFreeFile,
      onDeath: () => this.#lose(new HdError('FUSE_HOST_DIED', 'the process that serves the files ended unexpectedly', { hint: 'start again with `hd up`' })),
      // A step tells by itself that its trace is lost.
      onBroken: (id, error) => void (id === LIVE_MOUNT && this.#lose(error)),
    };
  }

  #lose(error: HdError): void {
    const nowMs = Date.now();
    this.#deathsMs.push(nowMs);
    this.#served.abort(error);
    this.#options.onLost(error, this.#deathsMs.filter((atMs) => nowMs - atMs < DEATHS_WITHIN_MS).length >= MAX_DEATHS);
  }
}
