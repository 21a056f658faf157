import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { hasher } from '@hyperdocker/base';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import type { Store, TreeEntry } from './contract.ts';
import { openMemoryStore } from './memory-store.ts';
import { TreeBuilder } from './tree-builder.ts';
import { applyDelta, diffTrees, emptyTree, linkGroupFor, lookupPath, setPath, walkTree } from './tree-ops.ts';

const path = (text: string): ByteString => text as ByteString;
const file = (text: string, mode = 0o644): TreeEntry => ({ name: path('-'), kind: 'file', mode, digest: hasher.hash(Buffer.from(text)) as BlobDigest, size: text.length });
const WHITEOUT = { kind: 'whiteout', mode: 0 } as const;

function treeOf(store: Store, entries: Record<string, Parameters<TreeBuilder['set']>[1]>): TreeDigest {
  const builder = new TreeBuilder(store);
  for (const [at, entry] of Object.entries(entries)) builder.set(path(at), entry);
  return builder.finish();
}

function paths(store: Store, root: TreeDigest): string[] {
  return [...walkTree(store, root)].map((item) => item.path);
}

/** A store in which reading a tree of `forbidden` fails the test. */
function guarded(store: Store, forbidden: Set<string>): Store {
  return Object.create(store, {
    getTree: { value: (digest: TreeDigest) => (assert(!forbidden.has(digest), `read ${digest}`), store.getTree(digest)) },
    putTree: { value: (entries: TreeEntry[]) => store.putTree(entries) },
  }) as Store;
}

test('lookup', () => {
  using store = openMemoryStore();
  const root = treeOf(store, { 'a/b': file('1'), link: { kind: 'symlink', mode: 0o777, target: path('a') } });
  assert.equal(lookupPath(store, root, path('a/b'))?.kind, 'file');
  assert.equal(lookupPath(store, root, path('a'))?.kind, 'dir');
  for (const absent of ['', 'c', 'a/c', 'a/b/c', 'link/b']) assert.equal(lookupPath(store, root, path(absent)), undefined, absent);
});

test('delta: whiteout, opaque, merge, replace; the result is whole', () => {
  using store = openMemoryStore();
  const base = treeOf(store, { 'merged/old': file('1'), 'merged/gone': file('2'), 'hidden/old': file('3'), 'file': file('4'), 'dir/x': file('5'), 'same/deep/x': file('6') });
  const delta = treeOf(store, {
    'merged': { kind: 'dir', mode: 0o700 }, 'merged/gone': WHITEOUT, 'merged/new': file('7'),
    'hidden': { kind: 'dir', mode: 0o755, opaque: true }, 'hidden/new': file('8'), 'hidden/none': WHITEOUT,
    'file/now/dir': file('9'), 'file/now/none': WHITEOUT, 'dir': file('10'), 'absent': WHITEOUT,
  });
  const untouched = new Set([lookupPath(store, base, path('same'))].flatMap((entry) => (entry?.kind === 'dir' ? [entry.digest] : [])));
  const result = applyDelta(guarded(store, untouched), base, delta);
  assert.deepEqual(paths(store, result), ['dir', 'file', 'file/now', 'file/now/dir', 'hidden', 'hidden/new', 'merged', 'merged/new', 'merged/old', 'same', 'same/deep', 'same/deep/x']);
  assert.equal(lookupPath(store, result, path('merged'))?.mode, 0o700);
  for (const { entry } of walkTree(store, result)) assert(entry.kind !== 'whiteout' && !(entry.kind === 'dir' && entry.opaque));
});

test('setPath makes parents, removes, and refuses to go through files', () => {
  using store = openMemoryStore();
  let root = setPath(store, emptyTree(store), path('a/b/c'), file('1'));
  assert.equal(lookupPath(store, root, path('a'))?.mode, 0o755);
  assert.equal(setPath(store, root, path('a/x/y'), undefined), root);
  assert.throws(() => setPath(store, root, path('a/b/c/d'), file('2')), { code: 'NOT_A_DIRECTORY' });
  root = setPath(store, root, path('a/b/c'), undefined);
  assert.deepEqual(paths(store, root), ['a', 'a/b']);
});

test('diff reads no equal subtree, is lazy, and tells a change of kind with all that goes', () => {
  using store = openMemoryStore();
  const before = treeOf(store, { 'same/x': file('1'), 'turns/x': file('2'), 'z/x': file('3') });
  const after = treeOf(store, { 'same/x': file('1'), 'turns': file('2'), 'z/x': file('4') });
  const digestOf = (root: TreeDigest, at: string): string => (lookupPath(store, root, path(at)) as { digest: string }).digest;
  const watched = guarded(store, new Set([digestOf(before, 'same')]));
  assert.deepEqual([...diffTrees(watched, before, after)].map(({ change, path: at }) => `${change} ${at}`), ['changed turns', 'removed turns/x', 'changed z/x']);
  const lazy = diffTrees(guarded(store, new Set([digestOf(before, 'z')])), before, after);
  assert.equal(lazy.next().value?.path, 'turns');
});

test('builder: from a base, hard links, clear, remove, and only touched directories are read', () => {
  using store = openMemoryStore();
  const base = treeOf(store, { 'a/x': file('1'), 'b/y': file('2'), 'c/z': file('3') });
  const b = lookupPath(store, base, path('b'));
  const builder = new TreeBuilder(guarded(store, new Set(b?.kind === 'dir' ? [b.digest] : [])), base);
  const target = builder.get(path('a/x'));
  assert(target?.kind === 'file');
  builder.set(path('a/hard'), target);
  builder.set(path('b'), { kind: 'dir', mode: 0o700 });
  assert.equal(builder.clear(path('c')), true);
  assert.equal(builder.clear(path('a/x')), false);
  assert.equal(builder.remove(path('a/x')), true);
  assert.equal(builder.remove(path('a/x')), false);
  assert.throws(() => builder.set(path('a/hard/below'), file('4')), { code: 'NOT_A_DIRECTORY' });
  assert.deepEqual(builder.list(path('')), ['a', 'b', 'c']);
  const first = builder.finish();
  assert.deepEqual(paths(store, first), ['a', 'a/hard', 'b', 'b/y', 'c']);
  assert.equal(lookupPath(store, first, path('b'))?.mode, 0o700);
  builder.set(path('c/again'), file('5'));
  assert.deepEqual(paths(store, builder.finish()), ['a', 'a/hard', 'b', 'b/y', 'c', 'c/again']);
});

test('link groups are stable, never 0, and differ by path and content', () => {
  const groups = [linkGroupFor(path('a'), '1'), linkGroupFor(path('b'), '1'), linkGroupFor(path('a'), '2')];
  assert.equal(new Set(groups).size, 3);
  assert.equal(linkGroupFor(path('a'), '1'), groups[0]);
  assert(groups.every((group) => Number.isSafeInteger(group) && group > 0));
});

/** The naive model: a whole tree as a map from path to entry; directories by their mode. */
type Model = Map<string, { kind: 'file'; text: string; mode: number } | { kind: 'dir'; mode: number; opaque?: boolean } | { kind: 'whiteout' }>;
const NAMES = fc.constantFrom('a', 'b', 'c', '\xff');
const PATHS = fc.array(NAMES, { minLength: 1, maxLength: 4 }).map((names) => names.join('/'));
const MODES = fc.constantFrom(0o644, 0o755);
const LEAF = fc.record({ kind: fc.constant('file' as const), text: fc.constantFrom('1', '2', '3'), mode: MODES });
const DIR = fc.record({ kind: fc.constant('dir' as const), mode: MODES });
const WHOLE = fc.array(fc.tuple(PATHS, fc.oneof(LEAF, DIR)), { maxLength: 14 }).map(normalize);
const DELTA = fc
  .array(fc.tuple(PATHS, fc.oneof(LEAF, DIR, fc.record({ kind: fc.constant('dir' as const), mode: MODES, opaque: fc.constant(true) }), fc.constant({ kind: 'whiteout' as const }))), { maxLength: 14 })
  .map(normalize);

/** Keeps what can stand together: parents are directories, and all are there. */
function normalize(items: [string, Model extends Map<string, infer V> ? V : never][]): Model {
  const model: Model = new Map();
  for (const [at, item] of items) {
    const parents = at.split('/').slice(0, -1).map((_, i, names) => names.slice(0, i + 1).join('/'));
    if (model.has(at) || parents.some((parent) => (model.get(parent)?.kind ?? 'dir') !== 'dir')) continue;
    for (const parent of parents) if (!model.has(parent)) model.set(parent, { kind: 'dir', mode: 0o755 });
    model.set(at, item);
  }
  return model;
}

function storeModel(store: Store, model: Model): TreeDigest {
  const builder = new TreeBuilder(store);
  for (const [at, item] of model) builder.set(path(at), item.kind === 'file' ? file(item.text, item.mode) : item.kind === 'dir' ? item : WHITEOUT);
  return builder.finish();
}

function overlay(base: Model, delta: Model): Model {
  const result: Model = new Map(base);
  const removeBelow = (at: string): void => {
    for (const other of [...result.keys()]) if (other.startsWith(`${at}/`)) result.delete(other);
  };
  for (const at of [...delta.keys()].sort((a, b) => a.split('/').length - b.split('/').length)) {
    const item = delta.get(at)!;
    if (item.kind !== 'dir' || item.opaque === true) removeBelow(at);
    if (item.kind === 'whiteout') result.delete(at);
    else result.set(at, item.kind === 'dir' ? { kind: 'dir', mode: item.mode } : item);
  }
  return result;
}

test('property: applyDelta does what the naive model does', () => {
  using store = openMemoryStore();
  fc.assert(fc.property(WHOLE, DELTA, (base, delta) => {
    assert.equal(applyDelta(store, storeModel(store, base), storeModel(store, delta)), storeModel(store, overlay(base, delta)));
  }), { numRuns: 500 });
});

test('property: the changes of a diff, laid on the old tree, give the new one', () => {
  using store = openMemoryStore();
  fc.assert(fc.property(WHOLE, WHOLE, (old, now) => {
    const before = storeModel(store, old);
    const after = storeModel(store, now);
    let root = before;
    for (const change of diffTrees(store, before, after)) {
      if (change.change === 'removed') {
        if (lookupPath(store, root, change.path) !== undefined) root = setPath(store, root, change.path, undefined);
        continue;
      }
      // What a directory holds comes with its own changes.
      const present = lookupPath(store, root, change.path);
      const kept = present?.kind === 'dir' ? present.digest : emptyTree(store);
      root = setPath(store, root, change.path, change.after.kind === 'dir' ? { ...change.after, digest: kept } : change.after);
    }
    assert.equal(root, after);
  }), { numRuns: 500 });
});

test('property: a walk lists each path once, parents first, in the order of the names', () => {
  using store = openMemoryStore();
  fc.assert(fc.property(WHOLE, (model) => {
    const found = paths(store, storeModel(store, model));
    const inOrder = [...model.keys()].sort((a, b) => (a.replaceAll('/', '\0') < b.replaceAll('/', '\0') ? -1 : 1));
    assert.deepEqual(found, inOrder);
  }));
});
