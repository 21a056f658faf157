import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { ActionDigest, TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openMemoryStore, openStore } from '@hyperdocker/cas';
import type { ActionCache, Hit, Miss } from './action-cache.ts';
import { openActionCache } from './action-cache.ts';
import type { ActionResult } from './action.ts';
import { definitionKey } from './action.ts';
import type { PathSet, Trace } from './facts.ts';
import { Asked } from './facts.ts';
import { nodeLinks } from './graph.ts';
import { at, edit, treeOf } from './tree-fixture.ts';

const root = mkdtempSync(join(tmpdir(), 'hd-actions-'));
after(() => rmSync(root, { recursive: true, force: true }));
let count = 0;
const newFile = (): string => join(root, `${count++}.sqlite`);
const DEFINITION = definitionKey({ command: 'make', workdir: '/w', env: {}, user: '', platform: 'linux/amd64', network: false, cacheDirs: [] });
/** Reads `in`, lists `lib`, looks for `config`. */
const PATHS: PathSet = new Map([[at('config'), Asked.stat], [at('in'), Asked.content | Asked.stat], [at('lib'), Asked.listing]]);
const TRACE: Trace = { paths: PATHS, askers: new Map() };

interface World extends Disposable { store: Store; cache: ActionCache; file: string; result(text: string): ActionResult }

function world(): World {
  const store = openMemoryStore({ nodeLinks });
  const file = newFile();
  const cache = openActionCache(file, store);
  const result = (text: string): ActionResult => ({ delta: treeOf(store, { out: text }), log: store.putBlob(Buffer.from(`made ${text}`)), durationMs: 5, caches: [], volatile: [], notPassed: [] });
  return { store, cache, file, result, [Symbol.dispose]: () => cache[Symbol.dispose]() };
}

const START = { in: '1', 'lib/a': 'a', other: 'x' };

function assertHit(found: Hit | Miss, result: ActionResult, facts: number): void {
  assert.deepEqual(found, { kind: 'hit', result, facts });
}

test('what never ran is a miss, and the same input is a hit without a fact compared', () => {
  using w = world();
  const input = treeOf(w.store, START);
  assert.deepEqual(w.cache.find(DEFINITION, input), { kind: 'miss', reason: { why: 'never-ran' } });
  const result: ActionResult = { ...w.result('1'), caches: [{ path: '/cache', tree: treeOf(w.store, { warm: '' }) }], volatile: ['could use the network'], notPassed: ['TOKEN'] };
  w.cache.record(DEFINITION, input, TRACE, result);
  assertHit(w.cache.find(DEFINITION, input), result, 0);
  assert.equal(w.cache.find('cd'.repeat(32) as ActionDigest, input).kind, 'miss', 'another definition has results of its own');
});

test('after an unrelated edit the facts decide; the next look-up of that input needs none', () => {
  using w = world();
  const input = treeOf(w.store, START);
  const result = w.result('1');
  w.cache.record(DEFINITION, input, TRACE, result);
  const later = edit(w.store, input, { other: 'edited', 'lib/a': 'edited too', 'new/file': '' });
  assertHit(w.cache.find(DEFINITION, later), result, 3);
  assertHit(w.cache.find(DEFINITION, later), result, 0);
  assert.equal(w.cache.newest(DEFINITION)?.input, later, 'the next input is compared with this one');
});

test('a miss names the path, what was asked of it, and both answers', () => {
  using w = world();
  const input = treeOf(w.store, START);
  w.cache.record(DEFINITION, input, TRACE, w.result('1'));
  const reason = (edits: Parameters<typeof edit>[2]): Miss['reason'] => {
    const found = w.cache.find(DEFINITION, edit(w.store, input, edits));
    assert(found.kind === 'miss');
    return found.reason;
  };
  const text = (content: string): string => `file ${w.store.putBlob(Buffer.from(content)).slice(0, 12)}`;
  assert.deepEqual(reason({ in: '2' }), { why: 'changed', path: 'in', asked: Asked.content, before: text('1'), after: text('2') });
  assert.deepEqual(reason({ config: 'now here' }), { why: 'changed', path: 'config', asked: Asked.stat, before: 'absent', after: text('now here') });
  const listing = reason({ 'lib/b': '' });
  assert(listing.why === 'changed' && listing.path === 'lib' && listing.before !== listing.after);
  assert.deepEqual(reason({ lib: undefined }), { why: 'changed', path: 'lib', asked: Asked.listing, before: listing.before, after: 'absent' });
});

test('a miss names the program that looked, where that was recorded; askers are kept through gc', () => {
  using w = world();
  const input = treeOf(w.store, START);
  w.store.setRef('input', { kind: 'tree', digest: input });
  const askers = new Map([[at('in'), [{ asked: Asked.stat, program: 'sh' }, { asked: Asked.content, program: 'cc1 in' }]]]);
  w.cache.record(DEFINITION, input, { paths: PATHS, askers }, w.result('1'));
  const by = (files: Record<string, string>): unknown => {
    const found = w.cache.find(DEFINITION, treeOf(w.store, { ...START, ...files }));
    return found.kind === 'miss' && found.reason.why === 'changed' ? found.reason.by : found;
  };
  w.store.gc({ extraRoots: w.cache.roots(0) });
  assert.equal(by({ in: '2' }), 'cc1 in');
  assert.equal(by({ config: 'new' }), undefined);
  w.cache.record(DEFINITION, input, TRACE, w.result('1'));
  assert.equal(by({ in: '2' }), undefined);
});

test('a file from before there were askers opens, and its rows work', () => {
  using w = world();
  const input = treeOf(w.store, START);
  const result = w.result('1');
  w.cache.record(DEFINITION, input, TRACE, result);
  w.cache[Symbol.dispose]();
  const db = new DatabaseSync(w.file);
  db.exec('ALTER TABLE runs DROP COLUMN askers');
  db.close();
  using again = openActionCache(w.file, w.store);
  assertHit(again.find(DEFINITION, input), result, 0);
  assert.equal(again.roots(0).length, 2);
  const found = again.find(DEFINITION, treeOf(w.store, { ...START, in: '2' }));
  assert(found.kind === 'miss' && found.reason.why === 'changed');
});

test('switching back to an earlier content is a hit', () => {
  using w = world();
  const [first, second] = [treeOf(w.store, START), treeOf(w.store, { ...START, in: '2' })];
  const [one, two] = [w.result('1'), w.result('2')];
  w.cache.record(DEFINITION, first, TRACE, one);
  w.cache.record(DEFINITION, second, TRACE, two);
  assertHit(w.cache.find(DEFINITION, first), one, 0);
  assertHit(w.cache.find(DEFINITION, second), two, 0);
  assertHit(w.cache.find(DEFINITION, edit(w.store, first, { other: 'y' })), one, 3);
});

test('results with other path sets: whichever fits is found', () => {
  using w = world();
  const plain = treeOf(w.store, START);
  const configured = treeOf(w.store, { ...START, config: 'use other' });
  const [one, two] = [w.result('plain'), w.result('configured')];
  w.cache.record(DEFINITION, plain, TRACE, one);
  w.cache.record(DEFINITION, configured, { paths: new Map([[at('config'), Asked.content], [at('other'), Asked.content]]), askers: new Map() }, two);
  assertHit(w.cache.find(DEFINITION, edit(w.store, plain, { other: 'y' })), one, 3);
  assertHit(w.cache.find(DEFINITION, edit(w.store, configured, { in: '2' })), two, 2);
  assert.equal(w.cache.find(DEFINITION, edit(w.store, configured, { other: 'y' })).kind, 'miss');
});

test('results that are gone from the store are a miss that says so, and can be recorded again', () => {
  using w = world();
  const input = treeOf(w.store, START);
  w.store.setRef('input', { kind: 'tree', digest: input });
  w.cache.record(DEFINITION, input, TRACE, w.result('1'));
  const pathsKept = w.cache.roots(0).slice(0, 1);
  w.store.gc({ extraRoots: pathsKept });
  assert.deepEqual(w.cache.find(DEFINITION, input), { kind: 'miss', reason: { why: 'results-gone' } });
  w.store.gc();
  assert.deepEqual(w.cache.find(DEFINITION, edit(w.store, input, { other: 'y' })), { kind: 'miss', reason: { why: 'results-gone' } });
  const again = w.result('1');
  w.cache.record(DEFINITION, input, TRACE, again);
  assertHit(w.cache.find(DEFINITION, input), again, 0);
});

test('its roots keep results through gc, and pruned rows are forgotten', () => {
  using w = world();
  const input = treeOf(w.store, START);
  const result: ActionResult = { ...w.result('1'), caches: [{ path: '/cache', tree: treeOf(w.store, { warm: 'x' }) }] };
  w.cache.record(DEFINITION, input, TRACE, result);
  w.store.gc({ extraRoots: w.cache.roots(0) });
  assert.equal(w.store.getBlob(result.log).toString(), 'made 1');
  assert.equal(w.store.hasTree(result.caches[0]?.tree as TreeDigest), true);
  assertHit(w.cache.find(DEFINITION, treeOf(w.store, START)), result, 0);
  assert.deepEqual(w.cache.roots(Date.now() + 1000), []);
  w.cache.prune(Date.now() + 1000);
  assert.deepEqual(w.cache.find(DEFINITION, input), { kind: 'miss', reason: { why: 'never-ran' } });
});

test('it is kept over closing', () => {
  using w = world();
  const input = treeOf(w.store, START);
  const result = w.result('1');
  w.cache.record(DEFINITION, input, TRACE, result);
  w.cache[Symbol.dispose]();
  using again = openActionCache(w.file, w.store);
  assertHit(again.find(DEFINITION, input), result, 0);
});

test('two processes record at once and nothing is lost', async () => {
  const file = newFile();
  const storeDir = join(root, 'store');
  using store = openStore(storeDir, { nodeLinks });
  const script = fileURLToPath(new URL('action-cache.child.ts', import.meta.url));
  const each = 40;
  await Promise.all(['left', 'right'].map((name) => promisify(execFile)(process.execPath, [script, file, storeDir, DEFINITION, name, String(each)])));
  using cache = openActionCache(file, store);
  for (const name of ['left', 'right']) {
    for (let i = 0; i < each; i++) {
      const found = cache.find(DEFINITION, treeOf(store, { input: `${name} ${i}`, unrelated: '' }));
      assert(found.kind === 'hit' && found.result.delta === treeOf(store, { output: `${name} ${i}` }), `${name} ${i}`);
    }
  }
});
