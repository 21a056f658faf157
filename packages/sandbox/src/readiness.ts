import { readFileSync } from 'node:fs';
import { get } from 'node:http';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { stripVTControlCharacters } from 'node:util';
import { unreachable } from '@hyperdocker/base';

/** When a service counts as ready. Ports are those of the network that this process is in. */
export type ReadinessProbe =
  /** As soon as it has been launched. */
  | { readonly kind: 'started' }
  /** Something accepts connections, at 127.0.0.1 or ::1. */
  | { readonly kind: 'port'; readonly port: number }
  /** A connection at 127.0.0.1 to a socket that listens already has been accepted. */
  | { readonly kind: 'accepted'; readonly port: number }
  /** A GET is answered by a status below 500: whoever says 404 is up. */
  | { readonly kind: 'http'; readonly port: number; readonly path: string }
  /** Resolves to true; a rejection is a no. */
  | { readonly kind: 'command'; readonly run: (signal: AbortSignal) => Promise<boolean> }
  /** A line of the output matches. */
  | { readonly kind: 'log'; readonly lines: LineMatcher };

/** Asks quickly at first, then ever more slowly, until the answer is yes. */
export async function waitUntilReady(probe: ReadinessProbe, signal: AbortSignal): Promise<'ready' | 'aborted'> {
  switch (probe.kind) {
    case 'started':
      return signal.aborted ? 'aborted' : 'ready';
    case 'port':
      return poll((attempt) => anyLoopback((host) => acceptsConnections(host, probe.port, attempt)), signal);
    case 'accepted':
      return poll((attempt) => isAccepted(probe.port, attempt), signal);
    case 'http':
      return poll((attempt) => anyLoopback((host) => answersHttp(host, probe.port, probe.path, attempt)), signal);
    case 'command':
      return poll((attempt) => probe.run(attempt).catch(() => false), signal);
    case 'log':
      return Promise.race([probe.lines.matched.then(() => 'ready' as const), aborted(signal)]);
    default:
      return unreachable(probe);
  }
}

/** Looks for a line in output that comes in pieces. Colours are left out of account; of a very long line only the beginning is looked at. */
export class LineMatcher {
  readonly matched: Promise<void>;
  readonly #pattern: RegExp;
  readonly #resolve: () => void;
  #line = '';
  #decoder = new TextDecoder();

  constructor(pattern: RegExp) {
    this.#pattern = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ''));
    const { promise, resolve } = Promise.withResolvers<void>();
    this.matched = promise;
    this.#resolve = resolve;
  }

  write(bytes: Uint8Array): void {
    const lines = (this.#line + this.#decoder.decode(bytes, { stream: true })).split('\n');
    this.#line = (lines.at(-1) ?? '').slice(0, MAX_LINE_CHARACTERS);
    // The unfinished line counts as well: a prompt ends in no newline.
    if (lines.some((line) => this.#pattern.test(stripVTControlCharacters(line)))) this.#resolve();
  }
}

const MAX_LINE_CHARACTERS = 65_536;
const FIRST_INTERVAL_MS = 20;
const LAST_INTERVAL_MS = 500;
/** One question without an answer. */
const ATTEMPT_MS = 5_000;

async function poll(ask: (attempt: AbortSignal) => Promise<boolean>, signal: AbortSignal): Promise<'ready' | 'aborted'> {
  const started = performance.now();
  while (!signal.aborted) {
    if ((await attempt(ask, signal)) && !signal.aborted) return 'ready';
    // What is noticed late is late by a twentieth of the time that it took.
    const intervalMs = Math.max(FIRST_INTERVAL_MS, Math.min(LAST_INTERVAL_MS, (performance.now() - started) / 20));
    await delay(intervalMs, undefined, { signal }).catch(() => {});
  }
  return 'aborted';
}

/**
 * One question, with an end in any case. Not `AbortSignal.any` with `AbortSignal.timeout`: nothing but the combined signal holds the timeout, which can be collected
 * before it fires; then a connection that hangs is waited for, for ever.
 */
async function attempt(ask: (attempt: AbortSignal) => Promise<boolean>, signal: AbortSignal): Promise<boolean> {
  const end = new AbortController();
  const abort = (): void => end.abort();
  const timer = setTimeout(abort, ATTEMPT_MS);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([ask(end.signal), aborted(end.signal).then(() => false)]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', abort);
    end.abort();
  }
}

/** Yes as soon as one says so; no once both have. */
function anyLoopback(ask: (host: string) => Promise<boolean>): Promise<boolean> {
  const asked = ['127.0.0.1', '::1'].map(async (host) => {
    if (!(await ask(host))) throw new Error('no');
    return true;
  });
  return Promise.any(asked).catch(() => false);
}

function acceptsConnections(host: string, port: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host, port, signal });
    const finish = (answer: boolean) => () => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', finish(true)).once('error', finish(false));
  });
}

/** The kernel makes connections in the place of who is going to accept them; until then they have no inode. */
function isAccepted(port: number, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port, signal });
    let timer: NodeJS.Timeout | undefined;
    const finish = (answer: boolean) => () => {
      clearInterval(timer);
      socket.destroy();
      resolve(answer);
    };
    socket.once('error', finish(false)).once('end', finish(true)).resume();
    socket.once('connect', () => {
      const own = hexPort(socket.localPort ?? 0);
      timer = setInterval(() => {
        if (inodeOf(hexPort(port), own) !== 0) finish(true)();
      }, FIRST_INTERVAL_MS);
    });
  });
}

/** Of the connection from one port to another, as its other end has it. 0: nobody has it yet. */
function inodeOf(port: string, from: string): number | undefined {
  const row = readFileSync('/proc/thread-self/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/)).find(([, local = '', remote = '']) => local.endsWith(`:${port}`) && remote.endsWith(`:${from}`));
  return row === undefined ? undefined : Number(row[9]);
}

function hexPort(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, '0');
}

function answersHttp(host: string, port: number, path: string, signal: AbortSignal): Promise<boolean> {
  return new Promise((resolve) => {
    const request = get({ host, port, path, signal, agent: false, headers: { host: `localhost:${port}` } }, (response) => {
      response.destroy();
      resolve((response.statusCode ?? 500) < 500);
    });
    request.once('error', () => resolve(false));
  });
}

function aborted(signal: AbortSignal): Promise<'aborted'> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve('aborted');
    else signal.addEventListener('abort', () => resolve('aborted'), { once: true });
  });
}
