import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { HdErrorJson } from '@hyperdocker/base';
import { FRUGAL_MALLOC, HdError, NODE_FLAGS, isErrno, sha256Hex } from '@hyperdocker/base';
import type { Emit, HdEvent } from '../events.ts';
import type { Home } from '../home.ts';
import { unshareOptions } from '../user-namespace.ts';
import { buildsDir } from './build-files.ts';
import type { DockerfileBuilt, DockerfileRequest } from './request.ts';

/**
 * The process that builds Dockerfiles in which commands have to run, seen from its clients. It stays for a while after a build, since the next one then takes half of the time: what serves files
 * is started, the store is open, and V8 has compiled what it takes.
 *
 *   launch ─▶ listens ─┬─ a line of JSON ─▶ builds, several at once ─┬─ idle for HD_LINGER_SECONDS seconds ─▶ ends
 *                      └◀────────────────────────────────────────────┘
 *
 * A connection is a build: one `BuildOrder` as a line of JSON, then lines of `BuildMessage`. Who ends its side of the connection, or is gone, wants the build to stop.
 */
export interface BuildOrder { request: DockerfileRequest; env: NodeJS.ProcessEnv }
export type BuildMessage = { begun: true } | { event: HdEvent } | { built: DockerfileBuilt } | { error: HdErrorJson };

export interface BuildClientOptions {
  /** Of whoever asks for the build. */
  env: NodeJS.ProcessEnv;
  emit: Emit;
  signal: AbortSignal;
}

const MAIN = fileURLToPath(new URL('./build-server-main.ts', import.meta.url));
/** Differ from one terminal to the next, and nothing that a build is made of looks at them. */
const OF_A_TERMINAL = /^(PWD|OLDPWD|SHLVL|_|TERM(_.*)?|COLORTERM|COLUMNS|LINES|WINDOWID|TMUX(_PANE)?|STY|SSH_(TTY|CLIENT|CONNECTION|AUTH_SOCK)|NO_COLOR|CLICOLOR(_FORCE)?|FORCE_COLOR)$/;

/**
 * Where a server listens. Programs that it starts, and proxies that it goes through, are those of its own environment variables: another environment, and another version of this program, have another server.
 */
export function serverSocket(home: Home, env: NodeJS.ProcessEnv): string {
  const lasting = Object.entries(env).filter(([name]) => !OF_A_TERMINAL.test(name)).sort(([a], [b]) => (a < b ? -1 : 1));
  return join(serversDir(home), sha256Hex(JSON.stringify([MAIN, statSync(MAIN).mtimeMs, lasting])).slice(0, 10));
}

export function serversDir(home: Home): string {
  const dir = join(buildsDir(home), 'servers');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return dir;
}

/** Undefined: none listens there. */
export async function connectToServer(socket: string): Promise<BuildConnection | undefined> {
  const connection = connect({ path: socket, allowHalfOpen: true });
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  connection.once('connect', resolve);
  connection.once('error', reject);
  try {
    await promise;
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ECONNREFUSED')) return undefined;
    throw error;
  }
  connection.off('error', reject);
  return new BuildConnection(connection);
}

/** Starts a server. Resolves when it listens. @throws HdError BUILD_GONE */
export async function launchServer(home: Home, env: NodeJS.ProcessEnv, socket: string): Promise<void> {
  const log = openSync(serverLog(home), 'w', 0o600);
  // Whatever it mounts is seen by nobody else and gone with its processes.
  const child = spawn('unshare', [...unshareOptions(), '--mount', '--propagation', 'slave', process.execPath, ...NODE_FLAGS, MAIN, socket], {
    stdio: ['ignore', log, log, 'ipc'], cwd: '/', env: { NODE_COMPILE_CACHE: home.compiledDir, ...FRUGAL_MALLOC, ...env, HD_HOME: home.dir }, detached: true,
  });
  closeSync(log);
  const problem = (why: string, cause?: unknown): HdError => new HdError('BUILD_GONE', `the build could not be started: ${why}`, { cause, hint: `see ${serverLog(home)} and \`hd doctor\`` });
  await new Promise<void>((resolve, reject) => {
    child.once('message', () => resolve());
    child.once('error', (cause) => reject(problem(cause.message, cause)));
    child.once('exit', (code, killed) => reject(problem(`its process ended (${killed ?? code})`)));
  });
  child.removeAllListeners();
  child.disconnect();
  child.unref();
}

function serverLog(home: Home): string {
  return join(buildsDir(home), 'server.log');
}

/** For one build. */
export class BuildConnection {
  readonly #socket: Socket;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  close(): void {
    this.#socket.destroy();
  }

  /**
   * @returns undefined: the server has ended, before it had begun
   * @throws HdError what the build throws; BUILD_GONE
   */
  async build(request: DockerfileRequest, { env, emit, signal }: BuildClientOptions): Promise<DockerfileBuilt | undefined> {
    const socket = this.#socket;
    // What this meets, the end of the lines tells.
    socket.on('error', () => {});
    const stop = (): void => void socket.end();
    signal.addEventListener('abort', stop, { once: true });
    socket.write(`${JSON.stringify({ request, env } satisfies BuildOrder)}\n`);
    if (signal.aborted) stop();
    let hasBegun = false;
    try {
      for await (const line of createInterface({ input: socket, crlfDelay: Infinity })) {
        const message = JSON.parse(line) as BuildMessage;
        hasBegun = true;
        if ('event' in message) emit(message.event);
        else if ('error' in message) throw HdError.fromJSON(message.error);
        else if ('built' in message) return message.built;
      }
    } finally {
      signal.removeEventListener('abort', stop);
      socket.destroy();
    }
    if (hasBegun) throw new HdError('BUILD_GONE', 'the process of the build ended unexpectedly', { hint: 'start it again: what it had built is kept' });
    return undefined;
  }
}
