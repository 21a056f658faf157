import { createReadStream, existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import tls from 'node:tls';
import { HdError } from '@hyperdocker/base';

export type HttpMethod = 'GET' | 'HEAD' | 'POST' | 'PUT';
export type HttpBody = Uint8Array | { path: string };
export interface HttpAsk { method: HttpMethod; headers: Record<string, string>; body?: HttpBody | undefined; signal?: AbortSignal | undefined }

export interface HttpAnswer {
  status: number;
  /** By their names in lower case. */
  headers: Record<string, string | undefined>;
  /** Ends with an error where the connection is cut. Read it, or `discard` it. */
  body: AsyncIterable<Buffer>;
  discard(): void;
}

/** One request, redirects followed. Rejects where there is no answer; every status is one. */
export type Transport = (url: string, ask: HttpAsk) => Promise<HttpAnswer>;

export interface TransportOptions {
  /** By registry domain: a file of certificate authorities, beside those of the system. */
  ca?: Record<string, string> | undefined;
  /** Hosts whose certificates are not looked at. */
  unverified?: ((host: string) => boolean) | undefined;
  /** For proxies (HTTP_PROXY, HTTPS_PROXY, NO_PROXY) and certificates (HD_CA_BUNDLE, SSL_CERT_FILE, NODE_EXTRA_CA_CERTS). */
  env?: NodeJS.ProcessEnv | undefined;
  /** As Docker's /etc/docker/certs.d: HOST/*.crt are authorities, HOST/NAME.cert with NAME.key our own certificate. */
  certsDirs?: readonly string[] | undefined;
}

const REDIRECTS_MAX = 5;
const IDLE_MS = 60_000;
const CA_VARIABLES = ['HD_CA_BUNDLE', 'SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS'];

/** Requests over connections that are kept open. */
export function httpTransport(options: TransportOptions = {}): Transport {
  const agents = new Map<string, http.Agent>();
  const agentOf = (url: URL): http.Agent => {
    const key = `${url.protocol}//${url.host}`;
    let agent = agents.get(key);
    if (agent === undefined) agents.set(key, (agent = newAgent(url, options)));
    return agent;
  };
  return async (url, ask) => {
    let target = new URL(url);
    let { headers } = ask;
    for (let hops = 0; ; hops++) {
      const answer = await send(target, { ...ask, headers }, agentOf(target));
      const location = headersOf(answer)['location'];
      if (![301, 302, 303, 307, 308].includes(answer.statusCode ?? 0) || location === undefined || hops === REDIRECTS_MAX) {
        return { status: answer.statusCode ?? 0, headers: headersOf(answer), body: answer, discard: () => void answer.resume() };
      }
      answer.resume();
      const next = new URL(location, target);
      // A login is for the host that asked for it: where blobs are kept, others may listen.
      if (next.host !== target.host) headers = Object.fromEntries(Object.entries(headers).filter(([name]) => name !== 'authorization'));
      target = next;
    }
  };
}

/** The proxy that requests to a URL go through. */
export function proxyOf(url: URL, env: NodeJS.ProcessEnv): string | undefined {
  if (isLoopback(url.host)) return undefined;
  const [lower, upper] = url.protocol === 'https:' ? ['https_proxy', 'HTTPS_PROXY'] : ['http_proxy', 'HTTP_PROXY'];
  const proxy = env[lower] ?? env[upper];
  return proxy === '' ? undefined : proxy;
}

export function isLoopback(host: string): boolean {
  const name = withoutPort(host);
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name);
}

export function withoutPort(host: string): string {
  return host.replace(/:\d+$/, '');
}

function newAgent(url: URL, options: TransportOptions): http.Agent {
  const env = options.env ?? process.env;
  const proxy = proxyOf(url, env) === undefined ? {} : { proxyEnv: env };
  const common = { keepAlive: true, timeout: IDLE_MS, ...proxy };
  return url.protocol === 'https:' ? new https.Agent({ ...common, ...tlsOptions(url.host, options, env) }) : new http.Agent(common);
}

function tlsOptions(host: string, options: TransportOptions, env: NodeJS.ProcessEnv): https.AgentOptions {
  const own = hostCertificates(host, options.certsDirs ?? defaultCertsDirs(env));
  const named = options.ca?.[host] ?? options.ca?.[withoutPort(host)];
  const bundles = [...CA_VARIABLES.map((name) => env[name] ?? '').filter((path) => path !== '' && existsSync(path)), ...(named === undefined ? [] : [named]), ...own.ca];
  const ca = [...new Set(bundles)].map(readCertificates);
  return {
    ...(ca.length === 0 ? {} : { ca: [...tls.getCACertificates('default'), ...ca] }),
    ...(own.pair === undefined ? {} : { cert: readCertificates(own.pair.cert), key: readCertificates(own.pair.key) }),
    ...(options.unverified?.(host) === true ? { rejectUnauthorized: false } : {}),
  };
}

function defaultCertsDirs(env: NodeJS.ProcessEnv): string[] {
  return ['/etc/docker/certs.d', '/etc/containers/certs.d', join(env['HOME'] ?? homedir(), '.config/containers/certs.d')];
}

function hostCertificates(host: string, dirs: readonly string[]): { ca: string[]; pair?: { cert: string; key: string } } {
  const dir = dirs.map((each) => join(each, host)).find((each) => statSync(each, { throwIfNoEntry: false })?.isDirectory() === true);
  if (dir === undefined) return { ca: [] };
  const names = readdirSync(dir).sort();
  const cert = names.find((name) => name.endsWith('.cert') && names.includes(name.replace(/cert$/, 'key')));
  return { ca: names.filter((name) => name.endsWith('.crt')).map((name) => join(dir, name)), ...(cert === undefined ? {} : { pair: { cert: join(dir, cert), key: join(dir, cert.replace(/cert$/, 'key')) } }) };
}

function readCertificates(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new HdError('REGISTRY_CONFIG', `cannot read the certificates in ${path}`, { cause });
  }
}

function send(url: URL, { method, headers, body, signal }: HttpAsk, agent: http.Agent): Promise<http.IncomingMessage> {
  return new Promise((resolve, reject) => {
    const length = body === undefined ? (method === 'POST' || method === 'PUT' ? 0 : undefined) : body instanceof Uint8Array ? body.length : statSync(body.path).size;
    const options = { method, agent, headers: { ...headers, ...(length === undefined ? {} : { 'content-length': String(length) }) }, ...(signal === undefined ? {} : { signal }) };
    const request = (url.protocol === 'https:' ? https : http).request(url, options, resolve);
    request.once('error', reject);
    request.setTimeout(IDLE_MS, () => request.destroy(Object.assign(new Error('no answer'), { code: 'ETIMEDOUT' })));
    if (body === undefined || body instanceof Uint8Array) request.end(body);
    // Errors of either end are those of the request.
    else pipeline(createReadStream(body.path, { highWaterMark: 1 << 20 }), request, (error) => error && reject(error));
  });
}

function headersOf(answer: http.IncomingMessage): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(answer.headers).map(([name, value]) => [name, Array.isArray(value) ? value.join(', ') : value]));
}
