import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { after, test } from 'node:test';
import fc from 'fast-check';
import { HdError, toByteString } from '@hyperdocker/base';
import type { TreeDigest } from '@hyperdocker/base';
import { TreeBuilder, applyDelta, emptyTree, openMemoryStore, walkTree } from '@hyperdocker/cas';
import type { BuilderEntry, Store } from '@hyperdocker/cas';
import { ArchiveTarget, EMPTY_CONFIG, LayoutTarget, RegistryClient, RegistryTarget, documentOf, exportImage, hostPlatform, loadImage, parseBase, parseReference, planLayers } from './index.ts';
import type { ExportedImage, ImageTarget, LayerBlob, LayerMemory, Transport } from './index.ts';
import { hasDockerRegistry, startDockerRegistry } from './test-registry.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-export-test-'));
after(() => rmSync(world, { recursive: true }));

const META = { uid: 7, gid: 8, mtimeNs: 1_600_000_000_000_000_000n, xattrs: [], linkGroup: 0, links: 1 };
const config = { ...EMPTY_CONFIG, env: { A: 'b=c' }, workdir: '/app', cmd: ['/bin/sh', '-c', 'true'], exposedPorts: ['80/tcp'], labels: { l: 'v' } };

function treeOf(store: Store, files: Record<string, string | Partial<BuilderEntry>>): TreeDigest {
  const builder = new TreeBuilder(store);
  for (const [path, what] of Object.entries(files)) {
    const dirs = path.split('/').slice(0, -1);
    for (let depth = 1; depth <= dirs.length; depth++) builder.set(toByteString(dirs.slice(0, depth).join('/')), { kind: 'dir', mode: 0o755, meta: META });
    if (typeof what === 'string') builder.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(what)), size: Buffer.byteLength(what), meta: META });
    else builder.set(toByteString(path), { mode: 0o755, meta: META, ...what } as BuilderEntry);
  }
  return builder.finish();
}

function manyFiles(count: number, content: (index: number) => string): Record<string, string> {
  return Object.fromEntries(Array.from({ length: count }, (_, index) => [`srv/d${index % 40}/f${index}`, content(index)]));
}

/** About 4 KiB that do not compress well, another text for each number. */
function text(seed: number): string {
  return Array.from({ length: 400 }, (_, index) => Math.abs(Math.sin(seed * 1e4 + index)).toString(36).slice(2)).join('');
}

const entries = fc.dictionary(
  fc.array(fc.constantFrom('a', 'b', 'c'), { minLength: 1, maxLength: 3 }).map((names) => names.join('/')),
  fc.oneof(fc.constantFrom('', 'x', 'y'), fc.constant({ kind: 'symlink' as const, target: toByteString('a'), mode: 0o777 }), fc.constant({ kind: 'dir' as const, mode: 0o700 })),
  { maxKeys: 8 },
).map((all) => Object.fromEntries(Object.entries(all).filter(([path, what], _, list) => (typeof what === 'object' && what.kind === 'dir') || !list.some(([other]) => other.startsWith(`${path}/`)))));

test('property: the layers, one over the other, are the tree', () => {
  fc.assert(fc.property(entries, entries, (below, above) => {
    const store = openMemoryStore();
    const [base, tree] = [treeOf(store, below), treeOf(store, above)];
    const laid = planLayers(store, base, tree).reduce((under, layer) => applyDelta(store, under, layer), emptyTree(store));
    assert.equal(laid, tree);
  }), { numRuns: 500 });
});

test('one changed file makes one layer new, and the base keeps its own', () => {
  const store = openMemoryStore();
  const base = treeOf(store, manyFiles(1_000, (index) => text(index).repeat(30)));
  const below = manyFiles(1_000, (index) => text(index).repeat(30));
  const files = { ...below, ...Object.fromEntries(Array.from({ length: 2_000 }, (_, index) => [`app/${index % 7}/m${index}`, text(index + 5_000)])) };
  const before = planLayers(store, base, treeOf(store, files));
  assert(before.length > 4, `${before.length} layers`);
  assert.deepEqual(before.slice(0, 2), planLayers(store, base, base).slice(0, 2), 'those of the base come first, whatever is above');
  for (const path of ['app/3/m10', 'app/0/m0', 'app/6/m1999']) {
    const now = planLayers(store, base, treeOf(store, { ...files, [path]: text(77) }));
    assert.equal(now.filter((layer) => !before.includes(layer)).length, 1, path);
  }
  const added = planLayers(store, base, treeOf(store, { ...files, 'app/2/new': text(78) }));
  assert(added.filter((layer) => !before.includes(layer)).length <= 2, 'a new file may be a new end of a layer');
  const removed = planLayers(store, base, treeOf(store, Object.fromEntries(Object.entries(files).filter(([path]) => path !== 'srv/d3/f3'))));
  assert(removed.filter((layer) => !before.includes(layer)).length <= 2, 'a whiteout above the base');
});

test('hard links stay together, however far apart their names', () => {
  const store = openMemoryStore();
  const linked: BuilderEntry = { kind: 'file', mode: 0o755, digest: store.putBlob(Buffer.from('linked')), size: 6, meta: { ...META, linkGroup: 5, links: 2 } };
  const tree = treeOf(store, { ...manyFiles(2_000, text), 'aa/first': linked, 'zz/last': linked });
  const layers = planLayers(store, undefined, tree);
  assert(planLayers(store, emptyTree(store), tree).length > 1);
  const holding = planLayers(store, emptyTree(store), tree).filter((layer) => [...walkTree(store, layer)].some(({ entry }) => entry.meta?.linkGroup === 5));
  assert.equal(holding.length, 1);
  assert.equal(layers.length, planLayers(store, emptyTree(store), tree).length);
});

class Memory implements LayerMemory {
  readonly #blobs = new Map<TreeDigest, LayerBlob>();
  packed = 0;

  get(tree: TreeDigest): LayerBlob | undefined {
    return this.#blobs.get(tree);
  }

  set(tree: TreeDigest, blob: LayerBlob): void {
    this.packed++;
    this.#blobs.set(tree, blob);
  }
}

async function write(store: Store, tree: TreeDigest, target: ImageTarget, memory?: Memory): Promise<ExportedImage> {
  const parts = { layers: planLayers(store, undefined, tree), document: documentOf(config, Object.values(hostPlatform()).join('/')), createdMs: 0 };
  return await exportImage(store, parts, target, { tempDir: world, ...(memory === undefined ? {} : { memory }) });
}

test('a layout, an archive: what is loaded again is the same tree and configuration, to the byte on every machine', async () => {
  const files = { ...manyFiles(300, text), 'etc/link': { kind: 'symlink' as const, target: toByteString('../srv'), mode: 0o777 }, 'naïve 🚀': 'x' };
  const written = [];
  for (const machine of ['one', 'two']) {
    const store = openMemoryStore();
    const tree = treeOf(store, files);
    const dir = join(world, machine);
    const layout = await write(store, tree, new LayoutTarget(join(dir, 'layout'), 'app:1'));
    using target = new ArchiveTarget(join(dir, 'app.tar'), 'app:1');
    assert.equal((await write(store, tree, target)).digest, layout.digest);
    written.push({ digest: layout.digest, index: readFileSync(join(dir, 'layout/index.json'), 'utf8'), archive: readFileSync(join(dir, 'app.tar')) });
    for (const source of [`oci:${join(dir, 'layout')}:1`, `docker-archive:${join(dir, 'app.tar')}`]) {
      const image = await loadImage(store, parseBase(source) as Parameters<typeof loadImage>[1], { tempDir: world });
      assert.equal(image.tree, tree, source);
      assert.deepEqual(image.config, config);
    }
  }
  assert.deepEqual(written[0], written[1]);
  assert.deepEqual(readdirSync(join(world, 'one')).sort(), ['app.tar', 'layout'], 'no litter');
});

test('a layout keeps the images of other names, and is not written over something else', async () => {
  const store = openMemoryStore();
  const dir = join(world, 'shared');
  const first = await write(store, treeOf(store, { a: '1' }), new LayoutTarget(dir, 'one'));
  await write(store, treeOf(store, { a: '2' }), new LayoutTarget(dir, 'two'));
  await write(store, treeOf(store, { a: '3' }), new LayoutTarget(dir, 'two'));
  const { manifests } = JSON.parse(readFileSync(join(dir, 'index.json'), 'utf8')) as { manifests: { digest: string; annotations: Record<string, string> }[] };
  assert.deepEqual(manifests.map(({ annotations }) => Object.values(annotations)), [['one'], ['two']]);
  assert.equal(manifests[0]?.digest, first.digest);
  const other = join(world, 'other');
  mkdirSync(other);
  writeFileSync(join(other, 'thesis.txt'), 'years');
  assert.throws(() => new LayoutTarget(other, undefined), (error) => error instanceof HdError && error.code === 'EXPORT_TARGET');
  assert.deepEqual(readdirSync(other), ['thesis.txt']);
});

const hasSkopeo = spawnSync('skopeo', ['--version']).status === 0;

test('a real registry gets only what it lacks', { skip: hasDockerRegistry ? false : 'docker-registry is not installed' }, async (t) => {
  const registry = await startDockerRegistry(mkdtempSync(join(world, 'registry-')));
  try {
    const store = openMemoryStore();
    const files = manyFiles(2_000, (index) => text(index));
    const reference = parseReference(`${registry.host}/team/app:v1`);
    const memory = new Memory();
    const push = (tree: TreeDigest): Promise<ExportedImage> => write(store, tree, new RegistryTarget(new RegistryClient(), reference), memory);
    const tree = treeOf(store, files);
    const first = await push(tree);
    assert(first.layers.length > 2 && first.layers.every(({ present }) => !present));
    const image = await loadImage(store, parseBase(`${registry.host}/team/app:v1`) as Parameters<typeof loadImage>[1], { tempDir: world });
    assert.deepEqual([image.tree, image.resolved], [tree, first.digest]);
    memory.packed = 0;
    const again = await push(tree);
    assert(again.layers.every(({ present }) => present));
    assert.deepEqual([again.digest, memory.packed], [first.digest, 0], 'nothing is packed for nothing');
    const edited = treeOf(store, { ...files, 'srv/d3/f3': 'edited' });
    const second = await push(edited);
    assert.equal(second.layers.filter(({ present }) => !present).length, 1);
    assert.equal(memory.packed, 1);
    assert.equal((await loadImage(store, parseBase(`${registry.host}/team/app@${second.digest}`) as Parameters<typeof loadImage>[1], { tempDir: world })).tree, edited);
    if (!hasSkopeo) return t.diagnostic('skopeo is not installed: it has not read the image');
    execFileSync('skopeo', ['copy', '--src-tls-verify=false', `docker://${registry.host}/team/app:v1`, `oci:${join(world, 'copied')}:app`], { stdio: 'pipe' });
    assert.equal((await loadImage(store, parseBase(`oci:${join(world, 'copied')}`) as Parameters<typeof loadImage>[1], { tempDir: world })).tree, edited);
  } finally {
    await registry.stop();
  }
});

/** What a function in the manner of `fetch` answers. */
function transportOf(answer: typeof fetch): Transport {
  return async (url, { method, headers, body }) => {
    const sent = body === undefined ? null : new Uint8Array(body instanceof Uint8Array ? body : readFileSync(body.path));
    const response = await answer(url, { method, headers, ...(method === 'GET' || method === 'HEAD' ? {} : { body: sent }) });
    const bytes = Buffer.from(await response.arrayBuffer());
    return { status: response.status, headers: Object.fromEntries(response.headers), body: Readable.from([bytes]), discard: () => {} };
  };
}

test('an upload that is cut, refused for the moment or without a login', async () => {
  const store = openMemoryStore();
  const tree = treeOf(store, { a: 'content' });
  const seen: string[] = [];
  const blobs = new Set<string>();
  let failures = 2;
  const fetcher: typeof fetch = async (input, init) => {
    const url = new URL(String(input));
    const method = init?.method ?? 'GET';
    const headers = new Headers(init?.headers);
    if (url.pathname === '/token') {
      seen.push(`token for ${url.searchParams.get('scope')}`);
      return Response.json({ token: `${url.searchParams.get('scope')}` });
    }
    const wanted = `repository:team/app:pull${method === 'HEAD' ? '' : ',push'}`;
    if (headers.get('authorization') !== `Bearer ${wanted}`) return new Response(null, { status: 401, headers: { 'www-authenticate': `Bearer realm="https://registry.test/token",service="s",scope="repository:team/app:pull"` } });
    if (method === 'HEAD') return new Response(null, { status: blobs.has(url.pathname) ? 200 : 404 });
    if (method === 'POST') return new Response(null, { status: 202, headers: { location: '/v2/team/app/blobs/uploads/1?state=x' } });
    const bytes = new Uint8Array(await new Response(init?.body).arrayBuffer());
    if (url.pathname.includes('/uploads/')) {
      if (failures-- > 0) {
        if (failures === 0) throw Object.assign(new Error('cut'), { code: 'ECONNRESET' });
        return new Response(null, { status: 503 });
      }
      blobs.add(`/v2/team/app/blobs/${url.searchParams.get('digest')}`);
      assert.equal(url.searchParams.get('state'), 'x');
      seen.push(`blob of ${bytes.length > 0 ? 'bytes' : 'nothing'}`);
    } else seen.push(`manifest ${url.pathname.split('/').at(-1)}`);
    return new Response(null, { status: 201 });
  };
  const client = new RegistryClient({ transport: transportOf(fetcher), credentials: () => undefined, retryDelayMs: 1 });
  await write(store, tree, new RegistryTarget(client, parseReference('registry.test/team/app:v1')));
  assert.deepEqual(seen, ['token for repository:team/app:pull', 'token for repository:team/app:pull,push', 'blob of bytes', 'blob of bytes', 'manifest v1']);
  const refusing = new RegistryClient({ transport: transportOf(async () => new Response(null, { status: 403 })), credentials: () => undefined, retryDelayMs: 1 });
  await assert.rejects(write(store, tree, new RegistryTarget(refusing, parseReference('registry.test/team/app:v1'))), (error) => error instanceof HdError && error.code === 'REGISTRY_AUTH');
  assert.throws(() => new RegistryTarget(client, parseReference(`registry.test/app@sha256:${'0'.repeat(64)}`)), (error) => error instanceof HdError && error.code === 'IMAGE_REFERENCE');
});

test('a file name that layers cannot say is an error, and leaves nothing', async () => {
  const store = openMemoryStore();
  const dir = join(world, 'impossible');
  mkdirSync(dir);
  using target = new ArchiveTarget(join(dir, 'a.tar'), undefined);
  await assert.rejects(write(store, treeOf(store, { '.wh.x': '' }), target), (error) => error instanceof HdError && error.code === 'LAYER_INVALID');
  target[Symbol.dispose]();
  assert.deepEqual(readdirSync(dir), []);
});
