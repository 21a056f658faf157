/** The process that keeps one environment: started by `client.ts`, in a mount namespace of its own, ended by `down`. Until it is told of what, it waits. */
import { rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { HdError, describeError, processStartTime, listenPrivately } from '@hyperdocker/base';
import type { ErrorReply, ExecRequest, PullRequest } from './api.ts';
import { claim } from './claim.ts';
import type { SupervisorStart } from './client.ts';
import { envPaths, findProject, openHome } from './home.ts';
import { removeState, writeState } from './state-file.ts';
import { Supervisor } from './supervisor.ts';

/** How long a failed environment can be asked why, before its process ends. */
const LINGER_MS = 1_000;

async function main(start: SupervisorStart): Promise<void> {
  const home = openHome();
  const project = findProject(start.projectDir);
  const paths = envPaths(home, project);
  // A supervisor that goes on with another's files was started from their mount namespace.
  process.chdir(project.dir);
  await claim(paths);
  const supervisor = new Supervisor({ home, project, paths, hostEnv: process.env, ...start });
  const end = (code: number): void => {
    removeState(paths.stateFile);
    rmSync(paths.socket, { force: true });
    process.exit(code);
  };
  const down = (kill: boolean): Promise<void> => supervisor.down({ kill });
  const server = createServer((request, response) => {
    route(supervisor, request, response, async (kill) => {
      await down(kill);
      response.end('{}');
      server.close();
      response.once('close', () => end(0));
    }).catch((error: unknown) => sendError(response, error));
  });
  server.keepAliveTimeout = 0;
  await listen(server, paths.socket);
  writeState(paths.stateFile, {
    version: 1, pid: process.pid, startTime: processStartTime(process.pid) ?? '', project: project.dir, name: paths.id,
    runtime: supervisor.runtimePath, runtimeRoot: paths.runtimeRoot,
  });
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => void down(false).then(() => end(0)));
  process.on('SIGHUP', () => {});
  process.once('uncaughtException', (error) => {
    supervisor.fail(error);
    void supervisor.abandon().finally(() => setTimeout(() => end(1), LINGER_MS));
  });
  process.send?.({ ok: true });
  try {
    await supervisor.up();
  } catch (error) {
    process.stderr.write(`${describeError(error)}\n`);
    await down(true);
    setTimeout(() => end(1), LINGER_MS);
  }
}

async function route(supervisor: Supervisor, request: IncomingMessage, response: ServerResponse, down: (kill: boolean) => Promise<void>): Promise<void> {
  const url = new URL(request.url ?? '/', 'http://supervisor');
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /v1/version':
      return void response.end(JSON.stringify({ api: 1 }));
    case 'GET /v1/status':
      return void response.end(JSON.stringify(supervisor.status()));
    case 'GET /v1/events':
      return stream(supervisor, response, Number(url.searchParams.get('since') ?? 0));
    case 'POST /v1/down':
      return down(false);
    case 'POST /v1/kill':
      return down(true);
    case 'POST /v1/restart':
      await supervisor.restart((await body<{ services: string[] }>(request)).services);
      return void response.end('{}');
    case 'GET /v1/changes':
      return void response.end(JSON.stringify(await supervisor.changes()));
    case 'POST /v1/reset':
      return void response.end(JSON.stringify(await supervisor.reset()));
    case 'POST /v1/pull':
      return void response.end(JSON.stringify(await supervisor.pull(await body<PullRequest>(request))));
    case 'POST /v1/start':
      return void response.end(JSON.stringify({ failed: await supervisor.startServices((await body<{ services: string[] }>(request)).services) }));
    case 'POST /v1/stop':
      await supervisor.stopServices((await body<{ services: string[] }>(request)).services);
      return void response.end('{}');
    case 'POST /v1/exec':
      await supervisor.mended();
      return void response.end(JSON.stringify(await supervisor.exec(await body<ExecRequest>(request))));
    default:
      throw new HdError('NO_SUCH_CALL', `${request.method} ${url.pathname} is not a call of this interface`);
  }
}

function stream(supervisor: Supervisor, response: ServerResponse, since: number): void {
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  const subscription = supervisor.log.subscribe(since, (event) => void response.write(`${JSON.stringify(event)}\n`));
  response.once('close', () => subscription[Symbol.dispose]());
}

async function body<T>(request: IncomingMessage): Promise<T> {
  let text = '';
  for await (const chunk of request) text += String(chunk);
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new HdError('BAD_REQUEST', 'the request is not JSON', { cause });
  }
}

function sendError(response: ServerResponse, error: unknown): void {
  const json = error instanceof HdError ? error.toJSON() : { code: 'INTERNAL', message: describeError(error) };
  response.writeHead(error instanceof HdError ? 400 : 500).end(JSON.stringify({ error: json } satisfies ErrorReply));
}

/** @throws HdError SUPERVISOR_START */
async function listen(server: ReturnType<typeof createServer>, socket: string): Promise<void> {
  try {
    await listenPrivately(server, socket);
  } catch (cause) {
    throw new HdError('SUPERVISOR_START', `cannot listen on ${socket}`, { cause, hint: 'a shorter path in HD_HOME may help: such names have 107 characters at most' });
  }
}

process.once('message', (message) => {
  main(message as SupervisorStart).catch((error: unknown) => {
    const json = error instanceof HdError ? error.toJSON() : { code: 'INTERNAL', message: describeError(error) };
    process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.send?.({ error: json } satisfies ErrorReply, undefined, {}, () => process.exit(1));
  });
});
