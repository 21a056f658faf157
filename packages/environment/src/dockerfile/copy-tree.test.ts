import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError, toByteString, toText } from '@hyperdocker/base';
import type { BuilderEntry, Meta, Store } from '@hyperdocker/cas';
import { TreeBuilder, openMemoryStore, walkTree } from '@hyperdocker/cas';
import type { CopyOptions } from './copy-tree.ts';
import { copyInto, extractInto, makeDirectory } from './copy-tree.ts';
import { changeMode } from './file-mode.ts';

const META: Meta = { uid: 0, gid: 0, mtimeNs: 5_000_000_000n, xattrs: [], linkGroup: 0, links: 1 };

/** `path: text` is a file, `path/: mode` a directory, `path@: target` a link. */
function treeOf(store: Store, files: Record<string, string>, meta: Partial<Meta> = {}): TreeDigest {
  const builder = new TreeBuilder(store);
  for (const [name, text] of Object.entries(files)) {
    const own = { ...META, ...meta };
    const entry: BuilderEntry = name.endsWith('/') ? { kind: 'dir', mode: Number.parseInt(text, 8), meta: own } : name.endsWith('@') ? { kind: 'symlink', mode: 0o777, target: toByteString(text), meta: own } : { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: text.length, meta: own };
    builder.set(toByteString(name.replace(/[/@]$/, '')), entry);
  }
  return builder.finish();
}

/** Path → `mode uid:gid text`. */
function listing(store: Store, tree: TreeDigest): Record<string, string> {
  return Object.fromEntries([...walkTree(store, tree)].map(({ path, entry }) => {
    const content = entry.kind === 'file' ? store.getBlob(entry.digest).toString() : entry.kind === 'symlink' ? `→ ${toText(entry.target)}` : '/';
    return [toText(path), `${entry.mode.toString(8)} ${entry.meta?.uid ?? '-'}:${entry.meta?.gid ?? '-'} ${content}`];
  }));
}

interface World { store: Store; from: TreeDigest; into(sources: string | string[], destination: string, tree?: Record<string, string>, options?: CopyOptions): Record<string, string> }

function world(files: Record<string, string>): World {
  const store = openMemoryStore();
  const from = treeOf(store, files);
  return { store, from, into: (sources, destination, tree = {}, options = {}) => listing(store, copyInto(store, treeOf(store, tree), from, [sources].flat(), destination, options)) };
}

const FILE = '644 0:0 1';
const DIR = '755 0:0 /';

test('a file goes into a directory, or under the name that is given', () => {
  const { into } = world({ 'a.txt': '1', 'd/b.txt': '2' });
  assert.deepEqual(into('a.txt', '/x'), { x: FILE });
  assert.deepEqual(into('a.txt', '/x/'), { x: DIR, 'x/a.txt': FILE });
  assert.deepEqual(into('a.txt', '/x', { 'x/': '700' }), { x: '700 0:0 /', 'x/a.txt': FILE });
  assert.deepEqual(into('a.txt', '/deep/er/x'), { deep: DIR, 'deep/er': DIR, 'deep/er/x': FILE });
  assert.deepEqual(into('d/b.txt', '/'), { 'b.txt': '644 0:0 2' });
  assert.deepEqual(into('a.txt', '/x', { x: 'old' }), { x: FILE });
});

test('of a directory what it holds is copied; directories merge, and take over mode and owner below the first', () => {
  const { into } = world({ 'd/': '711', 'd/a': '1', 'd/sub/': '700', 'd/sub/b': '2' });
  assert.deepEqual(into('d', '/x'), { x: DIR, 'x/a': FILE, 'x/sub': '700 0:0 /', 'x/sub/b': '644 0:0 2' });
  assert.deepEqual(into('d/', '/x', { 'x/': '750', 'x/kept': '9', 'x/sub/': '777', 'x/sub/kept': '9' }), {
    x: '750 0:0 /', 'x/a': FILE, 'x/kept': '644 0:0 9', 'x/sub': '700 0:0 /', 'x/sub/b': '644 0:0 2', 'x/sub/kept': '644 0:0 9',
  });
  assert.deepEqual(into('.', '/'), { d: '711 0:0 /', 'd/a': FILE, 'd/sub': '700 0:0 /', 'd/sub/b': '644 0:0 2' });
});

test('what cannot be replaced is said', () => {
  const { into } = world({ a: '1', 'd/x': '2' });
  const fails = (why: RegExp) => (error: unknown): boolean => error instanceof HdError && error.code === 'COPY_FAILED' && why.test(error.message);
  assert.throws(() => into('absent', '/'), fails(/absent is not there/));
  assert.throws(() => into('d', '/f', { f: '' }), fails(/no directory/));
  assert.throws(() => into('.', '/', { 'a/': '755' }), fails(/is a directory/));
  assert.throws(() => into('a', '/f/x', { f: '' }), fails(/no directory/));
});

test('links among the parents of the destination are followed, inside of the image', () => {
  const { into } = world({ a: '1', 'd/b': '2' });
  assert.deepEqual(into('a', '/link/x', { 'real/': '755', 'link@': '/real' }), { real: DIR, 'real/x': FILE, link: '777 0:0 → /real' });
  assert.deepEqual(into('d', '/link', { 'real/': '755', 'link@': '../../real' }), { real: DIR, 'real/b': '644 0:0 2', link: '777 0:0 → ../../real' });
  assert.deepEqual(into('a', '/link', { 'link@': 'other' }), { link: '777 0:0 → other', other: FILE });
});

test('a source that is a link is followed, links below it are copied', () => {
  const { into } = world({ 'real/x': '1', 'link@': 'real', 'd/inner@': '/etc/passwd' });
  assert.deepEqual(into('link', '/a'), { a: DIR, 'a/x': FILE });
  assert.deepEqual(into('d', '/a'), { a: DIR, 'a/inner': '777 0:0 → /etc/passwd' });
});

test('wild cards stand for names; those that match nothing copy nothing', () => {
  const { into } = world({ 'a.txt': '1', 'b.txt': '1', 'c.md': '1', 'x/one/f': '1', 'x/two/f': '1', 'od[d': '1' });
  assert.deepEqual(Object.keys(into('*.txt', '/')), ['a.txt', 'b.txt']);
  assert.deepEqual(Object.keys(into('x/*/f', '/d/')), ['d', 'd/f']);
  assert.deepEqual(Object.keys(into('?.[^t]d', '/')), ['c.md']);
  assert.deepEqual(into('*.absent', '/'), {});
  assert.deepEqual(Object.keys(into('od\\[d', '/')), ['od[d']);
});

test('owners, modes, exclusions', () => {
  const { into } = world({ 'd/a': '1', 'd/skip.md': '1', 'd/sub/b': '1', 'd/sub/skip.md': '1', top: '1', 'top.md': '1' });
  assert.deepEqual(into('d', '/x', {}, { owner: { uid: 5, gid: 6 }, mode: '600', exclude: ['**/*.md'] }), { x: '755 5:6 /', 'x/a': '600 5:6 1', 'x/sub': '600 5:6 /', 'x/sub/b': '600 5:6 1' });
  assert.deepEqual(Object.keys(into('top*', '/', {}, { exclude: ['*.md'] })), ['top']);
});

test('--parents keeps the way to a source, from a pivot on', () => {
  const { into } = world({ 'a/': '711', 'a/b/f': '1', 'c/f': '1' });
  assert.deepEqual(into(['a/b/f', 'c/f'], '/x/', {}, { parents: true }), { x: DIR, 'x/a': '711 0:0 /', 'x/a/b': DIR, 'x/a/b/f': FILE, 'x/c': DIR, 'x/c/f': FILE });
  assert.deepEqual(Object.keys(into('a/./b/f', '/x/', {}, { parents: true })), ['x', 'x/b', 'x/b/f']);
});

test('--link lays a layer of its own over links', () => {
  const { into } = world({ a: '1' });
  assert.deepEqual(into('a', '/link/a', { 'real/': '755', 'link@': 'real' }, { link: true }), { real: DIR, link: DIR, 'link/a': FILE });
});

test('hard links stay links within a copy, and join no strangers', () => {
  const store = openMemoryStore();
  const linked = { linkGroup: 1, links: 2 };
  const from = treeOf(store, { 'd/a': '1', 'd/b': '1' }, linked);
  const tree = copyInto(store, treeOf(store, { x: '2', y: '2' }, linked), from, ['d'], '/copy');
  const groups = new Map([...walkTree(store, tree)].map(({ path, entry }) => [toText(path), entry.meta?.linkGroup]));
  assert.equal(groups.get('copy/a'), groups.get('copy/b'));
  assert.notEqual(groups.get('copy/a'), groups.get('x'));
  const single = copyInto(store, tree, from, ['d/a'], '/alone');
  assert.deepEqual([...walkTree(store, single)].filter(({ path }) => path === 'alone').map(({ entry }) => [entry.meta?.linkGroup, entry.meta?.links]), [[0, 1]]);
});

test('archives merge; directories are made with their owners', () => {
  const store = openMemoryStore();
  const archive = treeOf(store, { 'd/': '700', 'd/f': '1' }, { uid: 7, gid: 8 });
  assert.deepEqual(listing(store, extractInto(store, treeOf(store, { 'x/d/': '755', 'x/d/kept': '9' }), archive, '/x', {})), { x: '755 -:- /', 'x/d': '700 7:8 /', 'x/d/f': '644 7:8 1', 'x/d/kept': '644 0:0 9' });
  assert.deepEqual(listing(store, makeDirectory(store, treeOf(store, { 'a/': '700' }), '/a/b/c', { uid: 1, gid: 2 })), { a: '700 0:0 /', 'a/b': '755 1:2 /', 'a/b/c': '755 1:2 /' });
  assert.throws(() => makeDirectory(store, treeOf(store, { f: '' }), '/f/x', undefined), HdError);
});

test('modes as chmod takes them', () => {
  const cases: [number, string, boolean, number][] = [
    [0o644, '755', false, 0o755], [0o644, '4711', false, 0o4711], [0o644, 'u+x', false, 0o744], [0o755, 'go-rx', false, 0o700], [0o644, 'a=rX', false, 0o444], [0o744, 'u=rwX,go=rX', false, 0o755],
    [0o644, '=rX', true, 0o555], [0o755, 'u+s', false, 0o4755], [0o755, '+t', true, 0o1755],
  ];
  for (const [mode, change, isDirectory, expected] of cases) assert.equal(changeMode(mode, change, isDirectory), expected, change);
  assert.throws(() => changeMode(0o644, 'rwx', false), HdError);
});

