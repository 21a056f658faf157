import { join } from 'node:path';
import type { BlobDigest, ByteString } from '@hyperdocker/base';
import { sampleBytes, testNodeLinks } from './conformance.ts';
import type { RefTarget, Store } from './contract.ts';
import { openStore } from './disk-store.ts';
import { RefStore } from './ref-store.ts';
import { TreeBuilder } from './tree-builder.ts';

/** The other process of disk-store.test.ts: `<dir> fill:<name> | lease | gc | commit`. */
const [dir, mode] = process.argv.slice(2) as [string, string];
const COMMITS_BETWEEN_GC = 3;
const store = openStore(dir, { nodeLinks: testNodeLinks });
const tell = (line: string | number): void => void process.stdout.write(`${line}\n`);

if (mode === 'lease') hold(store);
else if (mode === 'gc') collect(dir);
else if (mode === 'commit') commitForEver(store);
else fill(store, mode.slice('fill:'.length));

/** Until killed. */
function hold(held: Store): void {
  held.lease('child at work');
  const digest = held.putBlob(Buffer.from('of the child'));
  held.flush();
  tell(digest);
  process.stdin.resume();
}

/** Holds the lock of gc until a line comes. */
function collect(storeDir: string): void {
  const lock = new RefStore(join(storeDir, 'refs.sqlite'), { readOnly: false }).startGc();
  tell('collecting');
  process.stdin.once('data', () => {
    lock[Symbol.dispose]();
    tell('ended');
  });
}

/** Small and large blobs and a tree a commit; tells its number once the ref has moved. Collects garbage now and then. */
function commitForEver(into: Store): void {
  const head = into.getRef('head');
  for (let number = (head === undefined ? 0 : into.reflog('head').length) + 1; ; number++) {
    const builder = new TreeBuilder(into);
    const add = (name: string, bytes: Uint8Array): void =>
      builder.set(name as ByteString, { kind: 'file', mode: 0o644, digest: into.putBlob(bytes), size: bytes.byteLength });
    add('number', Buffer.from(String(number)));
    add('large', sampleBytes(66_000 + number));
    for (let i = 0; i < 20; i++) add(`small/${i}`, sampleBytes(100 + number * 20 + i));
    into.setRef('head', { kind: 'tree', digest: builder.finish() });
    tell(number);
    if (number % COMMITS_BETWEEN_GC === 0) into.gc();
  }
}

/** 500 files, flushing often, and 20 compare-and-swaps of a counter that another process moves too. */
function fill(into: Store, name: string): void {
  const builder = new TreeBuilder(into);
  for (let i = 0; i < 500; i++) {
    const digest = into.putBlob(Buffer.from(`file ${i}`));
    builder.set(`f${i}` as ByteString, { kind: 'file', mode: 0o644, digest, size: into.blobSize(digest) });
    if (i % 25 === 0) {
      into.flush();
      increment(into);
    }
  }
  const tree = builder.finish();
  into.setRef(`fill/${name}`, { kind: 'tree', digest: tree });
  into[Symbol.dispose]();
  tell(tree);
}

function increment(into: Store): void {
  for (let done = false; !done; ) {
    const present: RefTarget | null = into.getRef('counter')?.target ?? null;
    const value = present === null ? 0 : Number(into.getBlob(present.digest as BlobDigest));
    done = into.setRef('counter', { kind: 'blob', digest: into.putBlob(Buffer.from(String(value + 1))) }, present);
  }
}
