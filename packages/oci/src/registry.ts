import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openAsBlob, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError, describeError } from '@hyperdocker/base';
import { writeAll } from './blob-spool.ts';
import { dockerCredentials } from './credentials.ts';
import type { CredentialLookup, Credentials } from './credentials.ts';
import { compareDigest, sha256Of } from './decompress.ts';
import { MANIFEST_TYPES } from './manifest.ts';
import type { Descriptor } from './manifest.ts';
import { formatReference, registryHost } from './reference.ts';
import type { Reference } from './reference.ts';

export interface RegistryConfig {
  /** By registry domain: base URLs that are tried first, in order. */
  mirrors: Record<string, string[]>;
  /** Domains that speak plain HTTP. Loopback addresses always may. */
  insecure: string[];
}

export interface RegistryOptions {
  config?: Partial<RegistryConfig> | undefined;
  /** Default: Docker's `config.json`. */
  credentials?: CredentialLookup | undefined;
  fetcher?: typeof fetch | undefined;
  signal?: AbortSignal | undefined;
  /** Before the first retry; doubles with each. */
  retryDelayMs?: number | undefined;
}

export interface FetchedManifest { bytes: Buffer; digest: string }

interface Endpoint { base: string; host: string; plainHttp: boolean; credentials: Credentials | undefined }

const ATTEMPTS = 4;
const RETRY_AFTER_MS_MAX = 10_000;
const DOCUMENT_BYTES_MAX = 8 << 20;
/** What may be otherwise the next time. */
const MAY_PASS = new Set(['REGISTRY_FAILED', 'REGISTRY_UNREACHABLE']);
/** Trying again at once would meet the same. */
const PERMANENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'EACCES', 'UND_ERR_CONNECT_TIMEOUT']);

/** What is asked of a registry. A body is made anew for each try. */
interface Ask { method?: 'GET' | 'HEAD' | 'POST' | 'PUT'; headers?: Record<string, string>; body?: () => Promise<Blob> | Uint8Array<ArrayBuffer> }

/**
 * Reads and writes images in registries (OCI distribution API, anonymous, bearer and basic login). For reading, mirrors are asked before the registry.
 * Every byte is compared with its digest. Failures that may pass (429, 5xx, cut connections) are tried again a few times.
 * All methods throw HdError REGISTRY_UNREACHABLE, REGISTRY_AUTH, REGISTRY_FAILED, IMAGE_NOT_FOUND or DIGEST_MISMATCH.
 */
export class RegistryClient {
  readonly #mirrors: Record<string, string[]>;
  readonly #insecure: string[];
  readonly #credentials: CredentialLookup;
  readonly #fetch: typeof fetch;
  readonly #signal: AbortSignal | undefined;
  readonly #retryDelayMs: number;
  /** `Authorization` values, by endpoint and repository. */
  readonly #authorization = new Map<string, string>();

  constructor(options: RegistryOptions = {}) {
    this.#mirrors = options.config?.mirrors ?? {};
    this.#insecure = options.config?.insecure ?? [];
    this.#credentials = options.credentials ?? dockerCredentials();
    this.#fetch = options.fetcher ?? fetch;
    this.#signal = options.signal;
    this.#retryDelayMs = options.retryDelayMs ?? 300;
  }

  /** The manifest or index that the reference names; by digest where it has one. */
  manifest(reference: Reference): Promise<FetchedManifest> {
    return this.#fromAny(reference, async (endpoint) => {
      const response = await this.#get(endpoint, reference, `manifests/${reference.digest ?? reference.tag}`, { accept: MANIFEST_TYPES.join(', ') });
      const bytes = await readBounded(response, reference);
      const sha256 = sha256Of(bytes);
      const promised = reference.digest ?? response.headers.get('docker-content-digest') ?? undefined;
      if (promised?.startsWith('sha256:')) compareDigest(`the manifest of ${formatReference(reference)}`, promised, sha256);
      return { bytes, digest: `sha256:${sha256}` };
    });
  }

  /** A small blob, in memory: the image's configuration. */
  document(reference: Reference, descriptor: Descriptor): Promise<Buffer> {
    return this.#fromAny(reference, async (endpoint) => {
      const response = await this.#get(endpoint, reference, `blobs/${descriptor.digest}`, {});
      const bytes = await readBounded(response, reference);
      compareDigest(`a document of ${formatReference(reference)}`, descriptor.digest, sha256Of(bytes));
      return bytes;
    });
  }

  /** Writes a blob to `path`, which it replaces. A cut download goes on where it was cut. */
  download(reference: Reference, descriptor: Descriptor, path: string, onBytes?: (receivedBytes: number) => void): Promise<void> {
    return this.#fromAny(reference, (endpoint) => this.#download(endpoint, reference, descriptor, path, onBytes));
  }

  /** Does the repository itself have this blob? */
  async hasBlob(reference: Reference, digest: string): Promise<boolean> {
    const endpoint = this.#origin(reference.registry);
    try {
      await this.#request(endpoint, reference, repositoryUrl(endpoint, reference, `blobs/${digest}`), { method: 'HEAD' });
      return true;
    } catch (error) {
      if (error instanceof HdError && error.code === 'IMAGE_NOT_FOUND') return false;
      throw error;
    }
  }

  /** Puts a blob into the repository. One that was cut is sent again, from the beginning. */
  async upload(reference: Reference, digest: string, from: { path: string } | { bytes: Buffer }): Promise<void> {
    const endpoint = this.#origin(reference.registry);
    for (let attempt = 1; ; attempt++) {
      const begun = await this.#request(endpoint, reference, repositoryUrl(endpoint, reference, 'blobs/uploads/'), { method: 'POST', body: () => new Uint8Array() });
      await begun.body?.cancel();
      const location = new URL(begun.headers.get('location') ?? '', endpoint.base);
      location.searchParams.set('digest', digest);
      const body = 'path' in from ? () => openAsBlob(from.path) : () => new Uint8Array(from.bytes);
      try {
        // Of an upload that was cut, the registry may have taken a part: a new one is begun.
        await (await this.#request(endpoint, reference, location.href, { method: 'PUT', headers: { 'content-type': 'application/octet-stream' }, body }, ATTEMPTS)).body?.cancel();
        return;
      } catch (error) {
        if (!(error instanceof HdError) || !MAY_PASS.has(error.code) || attempt >= ATTEMPTS) throw error;
        await this.#pause(attempt);
      }
    }
  }

  /** Names an image whose blobs are all there: by its tag. */
  async putManifest(reference: Reference, bytes: Buffer, mediaType: string): Promise<void> {
    const endpoint = this.#origin(reference.registry);
    const url = repositoryUrl(endpoint, reference, `manifests/${reference.tag ?? 'latest'}`);
    await (await this.#request(endpoint, reference, url, { method: 'PUT', headers: { 'content-type': mediaType }, body: () => new Uint8Array(bytes) })).body?.cancel();
  }

  /** Mirrors, then the registry: the first that can. The error is the most telling one. */
  async #fromAny<T>(reference: Reference, operation: (endpoint: Endpoint) => Promise<T>): Promise<T> {
    const failures: unknown[] = [];
    for (const endpoint of this.#endpoints(reference.registry)) {
      try {
        return await operation(endpoint);
      } catch (error) {
        this.#signal?.throwIfAborted();
        if (!(error instanceof HdError)) throw error;
        failures.push(error);
      }
    }
    throw failures.findLast((error) => error instanceof HdError && error.code !== 'REGISTRY_UNREACHABLE') ?? failures.at(-1);
  }

  #endpoints(registry: string): Endpoint[] {
    const mirrors = (this.#mirrors[registry] ?? []).map((url): Endpoint => {
      if (!URL.canParse(url) || !/^https?:$/.test(new URL(url).protocol)) {
        throw new HdError('REGISTRY_CONFIG', `the mirror ${JSON.stringify(url)} of ${registry} is no http(s) URL`, { hint: 'write it as https://host[:port]' });
      }
      const { host, protocol } = new URL(url);
      return { base: url.replace(/\/+$/, ''), host, plainHttp: protocol === 'http:', credentials: this.#credentials(host) };
    });
    return [...mirrors, this.#origin(registry)];
  }

  #origin(registry: string): Endpoint {
    const host = registryHost(registry);
    const plainHttp = isLoopback(host) || this.#insecure.includes(registry) || this.#insecure.includes(withoutPort(registry));
    return { base: `${plainHttp ? 'http' : 'https'}://${host}`, host, plainHttp, credentials: this.#credentials(registry) };
  }

  async #download(endpoint: Endpoint, reference: Reference, descriptor: Descriptor, path: string, onBytes?: (receivedBytes: number) => void): Promise<void> {
    const fd = openSync(path, 'w', 0o600);
    try {
      let hash = createHash('sha256');
      let received = 0;
      for (let attempt = 1; received < descriptor.size || attempt === 1; attempt++) {
        const response = await this.#get(endpoint, reference, `blobs/${descriptor.digest}`, received > 0 ? { range: `bytes=${received}-` } : {});
        if (received > 0 && response.status !== 206) {
          ftruncateSync(fd, 0);
          hash = createHash('sha256');
          received = 0;
        }
        const cut = await eachChunk(response, (chunk) => {
          writeAll(fd, chunk, received);
          hash.update(chunk);
          received += chunk.length;
          onBytes?.(received);
          return received <= descriptor.size;
        });
        this.#signal?.throwIfAborted();
        if (received < descriptor.size) await this.#beforeRetry(attempt, endpoint, reference, cut ?? new Error('the connection was cut'));
      }
      compareDigest(`a layer of ${formatReference(reference)}`, descriptor.digest, hash.digest('hex'));
    } finally {
      closeSync(fd);
    }
  }

  #get(endpoint: Endpoint, reference: Reference, path: string, headers: Record<string, string>): Promise<Response> {
    return this.#request(endpoint, reference, repositoryUrl(endpoint, reference, path), { headers });
  }

  /** @param attempt of which the first is: the last one is not tried again */
  async #request(endpoint: Endpoint, reference: Reference, url: string, ask: Ask, attempt = 1): Promise<Response> {
    const key = `${endpoint.base} ${reference.repository} ${isWrite(ask) ? 'write' : 'read'}`;
    let challenged = false;
    for (; ; attempt++) {
      const authorization = this.#authorization.get(key);
      const headers = { 'accept-encoding': 'identity', ...ask.headers, ...(authorization === undefined ? {} : { authorization }) };
      const response = await this.#send(endpoint, reference, url, { ...ask, headers }, attempt);
      if (response === undefined) continue;
      if (response.ok) return response;
      await response.body?.cancel();
      if (response.status === 401 && !challenged) {
        challenged = true;
        this.#authorization.set(key, await this.#authorize(endpoint, reference, response.headers.get('www-authenticate') ?? '', isWrite(ask)));
      } else if (response.status === 429 || response.status >= 500) {
        await this.#beforeRetry(attempt, endpoint, reference, response);
      } else throw refused(endpoint, reference, response.status, isWrite(ask));
    }
  }

  /** One request. `undefined`: it failed in a way that may pass, and the pause before the next is over. */
  async #send(endpoint: Endpoint, reference: Reference, url: string, { method, headers, body }: Ask, attempt: number): Promise<Response | undefined> {
    try {
      const init = { method: method ?? 'GET', ...(headers === undefined ? {} : { headers }), ...(body === undefined ? {} : { body: await body() }) };
      return await this.#fetch(url, { ...init, ...(this.#signal === undefined ? {} : { signal: this.#signal }) });
    } catch (error) {
      this.#signal?.throwIfAborted();
      if (PERMANENT.has(networkCode(error))) throw unreachable(endpoint, reference, error);
      await this.#beforeRetry(attempt, endpoint, reference, error);
      return undefined;
    }
  }

  async #beforeRetry(attempt: number, endpoint: Endpoint, reference: Reference, failure: unknown): Promise<void> {
    if (attempt >= ATTEMPTS) throw failure instanceof Response ? refused(endpoint, reference, failure.status) : unreachable(endpoint, reference, failure);
    const asked = failure instanceof Response ? Number(failure.headers.get('retry-after') ?? Number.NaN) * 1000 : Number.NaN;
    await this.#pause(attempt, asked >= 0 ? Math.min(asked, RETRY_AFTER_MS_MAX) : undefined);
  }

  async #pause(attempt: number, askedMs?: number): Promise<void> {
    await delay(askedMs ?? this.#retryDelayMs * 2 ** (attempt - 1), undefined, this.#signal === undefined ? {} : { signal: this.#signal });
  }

  /** Answers a challenge: the `Authorization` for the next try. */
  async #authorize(endpoint: Endpoint, reference: Reference, challenge: string, write: boolean): Promise<string> {
    const login = endpoint.credentials;
    const basic = login === undefined ? undefined : `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}`;
    if (/^basic\b/i.test(challenge)) {
      if (basic === undefined) throw refused(endpoint, reference, 401);
      return basic;
    }
    const parameters = new Map([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]]));
    const realm = parameters.get('realm') ?? '';
    if (!/^bearer\b/i.test(challenge) || !URL.canParse(realm)) throw refused(endpoint, reference, 401);
    const url = new URL(realm);
    if (url.protocol !== 'https:' && !endpoint.plainHttp) {
      throw new HdError('REGISTRY_AUTH', `${endpoint.host} wants a login sent without encryption, to ${url.origin}`, { hint: 'add the registry to the insecure ones if you trust the network' });
    }
    url.searchParams.set('service', parameters.get('service') ?? endpoint.host);
    // A registry that is asked whether it has a blob offers to let us pull. Whoever writes needs both.
    const scope = `repository:${reference.repository}:pull${write ? ',push' : ''}`;
    url.searchParams.set('scope', write ? scope : (parameters.get('scope') ?? scope));
    return `Bearer ${await this.#token({ ...endpoint, host: url.host }, reference, url.href, basic)}`;
  }

  async #token(endpoint: Endpoint, reference: Reference, url: string, basic: string | undefined): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      const response = await this.#send(endpoint, reference, url, { headers: basic === undefined ? {} : { authorization: basic } }, attempt);
      if (response === undefined) continue;
      if (response.ok) {
        const body = parseObject(await readBounded(response, reference));
        const token = body['token'] ?? body['access_token'];
        if (typeof token === 'string') return token;
        throw refused(endpoint, reference, 401);
      }
      await response.body?.cancel();
      if (response.status !== 429 && response.status < 500) throw refused(endpoint, reference, response.status === 404 ? 401 : response.status);
      await this.#beforeRetry(attempt, endpoint, reference, response);
    }
  }
}

/** Feeds the body to `take` until it says false. Returns the error that cut it, if one did. */
async function eachChunk(response: Response, take: (chunk: Uint8Array) => boolean): Promise<unknown> {
  const reader = response.body?.getReader();
  for (;;) {
    let piece;
    try {
      piece = await reader?.read();
    } catch (error) {
      return error;
    }
    if (piece === undefined || piece.done) return undefined;
    if (!take(piece.value)) {
      await reader?.cancel();
      return undefined;
    }
  }
}

async function readBounded(response: Response, reference: Reference): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let length = 0;
  const cut = await eachChunk(response, (chunk) => {
    chunks.push(chunk);
    length += chunk.length;
    return length <= DOCUMENT_BYTES_MAX;
  });
  if (cut !== undefined) throw new HdError('REGISTRY_FAILED', `the answer about ${formatReference(reference)} was cut off`, { hint: 'try again', cause: cut });
  if (length > DOCUMENT_BYTES_MAX) throw new HdError('REGISTRY_FAILED', `a document of ${formatReference(reference)} is larger than ${DOCUMENT_BYTES_MAX} bytes`);
  return Buffer.concat(chunks);
}

function parseObject(bytes: Buffer): Record<string, unknown> {
  try {
    const value: unknown = JSON.parse(bytes.toString('utf8'));
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}

function repositoryUrl(endpoint: Endpoint, reference: Reference, path: string): string {
  return `${endpoint.base}/v2/${reference.repository}/${path}`;
}

function isWrite({ method }: Ask): boolean {
  return method === 'POST' || method === 'PUT';
}

function refused(endpoint: Endpoint, reference: Reference, status: number, write = false): HdError {
  const image = formatReference(reference);
  if (write && (status === 401 || status === 403 || status === 404)) {
    return new HdError('REGISTRY_AUTH', `${endpoint.host} does not let us write ${image}`, { hint: endpoint.credentials === undefined ? 'log in so that the login is in ~/.docker/config.json' : 'check that the login in ~/.docker/config.json may push' });
  }
  if (status === 404) return new HdError('IMAGE_NOT_FOUND', `${endpoint.host} has no ${image}`, { hint: 'check the name and the tag' });
  if (status === 401 || status === 403) {
    const hint = endpoint.credentials === undefined ? 'check the name; if the image is private, log in so that the login is in ~/.docker/config.json (credential helpers are not read)' : 'check the name and the login in ~/.docker/config.json';
    return new HdError('REGISTRY_AUTH', `${endpoint.host} does not let us read ${image}: it does not exist, or needs ${endpoint.credentials === undefined ? 'a' : 'another'} login`, { hint });
  }
  const hint = status === 429 ? 'the registry limits how often you may ask: wait, log in, or configure a mirror' : 'try again later, or configure a mirror';
  return new HdError('REGISTRY_FAILED', `${endpoint.host} answered ${status} when asked for ${image}`, { hint, details: { status } });
}

function unreachable(endpoint: Endpoint, reference: Reference, cause: unknown): HdError {
  return new HdError('REGISTRY_UNREACHABLE', `cannot reach the registry ${endpoint.host} for ${formatReference(reference)}: ${networkReason(cause)}`, {
    hint: /WRONG_VERSION_NUMBER|EPROTO/.test(networkReason(cause))
      ? `it does not speak TLS: if it is to be trusted so, name ${endpoint.host} under "insecure" in registries.json`
      : 'check the network, configure a mirror for this registry, or use a base that needs none (oci:DIR, docker-archive:FILE)',
    cause,
    details: { host: endpoint.host },
  });
}

function networkCode(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof AggregateError ? error.cause.errors[0] : error instanceof Error ? error.cause : undefined;
  return typeof cause === 'object' && cause !== null && 'code' in cause ? String(cause.code) : '';
}

function networkReason(error: unknown): string {
  const code = networkCode(error);
  const known: Record<string, string> = { ECONNREFUSED: 'connection refused', ENOTFOUND: 'no such host', EAI_AGAIN: 'the name cannot be looked up', UND_ERR_CONNECT_TIMEOUT: 'no answer' };
  return known[code] ?? (code === '' ? describeError(error) : code);
}

function isLoopback(host: string): boolean {
  const name = withoutPort(host);
  return name === 'localhost' || name === '[::1]' || /^127(\.\d{1,3}){3}$/.test(name);
}

function withoutPort(host: string): string {
  return host.replace(/:\d+$/, '');
}
