import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, openMemoryStore } from '@hyperdocker/cas';
import { AttributeFree } from './attribute-free.ts';

const dir = mkdtempSync(join(tmpdir(), 'hd-attribute-free-'));
after(() => rmSync(dir, { recursive: true }));

function treeOf(store: Store, marked?: string): TreeDigest {
  const builder = new TreeBuilder(store);
  for (let i = 0; i < 100; i++) {
    const path = `${i % 10}/${i}/file`;
    const xattrs = path === marked ? [[toByteString('user.mark'), Buffer.from('m')] as const] : [];
    builder.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(path)), size: path.length, meta: { uid: 0, gid: 0, mtimeNs: 0n, xattrs, linkGroup: 0, links: 1 } });
  }
  return builder.finish();
}

test('one attribute, anywhere, is found; large trees without are remembered', async () => {
  const store = openMemoryStore();
  const file = join(dir, 'known');
  const [free, marked] = [treeOf(store), treeOf(store, '7/57/file')];
  const search = new AttributeFree(file);
  assert.deepEqual([await search.has(store, free), await search.has(store, marked), await search.has(store, free)], [true, false, true]);
  assert.deepEqual(readFileSync(file, 'utf8').split('\n'), [free, '']);
  // Known from before: not looked for in a store that has nothing.
  assert.equal(await new AttributeFree(file).has(openMemoryStore(), free), true);
});

test('a file that is too long, or damaged, starts again or is passed over', async () => {
  const store = openMemoryStore();
  const file = join(dir, 'damaged');
  writeFileSync(file, `${'0'.repeat(63)}\n${treeOf(store).slice(0, 30)}`);
  assert.equal(await new AttributeFree(file).has(store, treeOf(store, '0/0/file')), false);
  writeFileSync(file, `${'0'.repeat(64)}\n`.repeat(20_001));
  await new AttributeFree(file).has(store, treeOf(store));
  assert.equal(readFileSync(file, 'utf8'), `${treeOf(store)}\n`);
});
