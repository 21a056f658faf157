import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { HdErrorJson } from '@hyperdocker/base';
import { FRUGAL_MALLOC, HdError, NODE_FLAGS, isErrno, sha256Hex } from '@hyperdocker/base';
import type { EnvSpec } from '@hyperdocker/spec';
import { buildsDir } from './dockerfile/build-files.ts';
import type { DockerfileBuilt, DockerfileRequest } from './dockerfile/request.ts';
import type { Emit, HdEvent } from './events.ts';
import type { Home } from './home.ts';
import { newMounts } from './user-namespace.ts';

/**
 * The process that builds environments that do not run, and Dockerfiles in which commands have to run, seen from its clients. It stays for a while after a build, since the next one then takes
 * half of the time: what serves files is started, the store is open, and V8 has compiled what it takes.
 *
 *   launch ─▶ listens ─┬─ a line of JSON ─▶ builds, several at once ─┬─ idle for HD_LINGER_SECONDS seconds ─▶ ends
 *                      └◀────────────────────────────────────────────┘
 *
 * A connection is a build: one `BuildOrder` as a line of JSON, then lines of `BuildMessage`. Who ends its side of the connection, or is gone, wants the build to stop.
 */
export type BuildOrder = DockerfileOrder | EnvironmentOrder;
export type BuildMessage = { begun: true } | { event: HdEvent } | { diagnosed: true } | { built: Built } | { error: HdErrorJson };

export interface DockerfileOrder { kind: 'dockerfile'; request: DockerfileRequest; env: NodeJS.ProcessEnv }

/** The environment of a project: what `hd up` would build. */
export interface EnvironmentOrder {
  kind: 'environment';
  projectDir: string;
  /** Of the project's hd.toml. */
  text: string;
  /** What it says, where the client knows. Else a message tells of diagnostics, be they errors or warnings: the client shows them. */
  spec?: EnvSpec;
  /** Ask for a newer base image. */
  refreshImage: boolean;
  /** Run every step. */
  noCache: boolean;
  env: NodeJS.ProcessEnv;
}

export type Built = { kind: 'dockerfile'; image: DockerfileBuilt } | { kind: 'environment'; root: string };
type BuiltFrom<Order extends BuildOrder> = Extract<Built, { kind: Order['kind'] }>;

/** A server: who asks of it, and what it is. */
export interface ServerSpot {
  home: Home;
  env: NodeJS.ProcessEnv;
  /** The file of its program. */
  program: string;
}

export interface BuildClientOptions {
  emit: Emit;
  signal: AbortSignal;
  /** There is something to say about the order's hd.toml. What it throws ends the build. */
  onDiagnosed?: () => Promise<void>;
}

/** Differ from one terminal to the next, and nothing that a build is made of looks at them. */
const OF_A_TERMINAL = /^(PWD|OLDPWD|SHLVL|_|TERM(_.*)?|COLORTERM|COLUMNS|LINES|WINDOWID|TMUX(_PANE)?|STY|SSH_(TTY|CLIENT|CONNECTION|AUTH_SOCK)|NO_COLOR|CLICOLOR(_FORCE)?|FORCE_COLOR)$/;

/**
 * Where a server listens. Programs that it starts, and proxies that it goes through, are those of its own environment variables: another environment, and another version of this program, have another server.
 */
export function serverSocket({ home, env, program }: ServerSpot): string {
  const lasting = Object.entries(env).filter(([name]) => !OF_A_TERMINAL.test(name)).sort(([a], [b]) => (a < b ? -1 : 1));
  return join(serversDir(home), sha256Hex(JSON.stringify([program, statSync(program).mtimeMs, lasting])).slice(0, 10));
}

/** Where the server that has started last takes calls (calls.ts). The script `hd` has this path, too. */
export function serversDoor(home: Home): string {
  return join(serversDir(home), 'door');
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

/** Builds in a server that has just been started. @throws HdError BUILD_GONE, and what the build throws */
export async function buildAtLaunched<Order extends BuildOrder>(socket: string, order: Order, options: BuildClientOptions): Promise<BuiltFrom<Order>> {
  const built = await (await connectToServer(socket))?.build(order, options);
  if (built === undefined) throw new HdError('BUILD_GONE', 'the process of the build ended before it had begun', { hint: 'start it again' });
  return built;
}

export interface BootingServer {
  /** @throws HdError BUILD_GONE, and what it says itself */
  listening: Promise<void>;
  /** It is not wanted any more. */
  dismiss(): void;
}

/** Starts a server ahead: that takes about as long as to find out what to ask of it. */
export function bootServer({ home, env, program: main }: ServerSpot, socket: string): BootingServer {
  const log = openSync(serverLog(home), 'w', 0o600);
  const [program, ...args] = newMounts();
  const child = spawn(program, [...args, process.execPath, ...NODE_FLAGS, main, socket], {
    stdio: ['ignore', log, log, 'ipc'], cwd: '/', env: { NODE_COMPILE_CACHE: home.compiledDir, ...FRUGAL_MALLOC, ...env, HD_HOME: home.dir }, detached: true,
  });
  closeSync(log);
  const problem = (why: string, cause?: unknown): HdError => new HdError('BUILD_GONE', `the build could not be started: ${why}`, { cause, hint: `see ${serverLog(home)} and \`hd doctor\`` });
  const started = Promise.withResolvers<void>();
  child.once('message', (message) => {
    const told = message as ServerStarted;
    if ('error' in told) started.reject(HdError.fromJSON(told.error));
    else started.resolve();
    child.removeAllListeners();
    if (child.connected) child.disconnect();
    child.unref();
  });
  child.once('error', (cause) => started.reject(problem(cause.message, cause)));
  child.once('exit', (code, killed) => started.reject(problem(`its process ended (${killed ?? code})`)));
  // Whoever awaits it sees what is wrong with it.
  started.promise.catch(() => {});
  return {
    listening: started.promise,
    dismiss: () => {
      if (child.connected) child.disconnect();
      child.unref();
    },
  };
}

/** What a server tells whoever has started it. */
export type ServerStarted = { listening: true } | { error: HdErrorJson };

/** What a bug of it has left. */
export function serverLog(home: Home): string {
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
  async build<Order extends BuildOrder>(order: Order, { emit, signal, onDiagnosed }: BuildClientOptions): Promise<BuiltFrom<Order> | undefined> {
    const socket = this.#socket;
    // What this meets, the end of the lines tells.
    socket.on('error', () => {});
    const stop = (): void => void socket.end();
    signal.addEventListener('abort', stop, { once: true });
    socket.write(`${JSON.stringify(order)}\n`);
    if (signal.aborted) stop();
    let hasBegun = false;
    try {
      for await (const line of createInterface({ input: socket, crlfDelay: Infinity })) {
        const message = JSON.parse(line) as BuildMessage;
        hasBegun = true;
        if ('event' in message) emit(message.event);
        else if ('diagnosed' in message) await onDiagnosed?.();
        else if ('error' in message) throw HdError.fromJSON(message.error);
        else if ('built' in message) return message.built as BuiltFrom<Order>;
      }
    } catch (error) {
      // That of a server that was killed with something unread.
      if (!isErrno(error, 'ECONNRESET', 'EPIPE')) throw error;
    } finally {
      signal.removeEventListener('abort', stop);
      socket.destroy();
    }
    if (hasBegun) throw new HdError('BUILD_GONE', 'the process of the build ended unexpectedly', { hint: 'start it again: what it had built is kept' });
    return undefined;
  }
}
