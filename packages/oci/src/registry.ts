import { createHash } from 'node:crypto';
import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError, describeError, writeAll } from '@hyperdocker/base';
import { dockerCredentials } from './credentials.ts';
import type { CredentialLookup, Credentials } from './credentials.ts';
import { compareDigest, sha256Of } from './decompress.ts';
import { MANIFEST_TYPES } from './manifest.ts';
import type { Descriptor } from './manifest.ts';
import { hashSoFar } from './partial-downloads.ts';
import { formatReference, registryHost } from './reference.ts';
import type { Reference } from './reference.ts';
import { httpTransport, isLoopback, proxyOf, withoutPort } from './transport.ts';
import type { HttpAnswer, HttpBody, HttpMethod, Transport, TransportOptions } from './transport.ts';

export interface RegistryConfig {
  /** By registry domain: base URLs that are tried first, in order. */
  mirrors: Record<string, string[]>;
  /** Domains that may speak plain HTTP, or TLS with certificates that nobody vouches for. Loopback addresses always may speak plain HTTP. */
  insecure: string[];
  /** By domain: a file of certificate authorities that vouch for it, beside those of the system. */
  ca?: Record<string, string>;
}

export interface RegistryOptions {
  config?: Partial<RegistryConfig> | undefined;
  /** Default: Docker's `config.json`. */
  credentials?: CredentialLookup | undefined;
  /** Default: of this machine, with its proxies and certificates. */
  transport?: Transport | undefined;
  transportOptions?: Pick<TransportOptions, 'env' | 'certsDirs'> | undefined;
  signal?: AbortSignal | undefined;
  /** Before the first retry; doubles with each. */
  retryDelayMs?: number | undefined;
  clock?: RetryClock | undefined;
}

/** The time, for those who wait because a registry asked them to. */
export interface RetryClock {
  nowMs(): number;
  wait(ms: number, signal: AbortSignal | undefined): Promise<void>;
}

const SYSTEM_CLOCK: RetryClock = {
  nowMs: () => Date.now(),
  wait: (ms, signal) => delay(ms, undefined, signal === undefined ? {} : { signal }),
};

export interface FetchedManifest { bytes: Buffer; digest: string }

/** Where a registry, or a mirror of it, answers. */
interface Endpoint {
  /** Without a slash at its end. */
  base: string;
  host: string;
  /** Whose logins it takes. */
  domain: string;
  plainHttp: boolean;
  /** Nothing has been heard of it: where plain HTTP fails, it may yet be TLS. */
  untried: boolean;
}

const ATTEMPTS = 4;
const RETRY_AFTER_MS_MAX = 60_000;
const DOCUMENT_BYTES_MAX = 8 << 20;
/** What may be otherwise the next time. */
const MAY_PASS = new Set(['REGISTRY_FAILED', 'REGISTRY_UNREACHABLE']);
/** Trying again at once would meet the same. */
const PERMANENT = new Set(['ECONNREFUSED', 'ENOTFOUND', 'EHOSTUNREACH', 'ENETUNREACH', 'EACCES']);
/** A certificate that is not to be trusted, by OpenSSL's and Node's codes. */
const UNTRUSTED = /^(?:CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_(?:GET|VERIFY)_|ERR_TLS_CERT_|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH_EXCEEDED)/;
/** Plain HTTP where TLS was spoken. */
const NO_TLS = /WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|^EPROTO$/;
/** What a TLS server may do with plain HTTP, beside answering 400. */
const NO_HTTP = /^(?:HPE_|ECONNRESET$|EPIPE$)/;
const CLIENT_ID = 'hyperdocker';

/** What is asked of a registry. */
interface Ask { method?: HttpMethod; headers?: Record<string, string>; body?: HttpBody }

/**
 * Reads and writes images in registries (OCI distribution API, anonymous, bearer and basic login). For reading, mirrors are asked before the registry.
 * Every byte is compared with its digest. Failures that may pass (429, 5xx, cut connections) are tried again a few times.
 * All methods throw HdError REGISTRY_UNREACHABLE, REGISTRY_AUTH, REGISTRY_FAILED, REGISTRY_CONFIG, IMAGE_NOT_FOUND or DIGEST_MISMATCH.
 */
export class RegistryClient {
  readonly #mirrors: Record<string, string[]>;
  readonly #insecure: string[];
  readonly #credentials: CredentialLookup;
  readonly #transport: Transport;
  readonly #env: NodeJS.ProcessEnv;
  readonly #signal: AbortSignal | undefined;
  readonly #retryDelayMs: number;
  readonly #clock: RetryClock;
  /** `Authorization` values, by endpoint and repository. */
  readonly #authorization = new Map<string, string>();
  readonly #endpointByBase = new Map<string, Endpoint>();
  /** By domain: why its login could not be looked up. */
  readonly #loginProblems = new Map<string, HdError>();

  constructor(options: RegistryOptions = {}) {
    this.#mirrors = options.config?.mirrors ?? {};
    this.#insecure = options.config?.insecure ?? [];
    this.#credentials = options.credentials ?? dockerCredentials();
    this.#transport = options.transport ?? httpTransport({ ...options.transportOptions, ca: options.config?.ca, unverified: (host) => this.#isInsecure(host) });
    this.#env = options.transportOptions?.env ?? process.env;
    this.#signal = options.signal;
    this.#retryDelayMs = options.retryDelayMs ?? 300;
    this.#clock = options.clock ?? SYSTEM_CLOCK;
  }

  /** The manifest or index that the reference names; by digest where it has one. */
  manifest(reference: Reference): Promise<FetchedManifest> {
    return this.#fromAny(reference, async (endpoint) => {
      const response = await this.#get(endpoint, reference, `manifests/${reference.digest ?? reference.tag}`, { accept: MANIFEST_TYPES.join(', ') });
      const bytes = await readBounded(response, reference);
      const sha256 = sha256Of(bytes);
      const promised = reference.digest ?? response.headers['docker-content-digest'];
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

  /** Writes a blob to `path`, and goes on where what the file holds ends. */
  download(reference: Reference, descriptor: Descriptor, path: string, onBytes?: (receivedBytes: number) => void): Promise<void> {
    return this.#fromAny(reference, (endpoint) => this.#download(endpoint, reference, descriptor, path, onBytes));
  }

  /** Does the repository itself have this blob? */
  async hasBlob(reference: Reference, digest: string): Promise<boolean> {
    const endpoint = this.#origin(reference.registry);
    try {
      (await this.#request(endpoint, reference, repositoryUrl(endpoint, reference, `blobs/${digest}`), { method: 'HEAD' })).discard();
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
      const begun = await this.#request(endpoint, reference, repositoryUrl(endpoint, reference, 'blobs/uploads/'), { method: 'POST' });
      begun.discard();
      const location = new URL(begun.headers['location'] ?? '', endpoint.base);
      location.searchParams.set('digest', digest);
      const body = 'path' in from ? from : from.bytes;
      try {
        // Of an upload that was cut, the registry may have taken a part: a new one is begun.
        (await this.#request(endpoint, reference, location.href, { method: 'PUT', headers: { 'content-type': 'application/octet-stream' }, body }, ATTEMPTS)).discard();
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
    (await this.#request(endpoint, reference, url, { method: 'PUT', headers: { 'content-type': mediaType }, body: bytes })).discard();
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
      return this.#endpoint({ base: url.replace(/\/+$/, ''), host, domain: host, plainHttp: protocol === 'http:', untried: false });
    });
    return [...mirrors, this.#origin(registry)];
  }

  #origin(registry: string): Endpoint {
    const host = registryHost(registry);
    const plainHttp = isLoopback(host) || this.#isInsecure(registry);
    return this.#endpoint({ base: `${plainHttp ? 'http' : 'https'}://${host}`, host, domain: registry, plainHttp, untried: plainHttp });
  }

  /** One for each, so that what was learnt of it stays. */
  #endpoint(endpoint: Endpoint): Endpoint {
    const known = this.#endpointByBase.get(endpoint.base) ?? endpoint;
    this.#endpointByBase.set(endpoint.base, known);
    return known;
  }

  #isInsecure(registry: string): boolean {
    return this.#insecure.includes(registry) || this.#insecure.includes(withoutPort(registry));
  }

  async #download(endpoint: Endpoint, reference: Reference, descriptor: Descriptor, path: string, onBytes?: (receivedBytes: number) => void): Promise<void> {
    const fd = openSync(path, 'a+', 0o600);
    try {
      let hash = createHash('sha256');
      let received = hashSoFar(path, hash);
      const restart = (): void => {
        ftruncateSync(fd, 0);
        hash = createHash('sha256');
        received = 0;
      };
      if (received > descriptor.size) restart();
      for (let attempt = 1; received < descriptor.size || (attempt === 1 && descriptor.size === 0); attempt++) {
        const response = await this.#get(endpoint, reference, `blobs/${descriptor.digest}`, received > 0 ? { range: `bytes=${received}-` } : {});
        if (received > 0 && !continues(response, received)) restart();
        const before = received;
        const cut = await eachChunk(response, (chunk) => {
          writeAll(fd, chunk);
          hash.update(chunk);
          received += chunk.length;
          onBytes?.(received);
          return received <= descriptor.size;
        });
        this.#signal?.throwIfAborted();
        // While something comes, it is not in vain.
        if (received > before) attempt = 1;
        if (received < descriptor.size) await this.#beforeRetry(attempt, endpoint, reference, cut ?? new Error('the connection was cut'));
      }
      compareDigest(`a layer of ${formatReference(reference)}`, descriptor.digest, hash.digest('hex'));
    } finally {
      closeSync(fd);
    }
  }

  #get(endpoint: Endpoint, reference: Reference, path: string, headers: Record<string, string>): Promise<HttpAnswer> {
    return this.#request(endpoint, reference, repositoryUrl(endpoint, reference, path), { headers });
  }

  /** @param attempt of which the first is: the last one is not tried again */
  async #request(endpoint: Endpoint, reference: Reference, url: string, ask: Ask, attempt = 1): Promise<HttpAnswer> {
    const key = `${endpoint.base} ${reference.repository} ${isWrite(ask) ? 'write' : 'read'}`;
    let challenged = false;
    for (; ; attempt++) {
      const authorization = this.#authorization.get(key);
      const headers = { 'accept-encoding': 'identity', ...ask.headers, ...(authorization === undefined ? {} : { authorization }) };
      const response = await this.#sendTo(endpoint, reference, url, { ...ask, headers }, attempt);
      if (response === undefined) continue;
      if (response.status >= 200 && response.status < 300) return response;
      response.discard();
      if (response.status === 401 && !challenged) {
        challenged = true;
        this.#authorization.set(key, await this.#authorize(endpoint, reference, response.headers['www-authenticate'] ?? '', isWrite(ask)));
      } else if (response.status === 416 && ask.headers?.['range'] !== undefined) {
        // What is there of the blob is not a beginning of it.
        const { range: _, ...rest } = ask.headers;
        return await this.#request(endpoint, reference, url, { ...ask, headers: rest }, attempt);
      } else if (response.status === 429 || response.status >= 500) {
        await this.#beforeRetry(attempt, endpoint, reference, response);
      } else throw this.#refused(endpoint, reference, response.status, isWrite(ask));
    }
  }

  /** As `#send`; where plain HTTP may be spoken and is not, TLS is. */
  async #sendTo(endpoint: Endpoint, reference: Reference, url: string, ask: Ask, attempt: number): Promise<HttpAnswer | undefined> {
    if (!endpoint.untried || !url.startsWith('http://')) return await this.#send(endpoint, reference, url.startsWith(endpoint.base) ? url : rebased(url, endpoint), ask, attempt);
    let mayBeTls: boolean;
    try {
      const { authorization: _, ...headers } = ask.headers ?? {};
      const response = await this.#transport(url, { ...ask, method: ask.method ?? 'GET', headers, signal: this.#signal });
      mayBeTls = response.status === 400;
      if (!mayBeTls) {
        endpoint.untried = false;
        return response;
      }
      response.discard();
    } catch (error) {
      this.#signal?.throwIfAborted();
      mayBeTls = NO_HTTP.test(networkCode(error));
    }
    if (mayBeTls) {
      try {
        const response = await this.#transport(url.replace(/^http:/, 'https:'), { ...ask, method: ask.method ?? 'GET', headers: ask.headers ?? {}, signal: this.#signal });
        endpoint.untried = false;
        endpoint.base = endpoint.base.replace(/^http:/, 'https:');
        return response;
      } catch (error) {
        this.#signal?.throwIfAborted();
        if (error instanceof HdError) throw error;
        if (UNTRUSTED.test(networkCode(error))) throw this.#unreachable(endpoint, reference, error);
      }
    }
    endpoint.untried = false;
    return await this.#send(endpoint, reference, url, ask, attempt);
  }

  /** One request. `undefined`: it failed in a way that may pass, and the pause before the next is over. */
  async #send(endpoint: Endpoint, reference: Reference, url: string, { method = 'GET', headers = {}, body }: Ask, attempt: number): Promise<HttpAnswer | undefined> {
    try {
      return await this.#transport(url, { method, headers, body, signal: this.#signal });
    } catch (error) {
      this.#signal?.throwIfAborted();
      const code = networkCode(error);
      if (error instanceof HdError) throw error;
      if (PERMANENT.has(code) || UNTRUSTED.test(code) || NO_TLS.test(code)) throw this.#unreachable(endpoint, reference, error);
      await this.#beforeRetry(attempt, endpoint, reference, error);
      return undefined;
    }
  }

  async #beforeRetry(attempt: number, endpoint: Endpoint, reference: Reference, failure: unknown): Promise<void> {
    const answer = isAnswer(failure) ? failure : undefined;
    if (attempt >= ATTEMPTS) throw answer === undefined ? this.#unreachable(endpoint, reference, failure) : this.#refused(endpoint, reference, answer.status);
    await this.#pause(attempt, answer === undefined ? undefined : this.#askedPauseMs(answer));
  }

  /** `Retry-After`, in seconds or as a date. */
  #askedPauseMs({ headers }: HttpAnswer): number | undefined {
    const text = headers['retry-after'];
    if (text === undefined) return undefined;
    const ms = /^\d+$/.test(text.trim()) ? Number(text) * 1000 : Date.parse(text) - this.#clock.nowMs();
    return Number.isNaN(ms) ? undefined : Math.min(Math.max(0, ms), RETRY_AFTER_MS_MAX);
  }

  async #pause(attempt: number, askedMs?: number): Promise<void> {
    await this.#clock.wait(askedMs ?? this.#retryDelayMs * 2 ** (attempt - 1), this.#signal);
  }

  /** Only asked for when the registry wants one: helpers are programs that may ask people. One that does not work is no login, and named if one is needed. */
  #login(endpoint: Endpoint): Credentials | undefined {
    try {
      return this.#credentials(endpoint.domain);
    } catch (error) {
      if (!(error instanceof HdError && error.code === 'CREDENTIAL_HELPER')) throw error;
      this.#loginProblems.set(endpoint.domain, error);
      return undefined;
    }
  }

  /** Answers a challenge: the `Authorization` for the next try. */
  async #authorize(endpoint: Endpoint, reference: Reference, challenge: string, write: boolean): Promise<string> {
    const login = this.#login(endpoint);
    if (login !== undefined && 'registryToken' in login) return `Bearer ${login.registryToken}`;
    const basic = login !== undefined && 'username' in login ? `Basic ${Buffer.from(`${login.username}:${login.password}`).toString('base64')}` : undefined;
    if (/^basic\b/i.test(challenge)) {
      if (basic === undefined) throw this.#refused(endpoint, reference, 401, write);
      return basic;
    }
    const parameters = new Map([...challenge.matchAll(/(\w+)="([^"]*)"/g)].map((match) => [match[1], match[2]]));
    const realm = parameters.get('realm') ?? '';
    if (!/^bearer\b/i.test(challenge) || !URL.canParse(realm)) throw this.#refused(endpoint, reference, 401, write);
    const url = new URL(realm);
    if (url.protocol !== 'https:' && !endpoint.plainHttp) {
      throw new HdError('REGISTRY_AUTH', `${endpoint.host} wants a login sent without encryption, to ${url.origin}`, { hint: 'add the registry to the insecure ones if you trust the network' });
    }
    const service = parameters.get('service') ?? endpoint.host;
    // A registry that is asked whether it has a blob offers to let us pull. Whoever writes needs both.
    const own = `repository:${reference.repository}:pull${write ? ',push' : ''}`;
    const scope = write ? own : (parameters.get('scope') ?? own);
    const tokens = this.#endpoint({ base: url.origin, host: url.host, domain: endpoint.domain, plainHttp: endpoint.plainHttp, untried: false });
    return `Bearer ${await this.#token(tokens, reference, tokenRequest(url, { service, scope }, login, basic))}`;
  }

  async #token(endpoint: Endpoint, reference: Reference, { url, ask }: { url: string; ask: Ask }): Promise<string> {
    for (let attempt = 1; ; attempt++) {
      const response = await this.#send(endpoint, reference, url, ask, attempt);
      if (response === undefined) continue;
      if (response.status >= 200 && response.status < 300) {
        const body = parseObject(await readBounded(response, reference));
        const token = body['token'] ?? body['access_token'];
        if (typeof token === 'string') return token;
        throw this.#refused(endpoint, reference, 401);
      }
      response.discard();
      if (response.status !== 429 && response.status < 500) throw this.#refused(endpoint, reference, 401);
      await this.#beforeRetry(attempt, endpoint, reference, response);
    }
  }

  #refused(endpoint: Endpoint, reference: Reference, status: number, write = false): HdError {
    const image = formatReference(reference);
    if (write ? status === 401 || status === 403 || status === 404 : status === 401 || status === 403) {
      const problem = this.#loginProblems.get(endpoint.domain);
      const hasLogin = problem === undefined && this.#login(endpoint) !== undefined;
      const hint = problem !== undefined ? problem.message : hasLogin ? `check the name, and that the login for ${endpoint.domain} in Docker's config.json may ${write ? 'push' : 'pull'}` : `check the name; if it is private, log in (\`docker login ${endpoint.domain}\`): hd reads Docker's config.json and its credential helpers`;
      const what = write ? `write ${image}` : `read ${image}: it does not exist, or needs ${hasLogin ? 'another' : 'a'} login`;
      return new HdError('REGISTRY_AUTH', `${endpoint.host} does not let us ${what}`, { hint });
    }
    if (status === 404) return new HdError('IMAGE_NOT_FOUND', `${endpoint.host} has no ${image}`, { hint: 'check the name and the tag' });
    const hint = status === 429 ? 'the registry limits how often you may ask: wait, log in, or configure a mirror' : 'try again later, or configure a mirror';
    return new HdError('REGISTRY_FAILED', `${endpoint.host} answered ${status} when asked for ${image}`, { hint, details: { status } });
  }

  #unreachable(endpoint: Endpoint, reference: Reference, cause: unknown): HdError {
    const { host } = endpoint;
    const proxy = proxyOf(new URL(endpoint.base), this.#env);
    const through = proxy === undefined ? '' : ` (through the proxy ${withoutLogin(proxy)})`;
    const hint = NO_TLS.test(networkCode(cause))
      ? `it does not speak TLS: if it is to be trusted so, name ${host} under "insecure" in registries.json`
      : UNTRUSTED.test(networkCode(cause))
        ? `put the certificate of its authority into /etc/docker/certs.d/${host}/ca.crt, or name it in SSL_CERT_FILE or under "ca" in registries.json`
        : 'check the network, configure a mirror for this registry, or use a base that needs none (oci:DIR, docker-archive:FILE)';
    return new HdError('REGISTRY_UNREACHABLE', `cannot reach the registry ${host}${through} for ${formatReference(reference)}: ${networkReason(cause)}`, { hint, cause, details: { host } });
  }
}

/** With an identity token, OAuth 2; else as Docker has always asked. https://distribution.github.io/distribution/spec/auth/oauth/ */
function tokenRequest(realm: URL, { service, scope }: { service: string; scope: string }, login: Credentials | undefined, basic: string | undefined): { url: string; ask: Ask } {
  if (login !== undefined && 'identityToken' in login) {
    const form = new URLSearchParams({ grant_type: 'refresh_token', service, client_id: CLIENT_ID, scope, refresh_token: login.identityToken });
    return { url: realm.href, ask: { method: 'POST', headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: Buffer.from(form.toString()) } };
  }
  const url = new URL(realm);
  url.searchParams.set('service', service);
  url.searchParams.set('scope', scope);
  return { url: url.href, ask: { headers: basic === undefined ? {} : { authorization: basic } } };
}

/** Does the answer to a request for a range go on where it should? */
function continues({ status, headers }: HttpAnswer, from: number): boolean {
  const start = /^bytes (\d+)-/.exec(headers['content-range'] ?? '')?.[1];
  return status === 206 && (start === undefined || Number(start) === from);
}

/** The URL was made before the endpoint turned out to speak TLS. */
function rebased(url: string, { base, host }: Endpoint): string {
  return base.startsWith('https:') && url.startsWith(`http://${host}/`) ? url.replace(/^http:/, 'https:') : url;
}

/** Feeds the body to `take` until it says false. Returns the error that cut it, if one did. */
async function eachChunk(response: HttpAnswer, take: (chunk: Buffer) => boolean): Promise<unknown> {
  const pieces = response.body[Symbol.asyncIterator]();
  for (;;) {
    let piece;
    try {
      piece = await pieces.next();
    } catch (error) {
      return error;
    }
    if (piece.done === true) return undefined;
    if (!take(piece.value)) {
      await pieces.return?.();
      return undefined;
    }
  }
}

async function readBounded(response: HttpAnswer, reference: Reference): Promise<Buffer> {
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

function isAnswer(value: unknown): value is HttpAnswer {
  return typeof value === 'object' && value !== null && 'status' in value && 'discard' in value;
}

function withoutLogin(proxy: string): string {
  return proxy.replace(/\/\/[^@/]*@/, '//');
}

function networkCode(error: unknown): string {
  return error instanceof Error && 'code' in error ? String(error.code) : '';
}

function networkReason(error: unknown): string {
  const code = networkCode(error);
  const known: Record<string, string> = { ECONNREFUSED: 'connection refused', ECONNRESET: 'the connection was cut', ENOTFOUND: 'no such host', EAI_AGAIN: 'the name cannot be looked up', ETIMEDOUT: 'no answer' };
  if (UNTRUSTED.test(code)) return `its certificate is not to be trusted (${describeError(error)})`;
  if (NO_TLS.test(code)) return 'what it answers is no TLS';
  return known[code] ?? describeError(error);
}
