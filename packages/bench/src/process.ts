import { spawn } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { get } from 'node:http';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';

const POLL_MS = 5;
const PAGE_TIMEOUT_MS = 60_000;

export interface RunOptions { env?: NodeJS.ProcessEnv; cwd?: string }

/** Runs a program to its end; both of its streams in one text. @throws HdError BENCH_COMMAND when it fails. */
export async function run(command: string, args: readonly string[], options: RunOptions = {}): Promise<string> {
  const { code, output } = await attempt(command, args, options);
  if (code !== 0) throw new HdError('BENCH_COMMAND', `${command} ${args.join(' ')} ended with ${code}:\n${output.slice(-4_000)}`);
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

/** The next to read a file reads it from the disk. */
export async function emptyPageCache(): Promise<void> {
  await run('sync', []);
  writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/** Resolves at the first answer that contains the text. @throws HdError BENCH_PAGE after a minute. */
export async function waitForPage(port: number, text: string): Promise<void> {
  const startedMs = performance.now();
  let last = '';
  while (performance.now() - startedMs < PAGE_TIMEOUT_MS) {
    last = await page(port);
    if (last.includes(text)) return;
    await delay(POLL_MS);
  }
  throw new HdError('BENCH_PAGE', `port ${port} never showed ${JSON.stringify(text)}; its last answer: ${last.slice(0, 500)}`);
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

/** Empty while nobody answers. */
function page(port: number): Promise<string> {
  return new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port, agent: false, timeout: 2_000 }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (chunk: string) => (body += chunk));
      response.once('close', () => resolve(body));
    });
    request.once('timeout', () => request.destroy());
    request.once('error', () => resolve(''));
  });
}
