import { execFile, spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { constants as osConstants } from 'node:os';
import { join } from 'node:path';
import type { Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { assert, HdError, isErrno } from '@hyperdocker/base';
import { buildProcess, hostFacts, writeBundle } from './bundle.ts';
import { cgroupMode } from './cgroups.ts';
import type { ContainerExit, ContainerSpec, ContainerStatus, ExecSpec, OutputStream } from './contract.ts';
import { Guard } from './guard.ts';
import { withInit, withLingeringInit } from './init.ts';
import { wasOutOfMemory } from './limits.ts';
import { parentOf, processesBeside, readPidFile, signalEach } from './process-tree.ts';

export interface OciRuntimeOptions {
  /** The runtime's binary, from `findRuntime`. */
  readonly path: string;
  /** Its state directory, one for each environment: containers of others are neither seen nor touched. */
  readonly root: string;
  /** Put before every command, such as `['nsenter', '-t', '123', '-m', '--']` to run it where a root file system is mounted. */
  readonly prefix?: readonly string[];
}

export interface RunOptions {
  /** Belongs to this one run. `config.json` and the runtime's log go here; the caller removes it. */
  readonly bundleDir: string;
  /** `capture` hands output to `onOutput` as it comes, `inherit` gives the container this process's own streams. */
  readonly stdio: 'capture' | 'inherit';
  readonly onOutput?: (stream: OutputStream, bytes: Buffer) => void;
  /** Descriptors of this process that the command has as its own, from 3 on. They stay open here. */
  readonly fds?: readonly number[];
  /** With `capture`: `pipe` makes `stdin` available. `ignore` where it is left out. */
  readonly stdin?: 'ignore' | 'pipe';
}

export interface RunningContainer {
  readonly id: string;
  /** The runtime's process, which waits for the container. */
  readonly pid: number;
  /** Never rejects. Resolves when the container is gone and all of its output has been delivered. */
  readonly exit: Promise<ContainerExit>;
  readonly stdin: Writable | undefined;
  /** Resolves with true once its process runs, with false when it has ended without. */
  started(): Promise<boolean>;
  /** Sends a signal, once its process runs: to the command alone, as if it were a process of this machine, or to every process inside. */
  signal(signal: NodeJS.Signals, to: 'command' | 'all'): Promise<void>;
  /** Sends `signal` to every process inside, and SIGKILL after `graceMs`. Calling it again can shorten the grace. */
  stop(options?: { signal?: NodeJS.Signals; graceMs?: number }): Promise<ContainerExit>;
  kill(): Promise<ContainerExit>;
}

/** Of a bundle that is written. */
export type PreparedContainer = Required<Pick<ContainerSpec, 'id' | 'terminal' | 'init'>>;

/** Writes the bundle of a container that `runPrepared` is going to run. Throws `CONTAINER_SPEC_INVALID`. */
export function prepareBundle(bundleDir: string, spec: ContainerSpec): void {
  writeBundle(bundleDir, { ...spec, args: spec.init === true && spec.args.length > 0 ? withInit(spec.args) : spec.args });
}

/**
 * Containers through the command line of an OCI runtime. Each runs in the foreground under this process and dies with it, even if it is killed by SIGKILL.
 */
export class OciRuntime {
  readonly #options: OciRuntimeOptions;
  #guard: Guard | undefined;
  #keeps: boolean | undefined;

  constructor(options: OciRuntimeOptions) {
    this.#options = options;
  }

  /** Throws `CONTAINER_SPEC_INVALID` and `CONTAINER_EXISTS`; everything that goes wrong later is in `exit`. */
  run(spec: ContainerSpec, options: RunOptions): RunningContainer {
    if (existsSync(join(this.#options.root, spec.id))) {
      throw new HdError('CONTAINER_EXISTS', `A container named ${spec.id} exists already.`, { hint: 'Delete it first.' });
    }
    mkdirSync(this.#options.root, { recursive: true, mode: 0o700 });
    const lingers = spec.init === true && options.stdio === 'capture' && options.stdin !== 'pipe';
    if (lingers && spec.args.length > 0) writeBundle(options.bundleDir, { ...spec, args: withLingeringInit(spec.args) });
    else prepareBundle(options.bundleDir, spec);
    const { memoryBytes } = spec.limits ?? {};
    // Its group tells how it ended only for as long as it is there.
    const keep = memoryBytes !== undefined && this.#canKeep() ? ['--keep'] : [];
    const { fds = [] } = options;
    const command = ['run', ...keep, ...(fds.length === 0 ? [] : ['--preserve-fds', String(fds.length)]), '--bundle', options.bundleDir];
    return this.#start({ id: spec.id, init: spec.init === true, lingers, terminal: spec.terminal, command, trailing: [spec.id], container: spec.id, options, ...(memoryBytes === undefined ? {} : { memoryBytes }) });
  }

  /** Runs what `prepareBundle` has written, perhaps in another process. */
  runPrepared(container: PreparedContainer, options: RunOptions): RunningContainer {
    return this.#start({ ...container, lingers: false, command: ['run', '--bundle', options.bundleDir], trailing: [container.id], container: container.id, options });
  }

  /** Runs a command inside a container that runs. Its processes die with this one. `bundleDir` has to be one of its own. */
  exec(id: string, spec: ExecSpec, options: RunOptions): RunningContainer {
    mkdirSync(options.bundleDir, { recursive: true, mode: 0o700 });
    const processFile = join(options.bundleDir, 'process.json');
    writeFileSync(processFile, JSON.stringify(buildProcess(spec, hostFacts())), { mode: 0o600 });
    return this.#start({ id, init: false, lingers: false, terminal: spec.terminal, command: ['exec', '--process', processFile], trailing: [id], container: undefined, options });
  }

  /** Signals process 1 of a container, or with `all` every process in it. A container that is gone is no error. */
  async kill(id: string, signal: NodeJS.Signals, options: { all?: boolean } = {}): Promise<void> {
    const status = await this.#state(id);
    if (status === undefined || status.pid === 0) return;
    const pids = processesBeside(status.pid);
    signalEach(options.all === true ? pids : pids.filter((pid) => pid === status.pid), signal);
  }

  /** Removes a container that has ended; with `force` kills it before. One that is gone is no error with `force`. */
  async delete(id: string, options: { force?: boolean } = {}): Promise<void> {
    const result = await this.#invoke(['delete', ...(options.force === true ? ['--force'] : []), id]);
    if (result.code !== 0 && !(options.force === true && !existsSync(join(this.#options.root, id)))) {
      throw new HdError('CONTAINER_DELETE_FAILED', `Container ${id} could not be deleted: ${result.stderr.trim()}`);
    }
  }

  /** Every container of the state directory, also those that an earlier process has left behind. */
  async list(): Promise<ContainerStatus[]> {
    const statuses = await Promise.all(readIds(this.#options.root).map((id) => this.#state(id)));
    return statuses.filter((status) => status !== undefined);
  }

  /** Ends whatever still runs, and lets go of the process that guards it. */
  close(): void {
    this.#guard?.close();
    this.#guard = undefined;
  }

  #start(job: Job): RunningContainer {
    const { options } = job;
    const files = { pid: join(options.bundleDir, 'pid'), log: join(options.bundleDir, 'runtime.log') };
    for (const file of Object.values(files)) rmSync(file, { force: true });
    const [file, ...args] = this.#command(['--log', files.log, ...job.command, '--pid-file', files.pid, ...job.trailing]);
    assert(file !== undefined, 'a command has a name');
    // There before what it guards: on a busy machine a command runs long before the next process has been started.
    this.#guard ??= new Guard(this.#command(['delete', '--force']));
    const stdin = job.lingers ? 'pipe' : (options.stdin ?? 'ignore');
    const child = spawn(file, args, {
      stdio: options.stdio === 'inherit' ? 'inherit' : [stdin, 'pipe', 'pipe', ...(options.fds ?? [])],
      // A signal to the group of this process must not reach the runtime, which would pass it on; a terminal needs to stay in its session.
      detached: !job.terminal,
    });
    child.stdout?.on('data', (bytes: Buffer) => options.onOutput?.('stdout', bytes));
    child.stderr?.on('data', (bytes: Buffer) => options.onOutput?.('stderr', bytes));
    child.stdin?.on('error', () => {});
    return this.#supervise(job, child, files);
  }

  #supervise(job: Job, child: ChildProcess, files: RunFiles): RunningContainer {
    const { pid } = child;
    if (pid !== undefined) this.#guard?.started(pid, files.pid, job.container);
    const exit = ended(child, job.container === undefined).then(async (end): Promise<ContainerExit> => {
      const outOfMemory = job.memoryBytes !== undefined && wasOutOfMemory(job.id, cgroupMode()) ? { outOfMemory: job.memoryBytes } : {};
      // The runtime deletes what it ran, unless it was killed itself, failed half way, or was told to keep it.
      if (job.container !== undefined && existsSync(join(this.#options.root, job.container))) await this.delete(job.container, { force: true });
      if (job.container === undefined && end.signal !== null) signalInside(job, files, 'SIGKILL');
      if (pid !== undefined) this.#guard?.ended(pid);
      return { ...toExit(end, files), ...outOfMemory };
    });
    let running = true;
    void exit.then(() => (running = false));
    const stop = async (signal: NodeJS.Signals, graceMs: number): Promise<ContainerExit> => {
      const timer = setTimeout(() => killAll(job, files, child), graceMs);
      if (await hasStarted(files, () => running)) signalInside(job, files, signal);
      if (job.lingers) void lastOneLeft(files, () => running).then(() => child.stdin?.end());
      try {
        return await exit;
      } finally {
        clearTimeout(timer);
      }
    };
    const kill = async (): Promise<ContainerExit> => {
      // A container half made is deleted when its runtime is gone; a command half brought into one could be found by nobody.
      if (job.container === undefined) await hasStarted(files, () => running);
      if (running) killAll(job, files, child);
      return exit;
    };
    return {
      id: job.id,
      pid: pid ?? 0,
      exit,
      stdin: job.lingers ? undefined : (child.stdin ?? undefined),
      started: () => hasStarted(files, () => running),
      signal: async (signal, to) => {
        if (!(await hasStarted(files, () => running))) return;
        signalCommand(job, files, signal, to);
      },
      stop: ({ signal = 'SIGTERM', graceMs = 5_000 } = {}) => stop(signal, graceMs),
      kill,
    };
  }

  async #state(id: string): Promise<ContainerStatus | undefined> {
    const result = await this.#invoke(['state', id]);
    if (result.code !== 0) return undefined;
    const state = JSON.parse(result.stdout) as { id: string; pid?: number; status: ContainerStatus['status'] };
    return { id: state.id, pid: state.pid ?? 0, status: state.status };
  }

  #invoke(args: readonly string[]): Promise<{ code: number; stdout: string; stderr: string }> {
    const [file, ...rest] = this.#command(args);
    assert(file !== undefined, 'a command has a name');
    return new Promise((resolve) => {
      execFile(file, rest, (error, stdout, stderr) => {
        resolve({ code: error === null ? 0 : typeof error.code === 'number' ? error.code : 125, stdout, stderr: stderr === '' && error !== null ? error.message : stderr });
      });
    });
  }

  /** runc has it since 1.1. */
  #canKeep(): boolean {
    this.#keeps ??= /--keep\b/.test(spawnSync(this.#options.path, ['run', '--help'], { encoding: 'utf8' }).stdout ?? '');
    return this.#keeps;
  }

  #command(args: readonly string[]): string[] {
    return [...(this.#options.prefix ?? []), this.#options.path, '--root', this.#options.root, ...args];
  }
}

interface Job {
  readonly id: string;
  /** Process 1 is not the command but its parent. */
  readonly init: boolean;
  readonly terminal: boolean;
  /** Process 1 waits for its standard input to close before it ends. */
  readonly lingers: boolean;
  readonly memoryBytes?: number;
  readonly command: readonly string[];
  readonly trailing: readonly string[];
  /** The container that this job makes; undefined for a command in one that is there. */
  readonly container: string | undefined;
  readonly options: RunOptions;
}

interface RunFiles {
  /** The process inside, written by the runtime once it has started. */
  readonly pid: string;
  readonly log: string;
}

interface ProcessEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly error?: Error;
}

/** How long output may still come after a command of `exec` has ended, from children that it left behind with its streams open. */
const DRAIN_MS = 200;

function ended(child: ChildProcess, mayLeaveChildren: boolean): Promise<ProcessEnd> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve({ code: null, signal: null, error }));
    child.once('close', (code, signal) => resolve({ code, signal }));
    if (!mayLeaveChildren) return;
    child.once('exit', () => {
      setTimeout(() => {
        child.stdout?.destroy();
        child.stderr?.destroy();
      }, DRAIN_MS).unref();
    });
  });
}

const START_POLL_MS = 2;

/** The runtime writes the pid file a moment after the command has begun: its first output may well be here before. False when it ends without. */
async function hasStarted(files: RunFiles, isRunning: () => boolean): Promise<boolean> {
  while (isRunning()) {
    if (readPidFile(files.pid) !== undefined) return true;
    await delay(START_POLL_MS);
  }
  return false;
}

/** Resolves once nothing but process 1 runs in the container. There is no event for processes that are not children. */
async function lastOneLeft(files: RunFiles, isRunning: () => boolean): Promise<void> {
  for (let intervalMs = START_POLL_MS; isRunning(); intervalMs = Math.min(50, intervalMs * 1.5)) {
    const pid = readPidFile(files.pid);
    if (pid !== undefined && processesBeside(pid).length <= 1) return;
    await delay(intervalMs);
  }
}

/** Signals what belongs to the job: all of the container, or the process group that `exec` has made. */
function signalInside(job: Job, files: RunFiles, signal: NodeJS.Signals): void {
  const pid = readPidFile(files.pid);
  if (pid === undefined) return;
  const inside = processesBeside(pid);
  if (job.container !== undefined) signalEach(inside, signal);
  else if (inside.includes(pid)) signalEach([-pid], signal);
}

/** Process 1 gets nothing where it is only the parent: it would tell of the signal instead of what the command makes of it. */
function signalCommand(job: Job, files: RunFiles, signal: NodeJS.Signals, to: 'command' | 'all'): void {
  const pid = readPidFile(files.pid);
  if (pid === undefined) return;
  const inside = processesBeside(pid).filter((other) => !job.init || other !== pid);
  signalEach(inside.filter((other) => to === 'all' || (job.init ? parentOf(other) === pid : other === pid)), signal);
}

/** The end of process 1 is the end of its PID namespace: the kernel kills all of it. Before the process is there, the runtime itself is what to kill. */
function killAll(job: Job, files: RunFiles, child: ChildProcess): void {
  if (readPidFile(files.pid) === undefined) child.kill('SIGKILL');
  else signalInside(job, files, 'SIGKILL');
}

function toExit(end: ProcessEnd, files: RunFiles): ContainerExit {
  const code = end.code ?? 128 + (end.signal === null ? 0 : osConstants.signals[end.signal]);
  if (readPidFile(files.pid) === undefined && code !== 0) return toProblem(end, files);
  return { code, signal: signalOfCode(code) };
}

function toProblem(end: ProcessEnd, files: RunFiles): ContainerExit {
  if (end.signal !== null) return { code: 128 + osConstants.signals[end.signal], signal: end.signal };
  const text = end.error?.message ?? readLog(files.log);
  const failure = FAILURES.find(({ pattern }) => pattern.test(text)) ?? {
    code: 125,
    errorCode: 'CONTAINER_START_FAILED',
    hint: 'Run `hd doctor` to check the container runtime.',
  };
  return {
    code: failure.code,
    signal: null,
    problem: new HdError(failure.errorCode, `The command could not be started: ${text.trim() || 'the runtime gave no reason'}`, { hint: failure.hint }),
  };
}

const FAILURES = [
  {
    pattern: /executable file .*not found|exec.*no such file or directory/i,
    code: 127,
    errorCode: 'COMMAND_NOT_FOUND',
    hint: 'Check its name, and that the image or a package brings it.',
  },
  { pattern: /exec.*(permission denied|is a directory|exec format error)/i, code: 126, errorCode: 'COMMAND_NOT_EXECUTABLE', hint: 'Check its mode (chmod +x), its first line and its platform.' },
];

/** The last error in the runtime's log: `msg="…"` in lines of text. */
function readLog(path: string): string {
  let text = '';
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
  const last = text.trim().split('\n').findLast((line) => !/level=(warning|info|debug)/.test(line)) ?? '';
  const message = /msg=("(?:[^"\\]|\\.)*")/.exec(last)?.[1];
  return message === undefined ? last : (JSON.parse(message) as string);
}

function signalOfCode(code: number): NodeJS.Signals | null {
  const name = Object.entries(osConstants.signals).find(([, number]) => number === code - 128)?.[0];
  return name === undefined ? null : (name as NodeJS.Signals);
}

function readIds(root: string): string[] {
  try {
    return readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory() && !entry.name.startsWith('.')).map((entry) => entry.name);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
