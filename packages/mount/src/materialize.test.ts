import assert from 'node:assert/strict';
import { lstatSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { toByteString } from '@hyperdocker/base';
import { TreeBuilder, openStore } from '@hyperdocker/cas';
import { materialize } from './materialize.ts';

test('threads write the same as one does: contents, modes, hard links, holes', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-materialize-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const storeDir = join(dir, 'store');
  using store = openStore(storeDir);
  const tree = new TreeBuilder(store);
  const add = (path: string, bytes: Buffer, more: { mode?: number; linkGroup?: number } = {}): void => {
    const { mode = 0o644, linkGroup } = more;
    const meta = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0, mtimeNs: 1_600_000_000_123_456_789n, xattrs: [], linkGroup: linkGroup ?? 0, links: 2 };
    tree.set(toByteString(path), { kind: 'file', mode, digest: store.putBlob(bytes), size: bytes.length, meta });
  };
  for (let i = 0; i < 1_200; i++) add(`d${i % 30}/f${i}`, Buffer.from(`${i} `.repeat(i)), { mode: i % 2 === 0 ? 0o640 : 0o755 });
  const sparse = Buffer.alloc(12 << 20);
  sparse.fill('x', 5 << 20, (5 << 20) + 100_000);
  add('large/sparse', sparse);
  add('large/zeros', Buffer.alloc(3 << 20));
  add('d0/one', Buffer.from('linked'), { linkGroup: 7 });
  add('d1/two', Buffer.from('linked'), { linkGroup: 7 });
  tree.set(toByteString('closed'), { kind: 'dir', mode: 0o500 });
  add('closed/file', Buffer.from('inside'));
  const digest = tree.finish();

  const [shared, alone] = [materialize(store, digest, join(dir, 'shared'), storeDir), materialize(store, digest, join(dir, 'alone'))];
  const seen = (root: string): unknown[] =>
    readdirSync(root, { recursive: true, encoding: 'utf8' }).sort().map((path) => {
      const { mode, nlink, mtimeNs, size } = lstatSync(join(root, path), { bigint: true });
      return [path, mode, nlink, mtimeNs, statSync(join(root, path)).isFile() ? readFileSync(join(root, path)).toString('latin1') : size > 0n];
    });
  assert.deepEqual(seen(shared), seen(alone));
  assert.equal(readFileSync(join(shared, 'd7/f7'), 'utf8'), '7 '.repeat(7));
  assert(readFileSync(join(shared, 'large/sparse')).equals(sparse));
  assert(statSync(join(shared, 'large/sparse')).blocks * 512 < 1 << 20, 'zeros take no space');
  assert.equal(statSync(join(shared, 'closed')).mode & 0o777, 0o500);
  assert.equal(lstatSync(join(shared, 'd0/one')).ino, lstatSync(join(shared, 'd1/two')).ino);
});
