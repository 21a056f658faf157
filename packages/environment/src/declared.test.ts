import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { toByteString, toText } from '@hyperdocker/base';
import { TreeBuilder, applyDelta, lookupPath, openMemoryStore, setPath, walkTree } from '@hyperdocker/cas';
import { visibleTree } from './inputs.ts';
import { keepOutputs } from './outputs.ts';

const store = openMemoryStore();
const at = toByteString;

/** Text is a file, null a whiteout, a path that ends with a slash an empty directory (`!` for opaque). */
function tree(entries: Record<string, string | null>): TreeDigest {
  const builder = new TreeBuilder(store);
  const opaque: string[] = [];
  for (const [path, text] of Object.entries(entries)) {
    if (path.endsWith('/')) builder.set(at(path.slice(0, -1)), { kind: 'dir', mode: 0o755 });
    if (text === '!') opaque.push(path.slice(0, -1));
    if (!path.endsWith('/')) builder.set(at(path), text === null ? { kind: 'whiteout', mode: 0 } : { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: text.length });
  }
  return opaque.reduce<TreeDigest>((digest, path) => {
    const entry = lookupPath(store, digest, at(path));
    return entry?.kind === 'dir' ? setPath(store, digest, at(path), { ...entry, opaque: true }) : digest;
  }, builder.finish());
}

function list(digest: TreeDigest): string[] {
  return [...walkTree(store, digest)].map(({ path, entry }) => `${toText(path)}${entry.kind === 'dir' ? '/' : entry.kind === 'whiteout' ? ' removed' : ''}`).filter((line, _, all) => !line.endsWith('/') || !all.some((other) => other !== line && other.startsWith(line)));
}

const PROJECT = { 'src/a.ts': 'a', 'src/a.test.ts': 't', 'docs/x.md': 'x', 'package.json': '{}', 'empty/': '' };
const project = tree(PROJECT);
const laid = tree({ ...Object.fromEntries(Object.entries(PROJECT).map(([path, text]) => [`w/${path}`, text])), 'etc/passwd': 'root' });

function seen(from: TreeDigest, ...inputs: string[]): string[] {
  return list(visibleTree(store, from, at('w'), project, inputs));
}

test('of the project, a step sees what its patterns match; of the image, everything', () => {
  assert.deepEqual(seen(laid, 'src/**', 'package.json'), ['etc/passwd', 'w/package.json', 'w/src/a.test.ts', 'w/src/a.ts']);
  assert.deepEqual(seen(laid, 'src', '!**/*.test.ts'), ['etc/passwd', 'w/src/a.ts']);
  assert.deepEqual(seen(laid, '*.ts'), ['etc/passwd', 'w/src/a.test.ts', 'w/src/a.ts']);
  assert.deepEqual(seen(laid), ['etc/passwd', 'w/']);
  assert.deepEqual(seen(laid, 'empty'), ['etc/passwd', 'w/empty/']);
  assert.equal(visibleTree(store, laid, at('w'), project, ['**']), laid);
});

test('what earlier steps made or changed stays to be seen', () => {
  const later = applyDelta(store, laid, tree({ 'w/node_modules/m/index.js': 'm', 'w/docs/x.md': 'generated', 'w/docs/y.md': 'y', 'w/src/made.ts': 'made' }));
  assert.deepEqual(seen(later, 'package.json'), ['etc/passwd', 'w/docs/x.md', 'w/docs/y.md', 'w/node_modules/m/index.js', 'w/package.json', 'w/src/made.ts']);
});

test('a file that is not to be seen changes nothing of the tree that is', () => {
  const edited = { ...PROJECT, 'docs/x.md': 'edited', 'docs/new.md': 'new' };
  const other = tree({ ...Object.fromEntries(Object.entries(edited).map(([path, text]) => [`w/${path}`, text])), 'etc/passwd': 'root' });
  assert.equal(visibleTree(store, other, at('w'), tree(edited), ['src']), visibleTree(store, laid, at('w'), project, ['src']));
});

test('a project that is the root of the tree', () => {
  assert.deepEqual(list(visibleTree(store, project, '' as ByteString, project, ['docs'])), ['docs/x.md']);
  assert.deepEqual(list(visibleTree(store, project, '' as ByteString, project, [])), []);
});

/** What the whole tree looks like when only `outputs` of a delta are kept. */
function kept(before: Record<string, string>, delta: Record<string, string | null>, ...outputs: string[]): { left: string[]; dropped: number; first: string; missing: string[] } {
  const [base, written] = [tree(before), tree(delta)];
  const result = keepOutputs(store, { before: base, delta: written, after: applyDelta(store, base, written) }, outputs.map(at));
  return { left: list(applyDelta(store, base, result.delta)), dropped: result.dropped, first: toText(result.firstDropped ?? at('')), missing: result.missing.map(toText) };
}

test('outputs are kept with what is below them, and the rest is counted', () => {
  const before = { 'w/in': 'i', 'w/old': 'o' };
  const delta = { 'w/dist/a': 'a', 'w/dist/sub/b': 'b', 'w/log': 'l', 'w/old': null, 'tmp/x': 'x' };
  assert.deepEqual(kept(before, delta, 'w/dist'), { left: ['w/dist/a', 'w/dist/sub/b', 'w/in', 'w/old'], dropped: 3, first: 'tmp/x', missing: [] });
  assert.deepEqual(kept(before, delta, 'w/dist/sub', 'w/log'), { left: ['w/dist/sub/b', 'w/in', 'w/log', 'w/old'], dropped: 3, first: 'tmp/x', missing: [] });
  assert.deepEqual(kept(before, delta), { left: ['w/in', 'w/old'], dropped: 5, first: 'tmp/x', missing: [] });
  assert.deepEqual(kept(before, delta, ''), { left: ['tmp/x', 'w/dist/a', 'w/dist/sub/b', 'w/in', 'w/log'], dropped: 0, first: '', missing: [] });
});

test('deletions of outputs are outputs; an output that is not there is named, one that was there before is not', () => {
  assert.deepEqual(kept({ 'w/old': 'o', 'w/x': 'x' }, { 'w/old': null }, 'w/old', 'w/x', 'w/typo'), { left: ['w/x'], dropped: 0, first: '', missing: ['w/old', 'w/typo'] });
});

test('below a directory that was made anew, an output is all that is in it', () => {
  const before = { 'w/dist/old': 'o', 'w/dist/sub/old': 'o', 'w/dist/gone': 'g' };
  const delta = { 'w/dist/': '!', 'w/dist/sub/new': 'n', 'w/dist/other': 'x' };
  assert.deepEqual(kept(before, delta, 'w/dist/sub', 'w/dist/gone'), { left: ['w/dist/old', 'w/dist/sub/new'], dropped: 1, first: 'w/dist/other', missing: ['w/dist/gone'] });
  assert.deepEqual(kept(before, delta, 'w/dist'), { left: ['w/dist/other', 'w/dist/sub/new'], dropped: 0, first: '', missing: [] });
});

test('an output whose directory is gone altogether', () => {
  assert.deepEqual(kept({ 'w/dist/a': 'a', 'w/dist/b': 'b' }, { 'w/dist': null }, 'w/dist/a').left, ['w/dist/b']);
});
