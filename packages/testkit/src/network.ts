import { HdError } from '@hyperdocker/base';
import { once } from 'node:events';
import { readdirSync, readlinkSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 20;
const DEFAULT_TIMEOUT_MS = 30_000;

export interface WaitOptions {
  /** 30 seconds unless told. */
  timeoutMs?: number;
}

/** A TCP port of the loopback address that nobody listened on a moment ago. */
export async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

/**
 * The first value other than `undefined` and `false` that `probe` gives. For outside facts that send no event; a probe that throws
 * is tried again. @throws HdError TEST_TIMEOUT, with the last thing thrown as its cause
 */
export async function waitUntil<T>(what: string, probe: () => T | undefined | false | Promise<T | undefined | false>, options: WaitOptions = {}): Promise<T> {
  const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
  const deadline = performance.now() + timeoutMs;
  let cause: unknown;
  for (;;) {
    try {
      const value = await probe();
      if (value !== undefined && value !== false) return value;
    } catch (error) {
      cause = error;
    }
    if (performance.now() >= deadline) throw new HdError('TEST_TIMEOUT', `not within ${timeoutMs} ms: ${what}`, { cause });
    await delay(POLL_MS);
  }
}

/** The body of the first answer of `url` that is as wanted: status 2xx, and `until` true of the body where given. */
export async function waitForHttp(url: string, options: WaitOptions & { until?: (body: string) => boolean } = {}): Promise<string> {
  let last = 'no answer';
  const probe = async () => {
    const response = await fetch(url, { headers: { connection: 'close' }, signal: AbortSignal.timeout(5000) });
    const body = await response.text();
    last = `${response.status} ${body.slice(0, 500)}`;
    return response.ok && (options.until?.(body) ?? true) ? body : undefined;
  };
  try {
    return await waitUntil(`an answer of ${url} as wanted`, probe, options);
  } catch (error) {
    if (!(error instanceof HdError)) throw error;
    throw new HdError(error.code, `${error.message}; the last answer: ${last}`, { cause: error.cause });
  }
}

/** Ids of all processes in any of these network namespaces, each as `net:[4026531840]`. */
export function processesIn(namespaces: readonly string[]): string[] {
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name)).filter((pid) => {
    try {
      return namespaces.includes(readlinkSync(`/proc/${pid}/ns/net`));
    } catch {
      return false;
    }
  });
}
