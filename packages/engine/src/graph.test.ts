import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { BlobDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import { Encoder } from '@hyperdocker/base';
import type { RefTarget, Store } from '@hyperdocker/cas';
import { openMemoryStore, openStore } from '@hyperdocker/cas';
import type { ActionDefinition } from './action.ts';
import { decodeResult, definitionKey, encodeDefinition, encodeResult } from './action.ts';
import type { EnvInput, GraphView } from './graph.ts';
import { getBuildStep, getEnv, getPackage, nodeLinks, putEnv, viewGraph } from './graph.ts';
import { edit, file, treeOf } from './tree-fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'hd-graph-'));
after(() => rmSync(root, { recursive: true, force: true }));

const STEP: ActionDefinition = { command: 'make', workdir: '/w', env: { B: '2', A: '1' }, user: '', platform: 'linux/amd64', network: false, cacheDirs: ['/w/cache', '/root/.cache'] };
const BASE = { provider: 'oci', name: 'debian', version: '12', artifact: 'ab'.repeat(32) };

function input(files: TreeDigest, more: Partial<EnvInput> = {}): EnvInput {
  return { name: 'app', packages: [BASE, { provider: 'npm', name: 'left-pad', version: '1.0.0', artifact: 'cd'.repeat(32) }], files, steps: [STEP, { ...STEP, command: 'make test' }], ...more };
}

/** Depth 4, with 200 siblings in every directory. */
function wideTree(store: Store): TreeDigest {
  const files: Record<string, string> = {};
  for (const dir of ['', 'a/', 'a/b/', 'a/b/c/', 'a/b/c/d/']) for (let i = 0; i < 200; i++) files[`${dir}f${i}`] = `${dir} ${i}`;
  return treeOf(store, files);
}

const flat = (view: GraphView): GraphView[] => [view, ...view.children.flatMap(flat)];
const notOk = (view: GraphView): string[] => flat(view).filter(({ status }) => status !== 'ok').map(({ label, status }) => `${label} ${status}`);

test('the encodings are frozen', () => {
  const store = openMemoryStore();
  const files = treeOf(store, { 'src/main.c': 'int main;', run: file(store, '#!', 0o755), link: { kind: 'symlink', mode: 0o777, target: 'run' as never } });
  assert.equal(definitionKey(STEP), '4f5a34e24817d8ac00c4d1ff89425ecf8c09025072cb719eb21fb8db94711295');
  assert.equal(definitionKey({ ...STEP, network: true, user: 'app', untracedInput: 'ef'.repeat(32) as TreeDigest }), 'b196930c3b0086a47ecce8b78591bc9c7ee9461bbe2f22e44ac67b3fe5f348cf');
  assert.equal(putEnv(store, input(files)), 'aceee1e4212bb90dc4ac1f003d56a4658c32a1885a6ebe13a236701f2ebcd847');
});

test('every part of a definition is in its key; the order in which variables and directories are named is not', () => {
  const changed: Partial<ActionDefinition>[] = [
    { command: 'make x' }, { workdir: '/x' }, { env: { A: '1' } }, { env: { A: '1', B: '3' } }, { user: 'app' }, { platform: 'linux/arm64' }, { network: true },
    { cacheDirs: ['/w/cache'] }, { inputs: [] }, { inputs: ['a', '!b'] }, { inputs: ['!b', 'a'] }, { outputs: [] }, { outputs: ['/w/a'] }, { inputs: ['/w/a'] },
    { secrets: [{ id: 's', file: '/s' }] }, { secrets: [{ id: 't', file: '/s' }] }, { secrets: [{ id: 's', file: '/t' }] }, { secrets: [{ id: 's', file: '/s', env: 'S' }] },
    { untracedInput: 'ef'.repeat(32) as TreeDigest }, { args: [] }, { args: ['make'] }, { args: ['ma', 'ke'] }, { mounts: ['make'] }, { mounts: ['a', 'b'] }, { args: ['a'], mounts: ['b'] }, { privileged: true }, { secrets: [{ id: 's', file: '/s' }], privileged: true },
  ];
  const keys = [{}, ...changed].map((part) => definitionKey({ ...STEP, ...part }));
  assert.equal(new Set(keys).size, keys.length);
  assert.equal(definitionKey({ ...STEP, mounts: [], privileged: false }), definitionKey(STEP));
  assert.equal(definitionKey({ ...STEP, env: { A: '1', B: '2' }, cacheDirs: ['/root/.cache', '/w/cache'] }), definitionKey(STEP));
  assert.notEqual(definitionKey({ ...STEP, env: { A: '1B', C: '' } }), definitionKey({ ...STEP, env: { A: '1', BC: '' } }));
});

test('a root depends on its inputs alone, and on each of them', () => {
  const [one, two] = [openMemoryStore(), openMemoryStore()];
  const files = treeOf(one, { b: '2', a: '1' });
  assert.equal(putEnv(one, input(files)), putEnv(two, input(treeOf(two, { a: '1', b: '2' }), { steps: [{ ...STEP, env: { A: '1', B: '2' } }, { ...STEP, command: 'make test' }] })));
  const variants: Partial<EnvInput>[] = [{}, { name: 'other' }, { packages: [BASE] }, { files: treeOf(one, { a: '1' }) }, { steps: [STEP] }, { steps: [{ ...STEP, command: 'make test' }, STEP] }];
  assert.equal(new Set(variants.map((more) => putEnv(one, input(files, more)))).size, variants.length);
});

test('a graph opens again from its root alone', () => {
  const dir = join(root, 'reopen');
  let env: NodeDigest;
  {
    using store = openStore(dir, { nodeLinks });
    env = putEnv(store, input(treeOf(store, { 'src/a': 'content of a', b: 'content of b' })));
    store.flush();
  }
  using store = openStore(dir, { readOnly: true });
  const { name, children } = getEnv(store, env);
  assert.equal(name, 'app');
  assert.deepEqual(children.filter(({ kind }) => kind === 'Package').map(({ digest }) => getPackage(store, digest as NodeDigest)), input('' as TreeDigest).packages.map((node) => ({ kind: 'Package', ...node })));
  assert.deepEqual(children.filter(({ kind }) => kind === 'BuildStep').map(({ digest }) => getBuildStep(store, digest as NodeDigest)), [
    { kind: 'BuildStep', command: 'make', definition: definitionKey(STEP) },
    { kind: 'BuildStep', command: 'make test', definition: definitionKey({ ...STEP, command: 'make test' }) },
  ]);
  const contents = flat(viewGraph(store, env)).filter(({ kind }) => kind === 'File').map(({ label, digest }) => `${label}: ${store.getBlob(digest as BlobDigest)}`);
  assert.deepEqual(contents, ['b: content of b', 'a: content of a']);
});

test('an edit of one file makes the objects on its path to the root, and no other', () => {
  const store = openMemoryStore({ nodeLinks });
  const files = wideTree(store);
  const before = putEnv(store, input(files));
  const start = store.stats();
  const after = putEnv(store, input(edit(store, files, { 'a/b/c/d/f77': 'edited' })));
  const end = store.stats();
  assert.equal(end.chunks - start.chunks, 1, 'one blob');
  assert.equal(end.manifests - start.manifests, 5 + 1, 'the directories d, c, b, a and the top, and the Env node');
  assert.deepEqual(notOk(viewGraph(store, after, before)), ['Env(app) changed', 'Dir(.) changed', 'Dir(a) changed', 'Dir(b) changed', 'Dir(c) changed', 'Dir(d) changed', 'f77 changed']);
  assert.equal(putEnv(store, input(files)), before, 'and back');
  assert.deepEqual(store.stats(), end, 'nothing new for what is there');
});

test('a view marks what is new, changed and removed', () => {
  const store = openMemoryStore();
  const files = treeOf(store, { kept: '1', gone: '1', 'old/x': '1', mode: '1', 'name\nü': '1' });
  const before = putEnv(store, input(files));
  assert.deepEqual(notOk(viewGraph(store, before)), []);
  assert.deepEqual(notOk(viewGraph(store, before, before)), []);
  const after = putEnv(store, input(edit(store, files, { gone: undefined, old: undefined, 'fresh/y': '', mode: file(store, '1', 0o755) }), {
    packages: [{ ...BASE, version: '13' }, { provider: 'npm', name: 'right-pad', version: '1', artifact: BASE.artifact }],
    steps: [STEP, { ...STEP, command: 'make lint' }],
  }));
  assert.deepEqual(notOk(viewGraph(store, after, before)), [
    'Env(app) changed', 'Pkg(oci/debian 13) changed', 'Pkg(npm/right-pad 1) new', 'Dir(.) changed', 'Dir(fresh) new', 'y new', 'mode changed', 'gone removed', 'Dir(old) removed',
    'Build(make lint) new', 'Pkg(npm/left-pad 1.0.0) removed', 'Build(make test) removed',
  ]);
});

test('two steps with one command are two children', () => {
  const store = openMemoryStore();
  const files = treeOf(store, { a: '1' });
  const twice = input(files, { steps: [STEP, { ...STEP, command: 'middle' }, STEP] });
  const before = putEnv(store, twice);
  const after = putEnv(store, { ...twice, files: edit(store, files, { a: '2' }) });
  assert.deepEqual(notOk(viewGraph(store, after, before)), ['Env(app) changed', 'Dir(.) changed', 'a changed']);
});

test('results round-trip, and refuse the bytes of other kinds', () => {
  const store = openMemoryStore();
  const result = { delta: treeOf(store, { o: '' }), log: store.putBlob(Buffer.from('log')), durationMs: 12, caches: [{ path: '/c', tree: treeOf(store, {}) }], volatile: ['could use the network'], notPassed: ['TOKEN'] };
  assert.deepEqual(decodeResult(encodeResult(result)), result);
  assert.throws(() => decodeResult(encodeDefinition(STEP)), { code: 'CORRUPT_OBJECT' });
  assert.throws(() => decodeResult(encodeResult(result).subarray(0, -1)), { code: 'CORRUPT_OBJECT' });
  assert.throws(() => getEnv(store, store.putNode(new Encoder('hd.env/1').text('x').uint(1).uint(9).digest('ab'.repeat(32)).finish())), { code: 'CORRUPT_OBJECT' });
});

test('links name all that a node refers to', () => {
  const store = openMemoryStore();
  const files = treeOf(store, { a: '1' });
  const env = putEnv(store, input(files));
  const links = nodeLinks(store.getNode(env));
  assert.deepEqual(links.map(({ kind }) => kind), ['node', 'node', 'tree', 'node', 'node']);
  assert.deepEqual(links.map(({ digest }) => digest), getEnv(store, env).children.map(({ digest }) => digest as string));
  const [delta, tree] = [treeOf(store, { out: '' }), treeOf(store, { warm: '' })];
  const log = store.putBlob(Buffer.from('log'));
  const expected: RefTarget[] = [{ kind: 'tree', digest: delta }, { kind: 'blob', digest: log }, { kind: 'tree', digest: tree }];
  assert.deepEqual(nodeLinks(encodeResult({ delta, log, durationMs: 1, caches: [{ path: '/c', tree }], volatile: [], notPassed: [] })), expected);
  assert.deepEqual(nodeLinks(encodeDefinition(STEP)), []);
});

test('gc keeps an environment that a ref names, whole, and drops the one before', () => {
  using store = openStore(join(root, 'gc'), { nodeLinks });
  const oldFiles = treeOf(store, { 'src/a': 'of the old alone', shared: 'of both' });
  const old = putEnv(store, input(oldFiles, { name: 'old' }));
  store.setRef('env/root', { kind: 'node', digest: old });
  const files = treeOf(store, { 'src/a': 'of the new', shared: 'of both' });
  const env = putEnv(store, input(files));
  store.setRef('env/root', { kind: 'node', digest: env });
  store.gc();
  assert.equal(store.hasNode(old), false);
  assert.equal(store.hasTree(oldFiles), false);
  assert.deepEqual(store.fsck().problems, []);
  const texts = flat(viewGraph(store, env)).filter(({ kind }) => kind === 'File').map(({ digest }) => store.getBlob(digest as BlobDigest).toString());
  assert.deepEqual(texts, ['of both', 'of the new']);
  for (const { kind, digest } of getEnv(store, env).children) if (kind !== 'Dir') store.getNode(digest);
});
