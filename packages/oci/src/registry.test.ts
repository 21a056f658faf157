/** The way to a registry and back: faults, logins, proxies, certificates. */
import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, request } from 'node:http';
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { connect } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync } from 'node:zlib';
import { HdError } from '@hyperdocker/base';
import { openMemoryStore, walkTree } from '@hyperdocker/cas';
import { hasOpenssl, makeCertificates } from '@hyperdocker/testkit';
import { dockerCredentials } from './credentials.ts';
import { loadImage, parseBase } from './index.ts';
import type { LoadOptions, LoadedImage, RetryClock } from './index.ts';
import { buildImage, sha256 } from './test-registry.ts';
import { tar } from './test-tar.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-registry-test-'));
after(() => rmSync(world, { recursive: true }));

const plain = tar([{ name: 'big', data: Array.from({ length: 40_000 }, (_, i) => String(i)).join('\n') }]);
const layer = gzipSync(plain, { level: 1 });
const sample = buildImage({ layers: [{ plain, stored: layer }] });
const platform = { os: 'linux', architecture: 'amd64' };

/** Time passes when somebody waits. */
class TestClock implements RetryClock {
  readonly waits: number[] = [];
  #nowMs = Date.UTC(2026, 0, 1);

  nowMs(): number {
    return this.#nowMs;
  }

  wait(ms: number): Promise<void> {
    this.waits.push(ms);
    this.#nowMs += ms;
    return Promise.resolve();
  }
}

async function load(base: string, options: LoadOptions = {}): Promise<LoadedImage> {
  const parsed = parseBase(base);
  assert(parsed.kind === 'registry');
  const store = openMemoryStore();
  const image = await loadImage(store, parsed, { platform, tempDir: world, ...options, registry: { credentials: () => undefined, clock: new TestClock(), ...options.registry } });
  assert.deepEqual([...walkTree(store, image.tree)].map(({ path }) => path), ['big']);
  return image;
}

function failsWith(code: string, message: RegExp = /./, hint: RegExp = /./): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof HdError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, message);
    assert.match(error.hint ?? '', hint);
    return true;
  };
}

async function listening(server: Server, use: (host: string) => Promise<void>): Promise<void> {
  const sockets = new Set<Socket>();
  server.on('connection', (socket: Socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await use(`127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    const closed = new Promise((resolve) => server.close(resolve));
    for (const socket of sockets) socket.destroy();
    await closed;
  }
}

const withServer = (handler: RequestListener, use: (host: string) => Promise<void>): Promise<void> => listening(createServer(handler), use);

/** Serves the sample as any repository, with ranges. */
function serve(request: IncomingMessage, response: ServerResponse): void {
  const [, kind, name] = /\/v2\/.+\/(manifests|blobs)\/([^/?]+)$/.exec(request.url ?? '') ?? [];
  const body = kind === 'manifests' ? sample.manifest : sample.blobs.get(name ?? '');
  if (body === undefined) return void response.writeHead(404).end();
  const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
  response.writeHead(from > 0 ? 206 : 200, { 'content-length': body.length - from, ...(from > 0 ? { 'content-range': `bytes ${from}-${body.length - 1}/${body.length}` } : {}) }).end(body.subarray(from));
}

const isLayer = (request: IncomingMessage): boolean => request.url?.endsWith(sha256(layer)) === true;

test('a connection that is cut again and again comes to its end, as long as something comes', async () => {
  const starts: number[] = [];
  await withServer((request, response) => {
    if (!isLayer(request)) return serve(request, response);
    const from = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
    starts.push(from);
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': layer.length - from });
    response.write(layer.subarray(from, from + 10_000), () => (from + 10_000 >= layer.length ? response.end() : response.destroy()));
  }, async (host) => {
    await load(`${host}/a`);
  });
  assert(starts.length > 5 && starts.every((start, i) => i === 0 || start > (starts[i - 1] ?? 0)), starts.join());
});

test('what one run could not fetch, the next goes on with; what is whole is removed', async () => {
  const partialDir = join(world, 'partial');
  let mayEnd = false;
  const ranges: (string | undefined)[] = [];
  await withServer((request, response) => {
    if (!isLayer(request)) return serve(request, response);
    ranges.push(request.headers.range);
    if (mayEnd) return serve(request, response);
    if (request.headers.range !== undefined) return void response.destroy();
    response.writeHead(200, { 'content-length': layer.length });
    response.write(layer.subarray(0, 50_000), () => response.destroy());
  }, async (host) => {
    await assert.rejects(load(`${host}/a`, { partialDir }), failsWith('REGISTRY_UNREACHABLE', /cut/));
    assert.equal(readdirSync(partialDir).length, 1);
    mayEnd = true;
    ranges.length = 0;
    await load(`${host}/a`, { partialDir });
    assert.match(ranges.join(), /^bytes=\d{4,5}-$/);
    assert.deepEqual(readdirSync(partialDir), []);
  });
});

for (const [what, answer] of [
  ['starts again', (response: ServerResponse) => void response.writeHead(200, { 'content-length': layer.length }).end(layer)],
  ['sends another range', (response: ServerResponse) => void response.writeHead(206, { 'content-range': `bytes 0-${layer.length - 1}/${layer.length}` }).end(layer)],
  ['refuses the range', (response: ServerResponse) => void response.writeHead(416).end()],
] as const) {
  test(`a server that ${what} when asked to go on`, async () => {
    let asked = 0;
    await withServer((request, response) => {
      if (!isLayer(request) || (asked === 2 && request.headers.range === undefined)) return serve(request, response);
      if (asked++ > 0) return answer(response);
      response.writeHead(200, { 'content-length': layer.length });
      response.write(layer.subarray(0, 30_000), () => response.destroy());
    }, async (host) => {
      await load(`${host}/a`);
    });
    assert.equal(asked, 2);
  });
}

test('a part of another blob, left by an earlier run, is not the end: the digest tells, and the next run starts anew', async () => {
  const partialDir = join(world, 'damaged');
  mkdirSync(partialDir);
  writeFileSync(join(partialDir, `${sha256(layer).slice(7)}.1-1-0`), Buffer.alloc(1000, 'x'));
  await withServer(serve, async (host) => {
    await assert.rejects(load(`${host}/a`, { partialDir }), failsWith('DIGEST_MISMATCH'));
    assert.deepEqual(readdirSync(partialDir), []);
    await load(`${host}/a`, { partialDir });
  });
});

test('pauses: as long as the registry asks, in seconds or until a date, else longer each time', async () => {
  const clock = new TestClock();
  const until = new Date(clock.nowMs() + 17_000).toUTCString();
  const answers: [number, Record<string, string>][] = [[429, { 'retry-after': '7' }], [503, { 'retry-after': until }], [502, {}]];
  await withServer((request, response) => {
    const [status, headers] = answers.shift() ?? [];
    if (status === undefined) serve(request, response);
    else response.writeHead(status, headers).end();
  }, async (host) => {
    await load(`${host}/a`, { registry: { clock, retryDelayMs: 100 } });
    assert.deepEqual(clock.waits, [7000, 10_000, 400]);
    answers.push(...Array.from({ length: 4 }, (): [number, Record<string, string>] => [429, { 'retry-after': '86400' }]));
    await assert.rejects(load(`${host}/a`, { registry: { clock } }), failsWith('REGISTRY_FAILED', /429/, /wait, log in/));
    assert.deepEqual(clock.waits.slice(3), [60_000, 60_000, 60_000], 'nobody waits for a day');
  });
});

test('a redirect is followed, and takes no login along', async () => {
  const seen: (string | undefined)[] = [];
  await withServer((request, response) => {
    seen.push(request.headers.authorization);
    serve(request, response);
  }, async (elsewhere) => {
    await withServer((request, response) => {
      if (request.headers.authorization === undefined) response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
      else if (isLayer(request)) response.writeHead(307, { location: `http://${elsewhere}${request.url}` }).end();
      else serve(request, response);
    }, async (host) => {
      await load(`${host}/a`, { registry: { credentials: () => ({ username: 'u', password: 'p' }) } });
    });
  });
  assert.deepEqual(seen, [undefined]);
});

test('an identity token is exchanged for an access token; a registry token is one', async () => {
  await withServer((request, response) => {
    if (request.url === '/token') {
      const parts: Buffer[] = [];
      request.on('data', (part: Buffer) => parts.push(part)).on('end', () => {
        const form = new URLSearchParams(Buffer.concat(parts).toString());
        const good = request.method === 'POST' && form.get('grant_type') === 'refresh_token' && form.get('refresh_token') === 'ID' && form.get('service') === 's' && form.get('scope') === 'repository:a:pull';
        response.writeHead(good ? 200 : 400).end(good ? '{"access_token":"T"}' : '');
      });
    } else if (request.headers.authorization === 'Bearer T') serve(request, response);
    else response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token",service="s"` }).end();
  }, async (host) => {
    await load(`${host}/a`, { registry: { credentials: () => ({ identityToken: 'ID' }) } });
    await load(`${host}/a`, { registry: { credentials: () => ({ registryToken: 'T' }) } });
    await assert.rejects(load(`${host}/a`, { registry: { credentials: () => ({ identityToken: 'old' }) } }), failsWith('REGISTRY_AUTH', /another login/));
  });
});

test('logins of config.json: helpers before the store of all before auths', () => {
  const dir = mkdtempSync(join(world, 'helpers-'));
  const helper = (name: string, script: string): void => {
    writeFileSync(join(dir, `docker-credential-${name}`), `#!/bin/sh\nread server\n${script}\n`);
    chmodSync(join(dir, `docker-credential-${name}`), 0o755);
  };
  helper('one', `echo "{\\"ServerURL\\":\\"$server\\",\\"Username\\":\\"u-$server\\",\\"Secret\\":\\"s\\"}"`);
  helper('token', `echo "{\\"Username\\":\\"<token>\\",\\"Secret\\":\\"ID-$1\\"}"`);
  helper('empty', `echo "credentials not found in native keychain"; exit 1`);
  helper('broken', `echo "the keychain is locked" >&2; exit 3`);
  const file = join(dir, 'config.json');
  const env = { PATH: `${dir}:${process.env['PATH'] ?? ''}` };
  const auth = Buffer.from('me:secret').toString('base64');
  const lookup = (config: object, registry: string): unknown => {
    writeFileSync(file, JSON.stringify(config));
    return dockerCredentials(file, env)(registry);
  };
  const auths = { 'host.test:5000': { auth }, 'https://index.docker.io/v1/': { auth, identitytoken: 'hub' } };
  assert.deepEqual(lookup({ auths }, 'host.test:5000'), { username: 'me', password: 'secret' });
  assert.deepEqual(lookup({ auths }, 'docker.io'), { identityToken: 'hub' });
  assert.deepEqual(lookup({ auths, credHelpers: { 'host.test:5000': 'one' }, credsStore: 'empty' }, 'host.test:5000'), { username: 'u-host.test:5000', password: 's' });
  assert.deepEqual(lookup({ credsStore: 'one' }, 'docker.io'), { username: 'u-https://index.docker.io/v1/', password: 's' });
  assert.deepEqual(lookup({ credsStore: 'token' }, 'x.test'), { identityToken: 'ID-get' });
  assert.deepEqual(lookup({ auths, credsStore: 'empty' }, 'host.test:5000'), { username: 'me', password: 'secret' });
  assert.equal(lookup({ auths, credsStore: 'empty' }, 'other.test'), undefined);
  assert.throws(() => lookup({ credsStore: 'broken' }, 'x.test'), failsWith('CREDENTIAL_HELPER', /the keychain is locked/));
  assert.throws(() => lookup({ credsStore: 'missing' }, 'x.test'), failsWith('CREDENTIAL_HELPER', /no such program/, /install docker-credential-missing/));
});

test('a helper that does not work is no login; it is named where one is needed', async () => {
  let isPrivate = false;
  let asked = 0;
  const credentials = (): never => {
    asked++;
    throw new HdError('CREDENTIAL_HELPER', 'docker-credential-x gave no login');
  };
  await withServer((request, response) => {
    if (isPrivate) response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
    else serve(request, response);
  }, async (host) => {
    await load(`${host}/a`, { registry: { credentials } });
    assert.equal(asked, 0, 'nobody is asked where no login is wanted');
    isPrivate = true;
    await assert.rejects(load(`${host}/a`, { registry: { credentials } }), failsWith('REGISTRY_AUTH', /login/, /docker-credential-x/));
  });
});

/** A proxy that leads everywhere to one server, and notes what it was asked for. */
function proxyTo(target: string, asked: string[]): Server {
  const [name = '', port = ''] = target.split(':');
  const server = createServer((incoming, response) => {
    asked.push(`${incoming.method} ${incoming.url}`);
    const url = new URL(incoming.url ?? '');
    incoming.pipe(request({ host: name, port, path: url.pathname, method: incoming.method, headers: incoming.headers }, (answer) => {
      response.writeHead(answer.statusCode ?? 0, answer.headers);
      answer.pipe(response);
    }));
  });
  server.on('connect', (incoming: IncomingMessage, socket: Socket) => {
    asked.push(`CONNECT ${incoming.url}`);
    const upstream = connect(Number(port), name, () => {
      socket.write('HTTP/1.1 200 OK\r\n\r\n');
      upstream.pipe(socket).pipe(upstream);
    });
    for (const [one, other] of [[socket, upstream], [upstream, socket]] as const) one.on('error', () => other.destroy()).on('close', () => other.destroy());
  });
  return server;
}

test('a proxy, but not for this machine, nor where NO_PROXY says so', async () => {
  await withServer(serve, async (host) => {
    const asked: string[] = [];
    await listening(proxyTo(host, asked), async (proxy) => {
      const env = { HTTP_PROXY: `http://me:secret@${proxy}`, NO_PROXY: 'direct.invalid' };
      const registry = { config: { insecure: ['registry.invalid', 'direct.invalid'] }, transportOptions: { env } };
      await load('registry.invalid/a', { registry });
      assert.equal(asked[0], 'GET http://registry.invalid/v2/a/manifests/latest');
      asked.length = 0;
      await load(`${host}/a`, { registry });
      await assert.rejects(load('direct.invalid/a', { registry }), failsWith('REGISTRY_UNREACHABLE'));
      assert.deepEqual(asked, []);
    });
    await assert.rejects(load('registry.invalid/a', { registry: { transportOptions: { env: { HTTPS_PROXY: `http://me:secret@${host}` } } } }), (error) => {
      assert(error instanceof HdError);
      assert.match(error.message, /through the proxy http:\/\/127/);
      assert.doesNotMatch(JSON.stringify(error), /secret/);
      return true;
    });
  });
});

test('TLS: certificates of a private authority, from wherever they may come', { skip: hasOpenssl ? false : 'openssl is not installed' }, async () => {
  const { ca, cert, key } = makeCertificates(join(world, 'tls'), ['registry.invalid']);
  await listening(createTlsServer({ cert: readFileSync(cert), key: readFileSync(key) }, serve) as unknown as Server, async (host) => {
    const env = {};
    const base = `${host}/a`;
    const refused = failsWith('REGISTRY_UNREACHABLE', /certificate is not to be trusted/, /certs\.d\/127\.0\.0\.1:\d+\/ca\.crt.*SSL_CERT_FILE.*"ca" in registries\.json/);
    await assert.rejects(load(base, { registry: { transportOptions: { env } } }), refused);
    await load(base, { registry: { transportOptions: { env }, config: { ca: { [host]: ca } } } });
    await load(base, { registry: { transportOptions: { env: { SSL_CERT_FILE: ca } } } });
    await load(base, { registry: { transportOptions: { env: { NODE_EXTRA_CA_CERTS: ca } } } });
    await load(base, { registry: { transportOptions: { env }, config: { insecure: [host] } } });
    const certsDir = join(world, 'certs.d');
    mkdirSync(join(certsDir, host), { recursive: true });
    copyFileSync(ca, join(certsDir, host, 'ca.crt'));
    await load(base, { registry: { transportOptions: { env, certsDirs: [certsDir] } } });
    await assert.rejects(load(base, { registry: { transportOptions: { env }, config: { ca: { [host]: join(world, 'absent.crt') } } } }), failsWith('REGISTRY_CONFIG', /cannot read the certificates/, /^$/));

    const asked: string[] = [];
    await listening(proxyTo(host, asked), async (proxy) => {
      await load('registry.invalid/a', { registry: { transportOptions: { env: { https_proxy: `http://${proxy}`, SSL_CERT_FILE: ca } } } });
    });
    assert.deepEqual([...new Set(asked)], ['CONNECT registry.invalid:443']);
  });
});

test('TLS asked of a registry without it: the hint is how to allow that', async () => {
  await withServer(serve, async (host) => {
    const name = host.replace('127.0.0.1', '0.0.0.0');
    await assert.rejects(load(`${name}/a`), failsWith('REGISTRY_UNREACHABLE', /latest: what it answers is no TLS$/, /does not speak TLS.*"insecure" in registries\.json/));
    await load(`${name}/a`, { registry: { config: { insecure: [name] } } });
  });
});
