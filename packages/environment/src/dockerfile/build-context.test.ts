import assert from 'node:assert/strict';
import { appendFileSync, chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HdError, toText } from '@hyperdocker/base';
import { openStore, walkTree } from '@hyperdocker/cas';
import { waitUntil } from '@hyperdocker/testkit';
import type { Store } from '@hyperdocker/cas';
import type { BuildContext } from './build-context.ts';
import { contextIgnores, readContext } from './build-context.ts';
import { requireContext } from './request.ts';

const root = mkdtempSync(join(tmpdir(), 'hd-context-'));
after(() => rmSync(root, { recursive: true }));
let count = 0;

/** A directory with files, and what reads it as a context. */
function context(files: Record<string, string>, ignore: string[] = []) {
  const dir = join(root, `${count++}`);
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(join(dir, path, '..'), { recursive: true });
    writeFileSync(join(dir, path), text);
    utimesSync(join(dir, path), 1_600_000_000, 1_600_000_000);
  }
  const storeDir = `${dir}-store`;
  const store = openStore(storeDir);
  const read = (): BuildContext => readContext({ store, storeDir, dir, ignore, cacheFile: `${dir}.json` });
  const paths = (): string[] => [...walkTree(store, read().tree)].map(({ path }) => toText(path));
  return { dir, store, read, paths, [Symbol.dispose]: () => store[Symbol.dispose]() };
}

test('files keep their modes and times, and are root\'s', () => {
  using made = context({ 'a': '1', 'd/b': '2' });
  chmodSync(join(made.dir, 'a'), 0o4751);
  chmodSync(join(made.dir, 'd'), 0o2700);
  symlinkSync('../away', join(made.dir, 'd/link'));
  const entries = new Map([...walkTree(made.store, made.read().tree)].map(({ path, entry }) => [toText(path), entry]));
  assert.deepEqual([...entries].map(([path, { kind, mode, meta }]) => [path, kind, mode.toString(8), meta?.uid, meta?.gid]), [['a', 'file', '4751', 0, 0], ['d', 'dir', '2700', 0, 0], ['d/b', 'file', '644', 0, 0], ['d/link', 'symlink', '777', 0, 0]]);
  assert.equal(entries.get('a')?.meta?.mtimeNs, 1_600_000_000_000_000_000n);
});

test('what did not change is not read again, what did is', async () => {
  using made = context({ a: '1', b: '2' });
  const first = made.read();
  assert.equal(first.hashed, 2);
  // Their status is as old as this test: too young to be believed at first.
  await waitUntil('the files are old enough', () => made.read().hashed === 0);
  assert.deepEqual(made.read(), { ...first, hashed: 0 });
  writeFileSync(join(made.dir, 'a'), '3');
  const later = made.read();
  assert.equal(later.hashed, 1);
  assert.notEqual(later.tree, first.tree);
  assert(JSON.parse(readFileSync(`${made.dir}.json`, 'utf8')));
});

test('ignored files are not there, and directories only where something in them is taken back', () => {
  using made = context({ 'a.log': '', 'src/b.log': '', 'src/c': '', 'build/out': '', 'build/keep/x': '', 'empty/only.log': '' }, ['**/*.log', 'build', '!build/keep']);
  mkdirSync(join(made.dir, 'nothing'));
  assert.deepEqual(made.paths(), ['build', 'build/keep', 'build/keep/x', 'empty', 'nothing', 'src', 'src/c']);
});

/** A store that is handed each file a moment after something has happened to it. */
function changing(store: Store, happen: (path: string) => void): Store {
  const putFile = (path: string | Buffer): unknown => {
    happen(String(path));
    return store.putFile(path);
  };
  return new Proxy(store, { get: (_, name) => (name === 'putFile' ? putFile : typeof store[name as keyof Store] === 'function' ? (store[name as keyof Store] as () => unknown).bind(store) : store[name as keyof Store]) });
}

test('files that change while they are read', () => {
  using made = context({ a: '1', b: '1' });
  const read = (happen: (path: string) => void): BuildContext => readContext({ store: changing(made.store, happen), storeDir: `${made.dir}-store`, dir: made.dir, ignore: [], cacheFile: `${made.dir}.json` });
  const cannot = (): never => {
    throw Object.assign(new Error('no right to it'), { code: 'EACCES' });
  };
  assert.throws(() => read(cannot), (error: unknown) => error instanceof HdError && error.code === 'CONTEXT_UNREADABLE' && error.message === `cannot read ${made.dir}/a`);
  const longer = read((path) => appendFileSync(path, '2'));
  assert.deepEqual([longer.files, longer.bytes, made.store.getTree(longer.tree).map((entry) => entry.kind === 'file' && [entry.name, entry.size, made.store.blobSize(entry.digest)])], [2, 4, [['a', 2, 2], ['b', 2, 2]]]);
  const gone = read((path) => path.endsWith('/a') && rmSync(path, { force: true }));
  assert.deepEqual([gone.files, made.store.getTree(gone.tree).map(({ name }) => name)], [1, ['b']]);
});

test('the Dockerfile\'s own ignore file goes before that of the context', () => {
  using made = context({ '.dockerignore': 'a\n# no\n\n', 'sub/Dockerfile': '', 'sub/Dockerfile.dockerignore': '/b\n!c\n' });
  assert.deepEqual(contextIgnores(made.dir, undefined), ['a']);
  assert.deepEqual(contextIgnores(made.dir, join(made.dir, 'sub/Dockerfile')), ['b', '!c']);
  assert.deepEqual(contextIgnores(join(made.dir, 'sub'), undefined), []);
  assert.throws(() => requireContext(join(made.dir, 'absent')), HdError);
  assert.throws(() => requireContext(join(made.dir, '.dockerignore')), HdError);
});
