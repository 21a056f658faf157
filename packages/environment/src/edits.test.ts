import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, diffTrees, lookupPath, openMemoryStore, setPath } from '@hyperdocker/cas';
import fc from 'fast-check';
import { applyEdits } from './edits.ts';

/** A file's text, a link (`→target`), or a directory (null: empty). */
type Files = Record<string, string | null>;

function tree(store: Store, files: Files): TreeDigest {
  const builder = new TreeBuilder(store);
  const taken = (path: string): boolean => path.split('/').some((_, i, parts) => i > 0 && typeof files[parts.slice(0, i).join('/')] === 'string');
  for (const [path, text] of Object.entries(files)) {
    const at = toByteString(path);
    if (taken(path)) continue;
    if (text === null) builder.set(at, { kind: 'dir', mode: 0o755 });
    else if (text.startsWith('→')) builder.set(at, { kind: 'symlink', mode: 0o777, target: toByteString(text) });
    else builder.set(at, { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: text.length });
  }
  return builder.finish();
}

/** A whole root with the project at `workdir`, and something beside it. */
function lay(store: Store, workdir: ByteString, project: TreeDigest): TreeDigest {
  if (workdir === '') return project;
  return setPath(store, tree(store, { 'usr/bin/sh': 'shell' }), workdir, { kind: 'dir', name: workdir, mode: 0o755, digest: project });
}

test('edits that turn files into directories and back', () => {
  const store = openMemoryStore();
  const before = tree(store, { a: '1', 'dir/x': '1', 'dir/y': '2', link: '→a', empty: null });
  const after = tree(store, { 'a/now/a/dir': '1', dir: 'now a file', link: null, 'empty/no/more': '', fresh: '→a' });
  const laid = applyEdits(store, lay(store, toByteString('w/app'), before), toByteString('w/app'), [...diffTrees(store, before, after)]);
  assert.equal(laid, lay(store, toByteString('w/app'), after));
});

test('what the environment has of its own below the project stays', () => {
  const store = openMemoryStore();
  const [before, after] = [tree(store, { 'src/a': '1', 'src/b': '1' }), tree(store, { 'src/a': '2' })];
  const built = setPath(store, lay(store, toByteString('w'), before), toByteString('w/dist/out'), { kind: 'file', name: toByteString('out'), mode: 0o644, digest: store.putBlob(Buffer.from('built')), size: 5 });
  const laid = applyEdits(store, built, toByteString('w'), [...diffTrees(store, before, after)]);
  assert.equal(lookupPath(store, laid, toByteString('w/dist/out'))?.kind, 'file');
  assert.equal(lookupPath(store, laid, toByteString('w/src/b')), undefined);
});

test('property: a tree with the edits between two projects is the tree with the other project', () => {
  const path = fc.array(fc.constantFrom('a', 'b', 'ü'), { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
  const files = fc.dictionary(path, fc.constantFrom('1', '2', '→x', null), { maxKeys: 6, noNullPrototype: true });
  fc.assert(
    fc.property(files, files, fc.constantFrom('', 'w', 'srv/app'), (one, two, dir) => {
      const store = openMemoryStore();
      const [before, after, workdir] = [tree(store, one), tree(store, two), toByteString(dir)];
      assert.equal(applyEdits(store, lay(store, workdir, before), workdir, [...diffTrees(store, before, after)]), lay(store, workdir, after));
    }),
    { numRuns: 500 },
  );
});
