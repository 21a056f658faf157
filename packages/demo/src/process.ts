import { spawn } from 'node:child_process';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';

const POLL_MS = 5;
const PAGE_TIMEOUT_MS = 60_000;

export interface RunOptions { env?: NodeJS.ProcessEnv; cwd?: string }

/** Runs a program to its end; both of its streams in one text. @throws HdError COMMAND_FAILED */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, output } = await attempt(command, args, options);
  if (code !== 0) throw new HdError('COMMAND_FAILED', `${command} ${args.join(' ')} ended with ${code}:\n${output.slice(-4_000)}`);
  return output;
}

/** The same for a program that may fail. */
export async function attempt(command: string, args: readonly string[], options: RunOptions = {}): Promise<{ code: number | null; output: string }> {
  const child = spawn(command, [...args], { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  const code = await new Promise<number | null>((resolve, reject) => child.once('error', reject).once('close', resolve));
  return { code, output };
}

/** Where a page is asked for: a port of 127.0.0.1, or a Unix socket. */
export type PagePlace = { path?: string } & ({ port: number } | { socketPath: string });

/** Resolves at the first answer that contains the text. @throws HdError NO_SUCH_PAGE, after a minute unless told otherwise */
export async function waitForPage(port: number, text: string, { path = '/', timeoutMs = PAGE_TIMEOUT_MS }: { path?: string; timeoutMs?: number } = {}): Promise<void> {
  const startedMs = performance.now();
  let last: string | undefined;
  while (performance.now() - startedMs < timeoutMs) {
    last = await readPage({ port, path });
    if (last?.includes(text) === true) return;
    await delay(POLL_MS);
  }
  throw new HdError('NO_SUCH_PAGE', `port ${port} never showed ${JSON.stringify(text)}; its last answer: ${last?.slice(0, 500) ?? 'none'}`);
}

/** The body of an answer of any status; undefined while nobody answers. */
export function readPage(place: PagePlace): Promise<string | undefined> {
  const where = 'port' in place ? { host: '127.0.0.1', port: place.port } : { socketPath: place.socketPath };
  return new Promise((resolve) => {
    const request = get({ ...where, path: place.path ?? '/', agent: false, timeout: 10_000 }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      response.once('close', () => resolve(body));
    });
    request.once('timeout', () => request.destroy());
    request.once('error', () => resolve(undefined));
  });
}

export function freePort(): Promise<number> {
  return new Promise((resolve) => {
    const server = createServer();
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => resolve(typeof address === 'object' && address !== null ? address.port : 0));
    });
  });
}
