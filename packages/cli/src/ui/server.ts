import { readFileSync } from 'node:fs';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { createServer } from 'node:http';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { HdError, describeError } from '@hyperdocker/base';
import type { Emitted } from '@hyperdocker/environment';
import { printable } from '../terminal.ts';
import { SAFE_HEADERS, refuseOtherNames, refuseOtherPages, refuseWithoutToken } from './admission.ts';
import type { Dashboard } from './dashboard.ts';

export interface UiServer extends AsyncDisposable { port: number; /** With the token, after the `#`: browsers keep that to themselves. */ url: string }

/** What the page is made of. There is nothing of anybody's in it: it is served without the token. */
const ASSETS: Record<string, { type: string; file: URL }> = {
  '/': { type: 'text/html; charset=utf-8', file: new URL('./page/index.html', import.meta.url) },
  '/page.css': { type: 'text/css; charset=utf-8', file: new URL('./page/page.css', import.meta.url) },
  '/page.js': { type: 'text/javascript; charset=utf-8', file: new URL('./page/page.js', import.meta.url) },
  '/icon.svg': { type: 'image/svg+xml', file: new URL('./page/icon.svg', import.meta.url) },
};
const ACTIONS = ['start', 'stop', 'restart'] as const;
const BODY_LIMIT = 64 * 1024;
const STATUS_OF: Record<string, number> = { NOT_RUNNING: 409, NOT_READY: 409, NOT_BUILT: 404, NO_SUCH_SERVICE: 404, NO_SUCH_CALL: 404, BAD_REQUEST: 400, SPEC_INVALID: 409, NO_PROJECT: 404 };

/**
 * A page and its data on 127.0.0.1, for whoever has the token.
 *
 *   GET  /                          the page, and its parts; without the token
 *   GET  /api/overview              → Overview
 *   GET  /api/events?since=SEQ      → NDJSON of Emitted, until the environment stops
 *   GET  /api/logs                  → LogEntry[], the last ones
 *   GET  /api/build                 → BuildView
 *   GET  /api/store                 → StoreView
 *   POST /api/services {action, services}   start, stop or restart
 *
 * @param port 0: any
 * @throws HdError UI_LISTEN
 */
export async function serveUi(dashboard: Dashboard, { token, port }: { token: string; port: number }): Promise<UiServer> {
  const server: Server = createServer((request, response) => {
    handle(dashboard, request, response, { token, port: (server.address() as AddressInfo).port }).catch((error: unknown) => sendError(response, error));
  });
  try {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
  } catch (cause) {
    throw new HdError('UI_LISTEN', `cannot listen on port ${port}: ${describeError(cause)}`, { cause, hint: 'take another one with --port, or none for any that is free' });
  }
  const { port: taken } = server.address() as AddressInfo;
  return {
    port: taken,
    url: `http://127.0.0.1:${taken}/#token=${token}`,
    [Symbol.asyncDispose]: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}

async function handle(dashboard: Dashboard, request: IncomingMessage, response: ServerResponse, { token, port }: { token: string; port: number }): Promise<void> {
  for (const [name, value] of Object.entries(SAFE_HEADERS)) response.setHeader(name, value);
  const url = new URL(request.url ?? '/', 'http://ui');
  const refusal = refuseOtherNames(request, port) ?? (url.pathname.startsWith('/api/') ? (refuseOtherPages(request) ?? refuseWithoutToken(request, token)) : undefined);
  if (refusal !== undefined) return void response.writeHead(refusal.status, { 'content-type': 'text/plain; charset=utf-8' }).end(`${refusal.why}\n`);
  const asset = request.method === 'GET' ? ASSETS[url.pathname] : undefined;
  if (asset !== undefined) return void response.setHeader('content-type', asset.type).end(readFileSync(asset.file));
  switch (`${request.method} ${url.pathname}`) {
    case 'GET /api/overview':
      return send(response, await dashboard.overview());
    case 'GET /api/logs':
      return send(response, dashboard.logs());
    case 'GET /api/build':
      return send(response, dashboard.build());
    case 'GET /api/store':
      return send(response, dashboard.store());
    case 'GET /api/events':
      return stream(dashboard, response, Number(url.searchParams.get('since') ?? 0));
    case 'POST /api/services':
      return send(response, await act(dashboard, await bodyOf(request)));
    default:
      throw new HdError('NO_SUCH_CALL', `${request.method} ${url.pathname} is not a call of this interface`);
  }
}

async function act(dashboard: Dashboard, body: unknown): Promise<{ failed: string[] }> {
  const { action, services } = (body ?? {}) as { action?: unknown; services?: unknown };
  const isList = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');
  if (!ACTIONS.some((known) => known === action) || !isList(services)) throw new HdError('BAD_REQUEST', 'an action is `start`, `stop` or `restart`, with a list of services');
  const client = await dashboard.client();
  if (action === 'start') return { failed: await client.startServices(services) };
  await (action === 'stop' ? client.stopServices(services) : client.restart(services));
  return { failed: [] };
}

async function stream(dashboard: Dashboard, response: ServerResponse, since: number): Promise<void> {
  const client = await dashboard.client();
  const gone = new AbortController();
  response.once('close', () => gone.abort());
  response.writeHead(200, { 'content-type': 'application/x-ndjson' });
  response.flushHeaders();
  for await (const event of client.events(since, gone.signal)) {
    // A page that does not read holds nobody up but itself.
    if (!response.write(`${JSON.stringify(clean(event))}\n`)) await Promise.race([once(response, 'drain'), once(response, 'close')]);
    if (gone.signal.aborted) return;
  }
  response.end();
}

function clean(event: Emitted): Emitted {
  return 'text' in event ? { ...event, text: printable(event.text) } : event;
}

function send(response: ServerResponse, value: unknown): void {
  response.setHeader('content-type', 'application/json').end(JSON.stringify(value));
}

/** @throws HdError BAD_REQUEST */
async function bodyOf(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    length += chunk.length;
    if (length > BODY_LIMIT) throw new HdError('BAD_REQUEST', 'the request is too long');
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString()) as unknown;
  } catch (cause) {
    throw new HdError('BAD_REQUEST', 'the request is not JSON', { cause });
  }
}

function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) return void response.destroy();
  const json = error instanceof HdError ? error.toJSON() : { code: 'INTERNAL', message: describeError(error) };
  response.writeHead(STATUS_OF[json.code] ?? 500, { 'content-type': 'application/json' }).end(JSON.stringify({ error: json }));
}
