import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { HdError, hasher, toByteString } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { Store } from '@hyperdocker/cas';
import type { StoredFile } from '@hyperdocker/oci';
import { BlobThreads } from './blob-threads.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-blob-threads-'));
after(() => rmSync(world, { recursive: true }));

const contentOf = (nth: number): Buffer => Buffer.from(`${nth} `.repeat(nth === 7 ? 1_500_000 : 2_000));

async function putMany(blobs: BlobThreads, count: number): Promise<StoredFile[]> {
  const files: StoredFile[] = [];
  const scratch = Buffer.alloc(4 << 20);
  for (let nth = 0; nth < count; nth++) {
    const content = contentOf(nth);
    content.copy(scratch);
    files.push(blobs.put(scratch.subarray(0, content.length)));
    await blobs.room();
  }
  await blobs.settle();
  return files;
}

function name(store: Store, files: readonly StoredFile[]): void {
  const tree = store.putTree(files.map((file, nth) => ({ name: toByteString(String(nth)), kind: 'file', mode: 0o644, ...file })));
  store.setRef('kept', { kind: 'tree', digest: tree });
}

for (const [what, count] of [['few files, by the caller itself', 20], ['many files, by threads', 2_000]] as const) {
  test(`${what}: every file has the digest of its bytes, and no collection comes between them and their names`, async () => {
    const storeDir = mkdtempSync(join(world, 'store-'));
    using store = openStore(storeDir);
    await using blobs = new BlobThreads(store, storeDir);
    const files = await putMany(blobs, count);
    for (const [nth, { digest, size }] of files.entries()) {
      const content = contentOf(nth);
      assert.equal(digest, hasher.hash(content));
      assert.equal(size, content.length);
    }
    {
      using other = openStore(storeDir);
      assert.throws(() => other.gc({ waitMs: 1 }), (error: unknown) => error instanceof HdError && error.code === 'STORE_BUSY');
    }
    using _lease = store.lease('a test');
    await blobs.flush();
    name(store, files);
    assert.deepEqual(store.getBlob(files[3]?.digest ?? assert.fail()), contentOf(3));
    assert.deepEqual(store.fsck().problems, []);
  });
}

test('a store that cannot be written to is an error of who waits, and leaves no thread', async () => {
  const storeDir = mkdtempSync(join(world, 'gone-'));
  using store = openStore(storeDir);
  const blobs = new BlobThreads(store, join(storeDir, 'no/such\0store'));
  await assert.rejects(putMany(blobs, 2_000), (error: unknown) => error instanceof Error);
  await blobs[Symbol.asyncDispose]();
  await assert.rejects(blobs.settle());
});

test('what is put after a thread has ended is an error as well, and nobody waits for it', async () => {
  const storeDir = mkdtempSync(join(world, 'late-'));
  using store = openStore(storeDir);
  const blobs = new BlobThreads(store, join(storeDir, 'no/such\0store'));
  await assert.rejects(putMany(blobs, 2_000));
  for (let nth = 0; nth < 2_000; nth++) blobs.put(contentOf(nth));
  await assert.rejects(blobs.settle());
  await assert.rejects(blobs.flush());
  await blobs[Symbol.asyncDispose]();
});
