import { HdError } from '@hyperdocker/base';
import { spawn, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';
import { join } from 'node:path';
import { checkout } from './checkout.ts';

const DEFAULT_TIMEOUT_MS = 120_000;

export interface HdOptions {
  cwd?: string;
  /** On top of this process's own environment. */
  env?: Readonly<Record<string, string | undefined>>;
  /** For standard input, which is empty otherwise. */
  input?: string;
  /** SIGKILL after it. Two minutes unless told. */
  timeoutMs?: number;
}

export interface HdResult {
  /** 128+n after signal n. */
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs the real `hd`, from the sources, to its end. @throws HdError TEST_TIMEOUT with what it had printed. */
export async function runHd(args: readonly string[], options: HdOptions = {}): Promise<HdResult> {
  await using hd = startHd(args, options);
  return await hd.exited;
}

export interface HdProcess extends AsyncDisposable {
  readonly pid: number;
  /** @throws HdError TEST_TIMEOUT */
  readonly exited: Promise<HdResult>;
  /** What it has printed so far, both streams in the order of arrival. */
  output(): string;
  /** The first match in the output, now or later. @throws HdError HD_EXITED if `hd` ends without it, TEST_TIMEOUT */
  waitFor(pattern: RegExp): Promise<RegExpExecArray>;
  signal(signal: NodeJS.Signals): void;
}

/** Starts the real `hd`, from the sources. The end of its scope interrupts it, as Ctrl-C does, and waits for it. */
export function startHd(args: readonly string[], options: HdOptions = {}): HdProcess {
  const child = spawn(join(checkout, 'hd'), [...args], {
    cwd: options.cwd,
    env: { ...process.env, NODE_TEST_CONTEXT: undefined, HD_DEV: '1', ...options.env },
    stdio: 'pipe',
  });
  child.stdin.on('error', ignoreClosedPipe);
  child.stdin.end(options.input ?? '');
  const streams = { stdout: '', stderr: '', all: '' };
  const watchers = new Set<() => void>();
  for (const name of ['stdout', 'stderr'] as const) {
    child[name].setEncoding('utf8').on('data', (text: string) => {
      streams[name] += text;
      streams.all += text;
      for (const check of watchers) check();
    });
  }
  const exited = exit(child, args, options.timeoutMs ?? DEFAULT_TIMEOUT_MS, streams);
  // Whoever awaits it sees the error; without anybody it must not end the whole test run.
  exited.catch(() => {});

  return {
    pid: child.pid ?? 0,
    exited,
    output: () => streams.all,
    signal: (signal) => void child.kill(signal),
    async waitFor(pattern) {
      const { promise, resolve } = Promise.withResolvers<RegExpExecArray>();
      const check = () => {
        const match = pattern.exec(streams.all);
        if (match !== null) resolve(match);
      };
      watchers.add(check);
      try {
        check();
        return await Promise.race([promise, exited.then((result) => exitedWithout(pattern, result))]);
      } finally {
        watchers.delete(check);
      }
    },
    async [Symbol.asyncDispose]() {
      if (child.exitCode === null && child.signalCode === null) child.kill('SIGINT');
      await exited.catch(() => {});
    },
  };
}

async function exit(child: ChildProcessWithoutNullStreams, args: readonly string[], timeoutMs: number, streams: { stdout: string; stderr: string; all: string }): Promise<HdResult> {
  let late = false;
  const timer = setTimeout(() => {
    late = true;
    child.kill('SIGKILL');
    // Something that `hd` left behind may hold them open.
    child.stdout.destroy();
    child.stderr.destroy();
  }, timeoutMs);
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    if (late) throw new HdError('TEST_TIMEOUT', `hd ${args.join(' ')} had not ended after ${timeoutMs} ms, or something that it left behind holds its output. Printed so far:\n${streams.all}`);
    return { code: code ?? 128 + signalNumber(signal), stdout: streams.stdout, stderr: streams.stderr };
  } finally {
    clearTimeout(timer);
  }
}

function exitedWithout(pattern: RegExp, result: HdResult): never {
  throw new HdError('HD_EXITED', `hd ended with ${result.code} before printing ${pattern}:\n${result.stdout}${result.stderr}`);
}

function signalNumber(signal: NodeJS.Signals | null): number {
  return signal === null ? 0 : constants.signals[signal];
}

/** `hd` may end without reading its input. */
function ignoreClosedPipe(error: NodeJS.ErrnoException): void {
  if (error.code !== 'EPIPE') throw error;
}
