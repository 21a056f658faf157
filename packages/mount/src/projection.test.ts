import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ByteString } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { Meta, Store } from '@hyperdocker/cas';
import { TreeBuilder, openMemoryStore } from '@hyperdocker/cas';
import { Asked } from '@hyperdocker/engine';
import { FIXED_MTIME_NS, Projection, ROOT_INO } from './projection.ts';

const { stat, listing, content, target, xattrs } = Asked;
const name = toByteString;

function setup(fill: (builder: TreeBuilder, file: (path: ByteString, text: string, meta?: Partial<Meta>) => void) => void): { fs: Projection; asked: [string, number][]; store: Store } {
  const store = openMemoryStore();
  const builder = new TreeBuilder(store);
  fill(builder, (path, text, meta) => {
    const entry = { kind: 'file' as const, mode: 0o640, digest: store.putBlob(Buffer.from(text)), size: Buffer.byteLength(text) };
    builder.set(path, meta === undefined ? entry : { ...entry, meta: { uid: 1, gid: 2, mtimeNs: 3n, xattrs: [], linkGroup: 0, links: 1, ...meta } });
  });
  const asked: [string, number][] = [];
  return { store, asked, fs: new Projection(store, builder.finish(), (path, mask) => asked.push([path, mask])) };
}

test('names are found, and their absence is told', () => {
  const { fs } = setup((_, file) => {
    file(name('a'), 'text', {});
    file(name('dir/b'), '');
  });
  const a = fs.lookup(ROOT_INO, name('a'));
  assert.deepEqual(a, { ino: a?.ino, shownIno: a?.shownIno, kind: 'file', mode: 0o640, size: 4, links: 1, uid: 1, gid: 2, mtimeNs: 3n, major: 0, minor: 0 });
  const dir = fs.lookup(ROOT_INO, name('dir'));
  assert.equal(dir?.kind, 'dir');
  assert.equal(dir.mtimeNs, FIXED_MTIME_NS);
  assert.equal(fs.lookup(dir.ino, name('b'))?.size, 0);
  assert.equal(fs.lookup(dir.ino, name('nothing')), undefined);
  assert.equal(fs.lookup(a?.ino ?? 0, name('below a file')), undefined);
  assert.equal(fs.lookup(ROOT_INO, name('a'))?.ino, a?.ino, 'an inode number stays');
  assert.throws(() => fs.attributes(99), /never given out/);
});

test('names of one inode share it', () => {
  const { fs, asked } = setup((_, file) => {
    for (const path of ['one', 'dir/two']) file(name(path), 'linked', { linkGroup: 5, links: 2 });
    file(name('alone'), 'linked');
  });
  const one = fs.lookup(ROOT_INO, name('one'));
  const dir = fs.lookup(ROOT_INO, name('dir'));
  const two = fs.lookup(dir?.ino ?? 0, name('two'));
  assert(one !== undefined && two?.ino === one.ino && one.links === 2);
  assert.notEqual(fs.lookup(ROOT_INO, name('alone'))?.ino, one.ino);
  asked.length = 0;
  fs.attributes(one.ino);
  assert.deepEqual(asked, [['one', stat], ['dir/two', stat]], 'which name was meant is not known: both count');
});

test('the observer hears each question', () => {
  const { fs, asked } = setup((builder, file) => {
    file(name('dir/a'), 'text', { xattrs: [[name('user.k'), Buffer.from('v')]] });
    builder.set(name('link'), { kind: 'symlink', mode: 0o777, target: name('dir/a') });
  });
  const heard = (act: () => void): [string, number][] => {
    asked.length = 0;
    act();
    return [...asked];
  };
  const ino = { dir: 0, a: 0, link: 0 };
  assert.deepEqual(heard(() => (ino.dir = fs.lookup(ROOT_INO, name('dir'))?.ino ?? 0)), [['dir', stat]]);
  assert.deepEqual(heard(() => (ino.a = fs.lookup(ino.dir, name('a'))?.ino ?? 0)), [['dir/a', stat]]);
  assert.deepEqual(heard(() => fs.lookup(ino.dir, name('none'))), [['dir/none', stat]]);
  assert.deepEqual(heard(() => fs.list(ino.dir)), [['dir', listing]]);
  assert.deepEqual(heard(() => fs.list(ROOT_INO)), [['', listing]]);
  assert.deepEqual(heard(() => fs.read(ino.a, 0, 1)), [['dir/a', content]]);
  assert.deepEqual(heard(() => fs.xattrs(ino.a)), [['dir/a', xattrs]]);
  ino.link = fs.lookup(ROOT_INO, name('link'))?.ino ?? 0;
  assert.deepEqual(heard(() => assert.equal(fs.readlink(ino.link), 'dir/a')), [['link', target]]);
  assert.throws(() => fs.read(ino.dir, 0, 1), /no file/);
});

test('reads at any offset', () => {
  const { fs } = setup((_, file) => file(name('f'), 'abcdef'));
  const ino = fs.lookup(ROOT_INO, name('f'))?.ino ?? 0;
  assert.equal(fs.read(ino, 2, 3).toString(), 'cde');
  assert.equal(fs.read(ino, 4, 100).toString(), 'ef');
  assert.equal(fs.read(ino, 6, 10).length, 0);
  assert.equal(fs.read(ino, 1000, 10).length, 0);
});

test('names are bytes', () => {
  const strange = ['\xff\xfe', 'a\nb', name('🦊'), ' ', 'n'.repeat(255)] as ByteString[];
  const { fs } = setup((_, file) => strange.forEach((path) => file(path, path)));
  assert.deepEqual(fs.list(ROOT_INO).map((item) => item.name), strange.toSorted());
  for (const path of strange) assert.equal(fs.lookup(ROOT_INO, path)?.size, Buffer.byteLength(path), JSON.stringify(path));
});

test('ten thousand entries: listed in order, each with the inode number that a look-up gives', () => {
  const { fs } = setup((_, file) => {
    for (let i = 0; i < 10_000; i++) file(name(`e${i}`), String(i));
  });
  const items = fs.list(ROOT_INO);
  assert.equal(items.length, 10_000);
  assert.deepEqual(items.map((item) => item.name), items.map((item) => item.name).toSorted());
  assert.equal(new Set(items.map((item) => item.ino)).size, 10_000);
  for (const item of items) assert.equal(fs.lookup(ROOT_INO, item.name)?.ino, item.ino);
});

test('what is known of directories is let go of when it is much, and inode numbers stay what they are', () => {
  const store = openMemoryStore();
  const digest = store.putTree(Array.from({ length: 900 }, (_, i) => ({ kind: 'fifo' as const, name: name(`e${String(i).padStart(6, '0')}`), mode: 0o600 + (i % 64) })));
  const asked: string[] = [];
  const fs = new Projection(store, store.putTree(['a', 'b', 'c'].map((dir) => ({ kind: 'dir', name: name(dir), mode: 0o755, digest }))), (path) => asked.push(path), 500);
  const dirs = ['a', 'b', 'c'].map((dir) => fs.lookup(ROOT_INO, name(dir))?.ino ?? 0);
  const looked = dirs.map((dir) => fs.lookup(dir, name('e000070')));
  for (const dir of dirs) assert.equal(fs.list(dir)[70]?.ino, looked[dirs.indexOf(dir)]?.ino);
  asked.length = 0;
  assert.deepEqual(looked.map((found) => fs.attributes(found?.ino ?? 0)), looked);
  assert.deepEqual(asked, ['a/e000070', 'b/e000070', 'c/e000070']);
  assert.deepEqual(dirs.map((dir) => fs.lookup(dir, name('e000070'))?.ino), looked.map((found) => found?.ino));
});

test('the inode numbers that are shown are those of every mount, whoever looks first; another content is another one', () => {
  const make = (order: string[], content = 'x'): Map<string, number> => {
    const { fs } = setup((tree, file) => {
      for (const path of ['a', 'd/b', 'd/c', 'd/\xff']) file(path as ByteString, path === 'a' ? content : path);
      for (const path of ['one', 'd/two']) file(path as ByteString, 'linked', { linkGroup: 5, links: 2 });
      tree.set(name('empty'), { kind: 'dir', mode: 0o755 });
    });
    const dir = fs.lookup(ROOT_INO, name('d'))?.ino ?? 0;
    const look = (path: string) => (path.startsWith('d/') ? fs.lookup(dir, path.slice(2) as ByteString) : fs.lookup(ROOT_INO, path as ByteString));
    const seen = new Map(order.map((path) => [path, look(path)?.shownIno ?? 0]));
    for (const item of [...fs.list(ROOT_INO), ...fs.list(dir)]) assert.equal(fs.attributes(item.ino).shownIno, item.shownIno);
    return new Map([...seen].sort());
  };
  const order = ['a', 'd', 'd/b', 'd/c', 'd/\xff', 'd/two', 'empty', 'one'];
  const seen = make(order);
  assert.deepEqual(make(order.toReversed()), seen);
  assert.equal(seen.get('one'), seen.get('d/two'), 'names of one inode share it');
  assert.equal(new Set(seen.values()).size, order.length - 1);
  assert([...seen.values()].every((ino) => Number.isSafeInteger(ino) && ino > 2));
  const changed = make(order, 'y');
  assert.deepEqual(order.filter((path) => changed.get(path) !== seen.get(path)), ['a']);
});

test('a hundred thousand paths have a hundred thousand inode numbers', () => {
  const { fs } = setup((_, file) => {
    for (let i = 0; i < 100_000; i++) file(name(`e${i}`), '');
  });
  assert.equal(new Set(fs.list(ROOT_INO).map(({ shownIno }) => shownIno)).size, 100_000);
});
