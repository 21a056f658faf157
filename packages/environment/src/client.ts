import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { closeSync, constants, existsSync, mkdirSync, openSync, readFileSync, readdirSync, rmSync, rmdirSync, statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { FRUGAL_MALLOC, HdError, NODE_FLAGS, findProgram, isErrno } from '@hyperdocker/base';
import type { ChangedPath, DetachedReply, ErrorReply, ExecReply, ExecRequest, PullReply, PullRequest, ResetReply, StatusReply } from './api.ts';
import type { Emitted } from './events.ts';
import type { Answer, Question } from './exchange.ts';
import { exchange } from './exchange.ts';
import type { EnvPaths, Home, Project } from './home.ts';
import { servedRoot } from './live-record.ts';
import type { SpecText } from './spec-text.ts';
import { isAlive, readState } from './state-file.ts';
import { enterMounts, isOrdinaryUser, newMounts } from './user-namespace.ts';

const { O_WRONLY, O_CREAT, O_APPEND, O_TRUNC } = constants;

/** The other end of a supervisor's socket. */
export class SupervisorClient {
  readonly #socket: string;

  constructor(socket: string) {
    this.#socket = socket;
  }

  status(): Promise<StatusReply> {
    return this.#call<StatusReply>('GET', '/v1/status');
  }

  async down(options: { kill?: boolean } = {}): Promise<void> {
    await this.#call('POST', options.kill === true ? '/v1/kill' : '/v1/down');
  }

  /** Those of the profiles in use, where none is named. Returns the names of those that do not run. */
  async startServices(services: string[]): Promise<string[]> {
    return (await this.#call<{ failed: string[] }>('POST', '/v1/start', { services })).failed;
  }

  /** All, where none is named; the environment stays. Resolves when they have ended. */
  async stopServices(services: string[]): Promise<void> {
    await this.#call('POST', '/v1/stop', { services });
  }

  async restart(services: string[]): Promise<void> {
    await this.#call('POST', '/v1/restart', { services });
  }

  exec(body: ExecRequest): Promise<ExecReply> {
    return this.#call<ExecReply>('POST', '/v1/exec', body);
  }

  /** What services and commands have written over the environment's root. */
  changes(): Promise<ChangedPath[]> {
    return this.#call<ChangedPath[]>('GET', '/v1/changes');
  }

  /** Drops that, and restarts the services. */
  reset(): Promise<ResetReply> {
    return this.#call<ResetReply>('POST', '/v1/reset', {});
  }

  /** Brings files that were written inside to the host. */
  pull(request: PullRequest): Promise<PullReply> {
    return this.#call<PullReply>('POST', '/v1/pull', request);
  }

  /** Runs it without a client. Resolves once it runs, or cannot. */
  detach(body: ExecRequest): Promise<DetachedReply> {
    return this.#call<DetachedReply>('POST', '/v1/exec', { ...body, detach: true });
  }

  /** Events after `since`, as they come. Ends when the supervisor does, or when `signal` aborts. */
  async *events(since: number, signal?: AbortSignal): AsyncGenerator<Emitted> {
    const { body } = await this.#ask({ method: 'GET', path: `/v1/events?since=${since}`, signal });
    try {
      for await (const line of lines(body)) yield JSON.parse(line) as Emitted;
    } catch (error) {
      // The supervisor's death cuts the stream: for a reader that is its end.
      if (signal?.aborted === true || (error instanceof Error && 'code' in error && (error.code === 'ECONNRESET' || error.code === 'ERR_STREAM_PREMATURE_CLOSE'))) return;
      throw error;
    }
  }

  async #call<T>(method: Question['method'], path: string, body?: unknown): Promise<T> {
    const answer = await this.#ask({ method, path, body });
    try {
      return JSON.parse(await textOf(answer)) as T;
    } catch (cause) {
      throw notRunning(cause);
    }
  }

  async #ask(question: Question): Promise<Answer> {
    let answer: Answer;
    let problem: ErrorReply;
    try {
      answer = await exchange(this.#socket, question);
      if (answer.status === 200) return answer;
      problem = JSON.parse(await textOf(answer)) as ErrorReply;
    } catch (cause) {
      throw notRunning(cause);
    }
    throw HdError.fromJSON(problem.error);
  }
}

function notRunning(cause?: unknown): HdError {
  return new HdError('NOT_RUNNING', 'the environment is not running', { cause, hint: 'start it with `hd up`' });
}

async function textOf({ body }: Answer): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

/** Only whole ones: half a line is what a supervisor that was killed could not finish. */
async function* lines(body: AsyncIterable<Buffer>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = '';
  for await (const chunk of body) {
    const parts = (rest + decoder.decode(chunk, { stream: true })).split('\n');
    rest = parts.pop() ?? '';
    yield* parts;
  }
}

/** The supervisor of an environment, if one is alive. Cleans up after one that was killed, unless it has left files that can be adopted: `findLeft` tells. */
export async function connect(paths: EnvPaths): Promise<SupervisorClient | undefined> {
  const state = readState(paths.stateFile);
  if (state !== undefined && isAlive(state)) return existsSync(paths.socket) ? new SupervisorClient(paths.socket) : undefined;
  if (existsSync(paths.stateFile) || existsSync(paths.liveRecord)) await recover(paths, { evenServed: false });
  return undefined;
}

/** Loaded when it is needed: most of the time there is nothing to clean up. */
async function recover(paths: EnvPaths, options: { evenServed: boolean }): Promise<void> {
  const recovering = await import('./recover.ts');
  await recovering.recover(paths, options);
}

/** What a supervisor that was killed has left to be adopted. */
export interface Left { watch: boolean; profiles: string[] }

/** Undefined also where a supervisor lives. */
export function findLeft(paths: EnvPaths): Left | undefined {
  const state = readState(paths.stateFile);
  return state !== undefined && isAlive(state) ? undefined : servedRoot(paths);
}

/** Takes away what `findLeft` has found. */
export async function dropLeft(paths: EnvPaths): Promise<void> {
  await recover(paths, { evenServed: true });
}

/** @throws HdError NOT_RUNNING */
export async function connectOrFail(paths: EnvPaths): Promise<SupervisorClient> {
  const client = await connect(paths);
  if (client === undefined) throw notRunning();
  return client;
}

export interface LaunchOptions {
  home: Home;
  project: Project;
  paths: EnvPaths;
  refreshImage: boolean;
  watch: boolean;
  /** Of those services that run only where one of theirs is asked for. */
  profiles: string[];
  /** Run every step of the first build, also those whose results are known. */
  noCache: boolean;
  /** The project's hd.toml. */
  file: SpecText;
}

/** What a supervisor is told when it starts. */
export interface SupervisorStart extends Pick<LaunchOptions, 'refreshImage' | 'watch' | 'noCache' | 'profiles' | 'file'> { projectDir: string }

/**
 * A process that is to be a supervisor, and waits to be told of what. It starts while somebody looks at hd.toml: both take about as long. It is in a mount namespace of its
 * own: whatever it mounts is seen by nobody else and gone with its processes. Or in that of files that were left by one before, to go on with them.
 */
export class BootingSupervisor implements Disposable {
  readonly #child: ChildProcess;
  readonly #paths: EnvPaths;
  readonly #failed: Promise<unknown>;
  #isTold = false;

  constructor(projectDir: string, paths: EnvPaths, home: Home, [namespace = '', ...namespaceArgs]: readonly string[], logFlags: number) {
    this.#paths = paths;
    const { dir, supervisorLog } = paths;
    mkdirSync(dir, { recursive: true, mode: 0o700 });
    const log = openSync(supervisorLog, O_WRONLY | O_CREAT | O_APPEND | logFlags, 0o600);
    const main = fileURLToPath(new URL('./supervisor-main.ts', import.meta.url));
    const child = spawn(namespace, [...namespaceArgs, process.execPath, ...NODE_FLAGS, main], {
      stdio: ['ignore', log, log, 'ipc'],
      detached: true,
      cwd: projectDir,
      env: { NODE_COMPILE_CACHE: home.compiledDir, ...FRUGAL_MALLOC, ...process.env, HD_HOME: home.dir },
    });
    closeSync(log);
    this.#child = child;
    this.#failed = new Promise((resolve) => {
      child.once('error', resolve);
      child.once('exit', () => resolve(undefined));
    });
  }

  /** Resolves when it listens. @throws HdError SUPERVISOR_START, and what it says itself */
  async start(options: SupervisorStart): Promise<void> {
    this.#isTold = true;
    const child = this.#child;
    const answer = new Promise<ErrorReply | { ok: true }>((resolve) => void child.once('message', (message) => resolve(message as ErrorReply | { ok: true })));
    // What this meets, its death tells better.
    child.send(options, () => {});
    const reply = await Promise.race([answer, this.#failed.then((cause) => { throw this.#startProblem(cause); })]);
    if ('error' in reply) throw HdError.fromJSON(reply.error);
    child.removeAllListeners('exit');
    child.disconnect();
    child.unref();
  }

  /** One that was not told anything ends by itself, and there is nothing of an environment that has never been. */
  [Symbol.dispose](): void {
    if (this.#isTold) return;
    if (this.#child.connected) this.#child.disconnect();
    this.#child.unref();
    forgetEmpty(this.#paths);
  }

  #startProblem(cause: unknown): HdError {
    return new HdError('SUPERVISOR_START', `the supervisor did not start: ${readFileSync(this.#paths.supervisorLog, 'utf8').trim().split('\n').slice(-5).join('\n')}`, { cause, hint: 'see `hd doctor`' });
  }
}

/** Not by force: somebody else may just be making it. */
function forgetEmpty({ dir, supervisorLog }: EnvPaths): void {
  try {
    if (readdirSync(dir).length > 1 || statSync(supervisorLog).size > 0) return;
    rmSync(supervisorLog);
    rmdirSync(dir);
  } catch (error) {
    if (!isErrno(error, 'ENOENT', 'ENOTEMPTY')) throw error;
  }
}

/** Undefined where what it takes is not installed. */
export function bootSupervisor({ home, project, paths }: Pick<LaunchOptions, 'home' | 'project' | 'paths'>): BootingSupervisor | undefined {
  const served = servedRoot(paths);
  const [namespace, logFlags] = served === undefined
    ? [newMounts(), O_TRUNC] as const
    // The host that was left goes on writing to its log, and each puts its lines at the end.
    : [enterMounts(served.host.pid, { ordinary: isOrdinaryUser() }), 0] as const;
  return findProgram(namespace[0] ?? '', process.env['PATH']) === undefined ? undefined : new BootingSupervisor(project.dir, paths, home, namespace, logFlags);
}

/**
 * Starts a supervisor. Resolves when it listens.
 * @param booting one that was started ahead
 * @throws HdError SUPERVISOR_START
 */
export async function launch(options: LaunchOptions, booting = bootSupervisor(options)): Promise<SupervisorClient> {
  if (booting === undefined) throw new HdError('SUPERVISOR_START', 'there is no `unshare` or `nsenter` on PATH', { hint: 'install util-linux' });
  const { project, paths, refreshImage, watch, noCache, profiles, file } = options;
  const wasServed = servedRoot(paths) !== undefined;
  try {
    await booting.start({ projectDir: project.dir, refreshImage, watch, noCache, profiles, file });
  } catch (error) {
    if (!wasServed || servedRoot(paths) !== undefined) throw error;
    // Its time was up just now.
    await recover(paths, { evenServed: false });
    return await launch(options);
  }
  return new SupervisorClient(paths.socket);
}
