import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import { HdError, toByteString } from '@hyperdocker/base';
import { emptyTree, lookupPath, openMemoryStore, walkTree } from '@hyperdocker/cas';
import { imageFromJson, imageToJson, loadImage, parseBase } from './index.ts';
import type { Image, ImageProgress, LoadOptions } from './index.ts';
import { dockerCredentials } from './credentials.ts';
import { tar } from './test-tar.ts';
import { buildImage, hasDockerRegistry, push, putManifest, sha256, startDockerRegistry, writeOciDir } from './test-registry.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-image-test-'));
after(() => rmSync(world, { recursive: true }));

const lower = tar([{ name: 'etc/' }, { name: 'etc/a', data: 'A' }, { name: 'etc/gone', data: 'G' }, { name: 'old/x', data: 'X' }, { name: 'linked', data: 'L' }]);
const middle = tar([{ name: 'etc/.wh.gone' }, { name: 'old/' }, { name: 'old/.wh..wh..opq' }, { name: 'old/y', data: 'Y' }]);
const upper = tar([{ name: 'again', type: '1', link: 'linked' }, { name: 'big', data: 'b'.repeat(300_000) }]);
const sample = buildImage({
  layers: [{ plain: lower, stored: gzipSync(lower) }, { plain: middle, stored: zstdCompressSync(middle) }, { plain: upper, stored: upper }],
  config: { config: { Env: ['PATH=/bin', 'X=a=b'], WorkingDir: '/srv', Cmd: ['sh', '-c', 'x'], Entrypoint: null, User: '1:2', ExposedPorts: { '80/tcp': {} }, Labels: { l: 'v' } } },
});
const platform = { os: 'linux', architecture: 'amd64' };
const PATHS = ['again', 'big', 'etc', 'etc/a', 'linked', 'old', 'old/y'];

function load(base: string, options: LoadOptions & { store?: ReturnType<typeof openMemoryStore> } = {}): Promise<Image> {
  const parsed = parseBase(base);
  assert(parsed.kind !== 'apt');
  return loadImage(options.store ?? openMemoryStore(), parsed, { platform, tempDir: world, ...options, registry: { credentials: () => undefined, retryDelayMs: 1, ...options.registry } });
}

function failsWith(code: string, words: RegExp = /./): (error: unknown) => boolean {
  return (error) => {
    assert(error instanceof HdError, String(error));
    assert.equal(error.code, code, error.message);
    assert.match(error.message, words);
    return true;
  };
}

function checkSample(store: ReturnType<typeof openMemoryStore>, image: Image): void {
  assert.deepEqual([...walkTree(store, image.tree)].map(({ path }) => path), PATHS);
  assert.equal(lookupPath(store, image.tree, toByteString('again'))?.meta?.links, 2);
  assert.deepEqual(image.config, { env: { PATH: '/bin', X: 'a=b' }, workdir: '/srv', user: '1:2', entrypoint: [], cmd: ['sh', '-c', 'x'], exposedPorts: ['80/tcp'], volumes: [], labels: { l: 'v' }, stopSignal: '' });
}

async function withServer(handler: (request: IncomingMessage, response: ServerResponse) => void, use: (host: string) => Promise<void>): Promise<void> {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  try {
    await use(`127.0.0.1:${(server.address() as AddressInfo).port}`);
  } finally {
    server.closeAllConnections();
    await new Promise((resolve) => server.close(resolve));
  }
}

/** Serves the sample image as any repository. */
function serveSample(request: IncomingMessage, response: ServerResponse): void {
  const [, kind, name] = /\/v2\/.+\/(manifests|blobs)\/([^/]+)$/.exec(request.url ?? '') ?? [];
  const body = kind === 'manifests' ? sample.manifest : sample.blobs.get(name ?? '');
  response.writeHead(body === undefined ? 404 : 200).end(body);
}

async function closedPort(): Promise<string> {
  let free = '';
  await withServer(() => undefined, async (host) => void (free = await Promise.resolve(host)));
  return free;
}

test('scratch', async () => {
  const store = openMemoryStore();
  const image = await load('scratch', { store });
  assert.equal(image.tree, emptyTree(store));
});

test('an OCI layout', async () => {
  const dir = join(world, 'layout');
  writeOciDir(dir, sample, [{ 'org.opencontainers.image.ref.name': 'v1' }]);
  const store = openMemoryStore();
  for (const base of ['oci:layout', 'oci:layout:v1']) {
    const image = await load(base, { store, cwd: world });
    checkSample(store, image);
    assert.deepEqual([image.source, image.resolved], [base, sample.manifestDigest]);
    assert.deepEqual(imageFromJson(imageToJson(image)), image);
  }
  await assert.rejects(load('oci:layout:v2', { cwd: world }), failsWith('IMAGE_NOT_FOUND', /v2/));
  await assert.rejects(load('oci:absent', { cwd: world }), failsWith('IMAGE_NOT_FOUND'));
  await assert.rejects(load('oci:layout', { cwd: world, platform: { os: 'linux', architecture: 's390x' } }), failsWith('IMAGE_PLATFORM', /s390x.*amd64/));
  writeOciDir(dir, sample, [{ 'org.opencontainers.image.ref.name': 'v1' }, { 'org.opencontainers.image.ref.name': 'v2' }]);
  await assert.rejects(load('oci:layout', { cwd: world }), failsWith('IMAGE_INVALID', /v1, v2/));
});

for (const [what, damage, code] of [
  ['a layer that is another', (layer: Buffer) => Buffer.from(layer).fill('c', 2000, 2001), 'DIGEST_MISMATCH'],
  ['a layer that is cut', (layer: Buffer) => layer.subarray(0, layer.length >> 1), 'LAYER_INVALID'],
  ['a layer that is no archive', () => Buffer.from('<html>'), 'DIGEST_MISMATCH'],
  ['a layer in xz', () => Buffer.from('fd377a585a000000', 'hex'), 'LAYER_INVALID'],
] as const) {
  test(`an OCI layout with ${what}`, async () => {
    const dir = mkdtempSync(join(world, 'damaged-'));
    writeOciDir(dir, sample, [{}]);
    const digest = [...sample.blobs.keys()][what === 'a layer that is another' ? 3 : 1] ?? '';
    writeFileSync(join(dir, 'blobs', digest.replace(':', '/')), damage(sample.blobs.get(digest) ?? Buffer.alloc(0)));
    await assert.rejects(load(`oci:${dir}`), failsWith(code));
    assert.deepEqual(readdirSync(world).filter((name) => name.startsWith('hd-image-') || name.startsWith('hd-layer-')), []);
  });
}

test('a layer whose decompressed bytes are others', async () => {
  const dir = mkdtempSync(join(world, 'diffid-'));
  writeOciDir(dir, buildImage({ layers: [{ plain: upper, stored: gzipSync(lower) }] }), [{}]);
  await assert.rejects(load(`oci:${dir}`), failsWith('DIGEST_MISMATCH', /decompressed/));
});

test('archives of docker save: old with links, new, compressed, and OCI archives', async () => {
  const dir = mkdtempSync(join(world, 'saved-'));
  const [first = '', second = '', third = ''] = [...sample.blobs.keys()].slice(1);
  const text = (digest: string) => (sample.blobs.get(digest) ?? Buffer.alloc(0)).toString('latin1');
  // The helper writes text, so the layers here are the plain ones, of which all bytes are ASCII.
  const manifest = [{ Config: 'c.json', RepoTags: ['x:1'], Layers: ['1/layer.tar', '2/layer.tar', '3/layer.tar'] }];
  const old = tar([
    { name: 'c.json', data: sample.config.toString() },
    { name: '0/layer.tar', data: lower.toString('latin1') },
    { name: '1/layer.tar', type: '2', link: '../0/layer.tar' },
    { name: '2/layer.tar', data: middle.toString('latin1') },
    { name: '3/layer.tar', data: text(third) },
    { name: 'manifest.json', data: JSON.stringify(manifest) },
  ]);
  assert(first !== '' && second !== '');
  writeFileSync(join(dir, 'old.tar'), old);
  writeFileSync(join(dir, 'old.tar.gz'), gzipSync(old));
  writeOciDir(join(dir, 'layout'), sample, [{}]);
  execFileSync('tar', ['-C', join(dir, 'layout'), '-cf', join(dir, 'oci.tar'), '.']);
  const trees = [];
  for (const file of ['old.tar', 'old.tar.gz', 'oci.tar']) {
    const store = openMemoryStore();
    const image = await load(`docker-archive:${file}`, { store, cwd: dir });
    checkSample(store, image);
    trees.push(image.tree);
    assert.equal(image.resolved, file === 'oci.tar' ? sample.manifestDigest : image.tree);
  }
  assert.equal(new Set(trees).size, 1);
  writeFileSync(join(dir, 'rootfs.tar'), lower);
  await assert.rejects(load('docker-archive:rootfs.tar', { cwd: dir }), failsWith('IMAGE_INVALID', /manifest\.json/));
  await assert.rejects(load('docker-archive:absent.tar', { cwd: dir }), failsWith('IMAGE_NOT_FOUND'));
});

test('a real registry', { skip: hasDockerRegistry ? false : 'docker-registry is not installed' }, async () => {
  const registry = await startDockerRegistry(mkdtempSync(join(world, 'registry-')));
  try {
    const { host } = registry;
    await push(host, 'team/app', 'v1', sample);
    const store = openMemoryStore();
    const progress: ImageProgress[] = [];
    const image = await load(`${host}/team/app:v1`, { store, onProgress: (event) => progress.push(event) });
    checkSample(store, image);
    assert.equal(image.resolved, sample.manifestDigest);
    assert.equal(image.source, `${host}/team/app:v1`);
    assert.deepEqual(progress.filter(({ kind }) => kind === 'unpacked').length, 3);
    assert(progress.some((event) => event.kind === 'download' && event.doneBytes === event.totalBytes));
    assert.equal((await load(`${host}/team/app@${image.resolved}`)).tree, image.tree);

    const index = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests: [
      { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: sample.manifestDigest, size: sample.manifest.length, platform },
      { mediaType: 'application/vnd.oci.image.manifest.v1+json', digest: sample.manifestDigest, size: sample.manifest.length, platform: { os: 'unknown', architecture: 'unknown' } },
    ] }));
    await putManifest(host, 'team/app', 'multi', index, 'application/vnd.oci.image.index.v1+json');
    assert.equal((await load(`${host}/team/app:multi`)).resolved, sample.manifestDigest);
    await assert.rejects(load(`${host}/team/app:multi`, { platform: { os: 'linux', architecture: 'arm64' } }), failsWith('IMAGE_PLATFORM', /arm64.*linux\/amd64$/));

    await assert.rejects(load(`${host}/team/app:absent`), failsWith('IMAGE_NOT_FOUND', /absent/));
    await assert.rejects(load(`${host}/team/app@sha256:${'0'.repeat(64)}`), failsWith('IMAGE_NOT_FOUND'));

    const dead = await closedPort();
    const config = { mirrors: { 'docker.io': [`http://${dead}`, `http://${host}`] } };
    await push(host, 'library/base', 'latest', sample);
    assert.equal((await load('base', { registry: { config } })).tree, image.tree);
    const fallback = { mirrors: { [host]: [`http://${dead}`] } };
    assert.equal((await load(`${host}/team/app:v1`, { registry: { config: fallback } })).tree, image.tree);
  } finally {
    await registry.stop();
  }
});

test('a registry that is not there is one clear error', async () => {
  const host = await closedPort();
  await assert.rejects(load(`${host}/a`), failsWith('REGISTRY_UNREACHABLE', new RegExp(`${host}.*connection refused`)));
});

test('tokens: challenge, login, and one token for many requests', async () => {
  let tokens = 0;
  await withServer((request, response) => {
    const url = new URL(request.url ?? '', 'http://x');
    if (url.pathname === '/token') {
      tokens++;
      const good = request.headers.authorization === `Basic ${Buffer.from('me:pa:ss').toString('base64')}` && url.searchParams.get('scope') === 'repository:a:pull';
      response.writeHead(good ? 200 : 401).end(good ? '{"token":"T"}' : '');
    } else if (request.headers.authorization === 'Bearer T') serveSample(request, response);
    else response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${request.headers.host}/token",service="s"` }).end();
  }, async (host) => {
    const file = join(world, 'config.json');
    writeFileSync(file, JSON.stringify({ auths: { [`http://${host}/v2/`]: { auth: Buffer.from('me:pa:ss').toString('base64') }, other: null } }));
    const store = openMemoryStore();
    checkSample(store, await load(`${host}/a`, { store, registry: { credentials: dockerCredentials(file) } }));
    assert.equal(tokens, 1);
    await assert.rejects(load(`${host}/a`), failsWith('REGISTRY_AUTH', /login/));
  });
});

test('basic login', async () => {
  await withServer((request, response) => {
    if (request.headers.authorization === `Basic ${Buffer.from('u:p').toString('base64')}`) serveSample(request, response);
    else response.writeHead(401, { 'www-authenticate': 'Basic realm="r"' }).end();
  }, async (host) => {
    assert.equal((await load(`${host}/a`, { registry: { credentials: () => ({ username: 'u', password: 'p' }) } })).resolved, sample.manifestDigest);
    await assert.rejects(load(`${host}/a`, { registry: { credentials: () => ({ username: 'u', password: 'wrong' }) } }), failsWith('REGISTRY_AUTH'));
  });
});

test('429, 503 and cut downloads are tried again; the download goes on where it was cut', async () => {
  const big = sha256(upper);
  const ranges: (string | undefined)[] = [];
  let hiccups = 2;
  await withServer((request, response) => {
    if (hiccups > 0) response.writeHead(hiccups-- === 2 ? 429 : 503, { 'retry-after': '0' }).end();
    else if (request.url?.endsWith(big) !== true) serveSample(request, response);
    else {
      ranges.push(request.headers.range);
      const start = Number(/bytes=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0);
      response.writeHead(start > 0 ? 206 : 200, { 'content-length': upper.length - start });
      if (ranges.length === 1) response.write(upper.subarray(0, 100_000), () => response.destroy());
      else response.end(upper.subarray(start));
    }
  }, async (host) => {
    assert.equal((await load(`${host}/a`)).resolved, sample.manifestDigest);
    assert.equal(ranges.length, 2);
    assert.match(ranges[1] ?? '', /^bytes=\d+-$/);
  });
});

test('a registry that stays ill', async () => {
  let asked = 0;
  await withServer((_, response) => {
    asked++;
    response.writeHead(500).end();
  }, async (host) => {
    await assert.rejects(load(`${host}/a`), failsWith('REGISTRY_FAILED', /500/));
    assert.equal(asked, 4);
  });
});

for (const [what, tamper] of [
  ['a layer', (url: string) => url.endsWith(sha256(upper))],
  ['the configuration', (url: string) => url.endsWith(sha256(sample.config))],
  ['the manifest', (url: string) => url.endsWith(sample.manifestDigest)],
] as const) {
  test(`a registry that gives other bytes for ${what}`, async () => {
    await withServer((request, response) => {
      if (tamper(request.url ?? '')) response.end(Buffer.from('{"x":1}'.padEnd(upper.length)));
      else serveSample(request, response);
    }, async (host) => assert.rejects(load(`${host}/a@${sample.manifestDigest}`), failsWith('DIGEST_MISMATCH')));
  });
}

test('an abort ends the load and leaves nothing behind', async () => {
  const stop = new AbortController();
  await withServer((request, response) => {
    if (request.url?.includes('/blobs/') !== true) return serveSample(request, response);
    response.writeHead(200).write('x', () => stop.abort(new Error('enough')));
  }, async (host) => {
    await assert.rejects(load(`${host}/a`, { signal: stop.signal }), /enough|abort/i);
  });
  assert.deepEqual(readdirSync(world).filter((name) => name.startsWith('hd-image-')), []);
});

test('records of images', async () => {
  const image = await load('scratch');
  assert.equal(imageToJson(imageFromJson(imageToJson(image))), imageToJson(image));
  for (const bad of ['', '{}', '[]', imageToJson(image).replace('"cmd":[]', '"cmd":[1]')]) assert.throws(() => imageFromJson(bad), failsWith('IMAGE_INVALID'));
});

test('docker config: missing is no login, damaged is an error', () => {
  assert.equal(dockerCredentials(join(world, 'absent.json'))('x'), undefined);
  mkdirSync(join(world, 'docker'));
  writeFileSync(join(world, 'docker/config.json'), '{');
  assert.throws(() => dockerCredentials(join(world, 'docker/config.json'))('x'), failsWith('DOCKER_CONFIG_INVALID'));
});
