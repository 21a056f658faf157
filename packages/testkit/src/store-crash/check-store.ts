import assert from 'node:assert/strict';
import { existsSync, readdirSync } from 'node:fs';
import type { BlobDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { OpenOptions, RefTarget, Store } from '@hyperdocker/cas';
import type { Expectation } from './workload.ts';

const KNOWN_FILES = /^(?:format|refs\.sqlite|index\.sqlite|packs|packs\/[0-9a-f]{12}-[0-9a-f]{16}\.pack|objects|objects\/[0-9a-f]{2}|objects\/[0-9a-f]{2}\/[0-9a-f]{62}|tmp)$/;

/**
 * Opens a store after a crash and asserts that it is whole: fsck is content, the refs are as at one moment in `refs`, all that they reach can be read, and so
 * can `objects`; it takes new objects and refs; and nothing is left in it that does not belong there.
 */
export function checkStore(dir: string, options: OpenOptions, expected: { refs: Expectation['refs'][]; objects: RefTarget[] }): void {
  const digest = useStore(dir, options, (store) => {
    assert.deepEqual(store.fsck().problems, [], 'fsck');
    const refs = Object.fromEntries(store.listRefs().map(({ name, ref }) => [name, ref.target]));
    assert(expected.refs.some((moment) => isSame(moment, refs)), `the refs are as they never were: ${JSON.stringify(refs)}`);
    readStore(store, options, [...Object.values(refs), ...expected.objects]);
    const blob = store.putBlob(Buffer.from('after the crash'));
    store.putBlob(Buffer.alloc(70_000, 'after the crash'));
    assert(store.setRef('after', { kind: 'blob', digest: blob }));
    return blob;
  });
  useStore(dir, options, (store) => {
    assert.equal(store.getRef('after')?.target.digest, digest, 'what was written after the crash is there');
    assert.deepEqual(store.fsck().problems, [], 'fsck at the end');
  });
  assert.deepEqual(litter(dir), [], 'litter');
}

/** Reads all that the targets reach. */
export function readStore(store: Store, options: OpenOptions, targets: readonly RefTarget[]): void {
  for (const target of targets) readAll(store, options, target);
}

function useStore<T>(dir: string, options: OpenOptions, use: (store: Store) => T): T {
  using store = openStore(dir, options);
  return use(store);
}

/** Files in a closed store that do not belong there. */
export function litter(dir: string): string[] {
  return existsSync(dir) ? readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((path) => !KNOWN_FILES.test(path)) : [];
}

function isSame(one: Expectation['refs'], other: Expectation['refs']): boolean {
  const names = Object.keys(one);
  return names.length === Object.keys(other).length && names.every((name) => one[name]?.digest === other[name]?.digest && one[name]?.kind === other[name]?.kind);
}

function readAll(store: Store, options: OpenOptions, { kind, digest }: RefTarget): void {
  if (kind === 'blob') store.getBlob(digest as BlobDigest);
  else if (kind === 'node') for (const link of options.nodeLinks?.(store.getNode(digest as NodeDigest)) ?? []) readAll(store, options, link);
  else {
    for (const entry of store.getTree(digest as TreeDigest)) {
      if (entry.kind === 'dir') readAll(store, options, { kind: 'tree', digest: entry.digest });
      else if (entry.kind === 'file') assert.equal(store.getBlob(entry.digest).length, entry.size);
    }
  }
}
