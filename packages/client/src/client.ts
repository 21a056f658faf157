import { createHash } from 'node:crypto';
import { realpathSync } from 'node:fs';
import { request, type IncomingMessage } from 'node:http';
import { homedir } from 'node:os';
import { basename, join } from 'node:path';
import type { ChangedPath, DetachedReply, Emitted, ExecRequest, PullReply, PullRequest, ResetReply, StatusReply } from '@hyperdocker/environment';
import { EVENTS_PATH, ROUTES, type CallName, type Calls } from './calls.ts';

/** What the supervisor says went wrong. `code` is stable: docs/format/state.md. `NOT_RUNNING`: there is no supervisor that could answer. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code: string;
  readonly hint: string | undefined;

  constructor({ code, message, hint }: { code: string; message: string; hint?: string }, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.hint = hint;
  }
}

/**
 * Where the supervisor of a project listens, whether it runs or not.
 * @param projectDir the directory of its hd.toml
 * @param home `HD_HOME`; `~/.hd` where neither it nor the variable is given
 */
export function socketOf(projectDir: string, home = process.env['HD_HOME'] ?? join(homedir(), '.hd')): string {
  const dir = realpathSync(projectDir);
  const name = basename(dir).toLowerCase().replace(/[^a-z0-9_.-]/g, '-').slice(0, 30);
  return join(home, 'envs', `${name}-${createHash('sha256').update(dir).digest('hex').slice(0, 10)}`, 's');
}

/** A running environment, by the API of its supervisor. Each call has a connection of its own; nothing is to be closed. Calls throw `ApiError`. */
export class Client {
  readonly #socket: string;

  /** @param socket from `socketOf` */
  constructor(socket: string) {
    this.#socket = socket;
  }

  status(): Promise<StatusReply> {
    return this.call('status');
  }

  /** Starts services: where none is named, those that `hd up` starts. Resolves with those that do not run. */
  async start(services: string[] = []): Promise<string[]> {
    return (await this.call('start', { services })).failed;
  }

  /** Stops services, and what depends on them; where none is named, all. The environment stays up. */
  async stop(services: string[] = []): Promise<void> {
    await this.call('stop', { services });
  }

  /** Restarts services; where none is named, all. Resolves when that has begun: events tell what comes of it. */
  async restart(services: string[] = []): Promise<void> {
    await this.call('restart', { services });
  }

  /** What services and commands have written over the environment's files. */
  changes(): Promise<ChangedPath[]> {
    return this.call('changes');
  }

  /** Drops that, and restarts the services. */
  reset(): Promise<ResetReply> {
    return this.call('reset');
  }

  /** Brings files that were written inside to the host. */
  pull(request: PullRequest): Promise<PullReply> {
    return this.call('pull', request);
  }

  /** Runs a command inside without its output; it runs on by itself. */
  async run(command: Omit<ExecRequest, 'terminal' | 'detach'>): Promise<DetachedReply> {
    return (await this.call('exec', { ...command, terminal: false, detach: true })) as DetachedReply;
  }

  /** Stops everything. Resolves when nothing runs any more. */
  async down({ kill = false } = {}): Promise<void> {
    await this.call(kill ? 'kill' : 'down');
  }

  /**
   * What happens in the environment, until its supervisor ends or `signal` aborts.
   * @param since the number of the last event that is known: 0 for all that are kept; from now on where it is left out
   */
  async *events({ since, signal }: { since?: number; signal?: AbortSignal } = {}): AsyncGenerator<Emitted> {
    const response = await this.#ask('GET', `${EVENTS_PATH}?since=${since ?? Number.MAX_SAFE_INTEGER}`, undefined, signal);
    let rest = '';
    try {
      for await (const text of response.setEncoding('utf8') as AsyncIterable<string>) {
        const lines = (rest + text).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) yield JSON.parse(line) as Emitted;
      }
    } catch (error) {
      // A supervisor that was killed says no goodbye.
      if (signal?.aborted !== true && !isCut(error)) throw error;
    } finally {
      response.destroy();
    }
  }

  /** Any call, as it is. */
  async call<Name extends CallName>(name: Name, ...[body]: Calls[Name]['takes'] extends undefined ? [] : [body: Calls[Name]['takes']]): Promise<Calls[Name]['gives']> {
    const { method, path } = ROUTES[name];
    const response = await this.#ask(method, path, body);
    return JSON.parse(await textOf(response)) as Calls[Name]['gives'];
  }

  async #ask(method: string, path: string, body: unknown, signal?: AbortSignal): Promise<IncomingMessage> {
    const response = await this.#send(method, path, body, signal);
    if (response.statusCode === 200) return response;
    const { error } = JSON.parse(await textOf(response)) as { error: { code: string; message: string; hint?: string } };
    throw new ApiError(error);
  }

  #send(method: string, path: string, body: unknown, signal: AbortSignal | undefined): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const sent = request({ socketPath: this.#socket, method, path, agent: false, headers: { 'content-type': 'application/json' }, ...(signal === undefined ? {} : { signal }) }, resolve);
      sent.once('error', (cause) => reject(isDenied(cause) ? new ApiError({ code: 'NOT_YOURS', message: 'the environment belongs to another user' }, cause) : new ApiError({ code: 'NOT_RUNNING', message: 'the environment is not running', hint: 'start it with `hd up`' }, cause)));
      sent.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  try {
    for await (const part of response.setEncoding('utf8') as AsyncIterable<string>) text += part;
  } catch (cause) {
    throw new ApiError({ code: 'NOT_RUNNING', message: 'the environment ended while it was asked' }, cause);
  }
  return text;
}

function isDenied(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EACCES';
}

function isCut(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'ERR_STREAM_PREMATURE_CLOSE');
}
