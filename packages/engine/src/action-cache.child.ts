import { toByteString } from '@hyperdocker/base';
import type { ActionDigest, BlobDigest } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { openActionCache } from './action-cache.ts';
import { Asked } from './facts.ts';
import { nodeLinks } from './graph.ts';
import { treeOf } from './tree-fixture.ts';

/** The other process of action-cache.test.ts: `<cache file> <store> <definition> <name> <count>` records `count` results. */
const [file = '', storeDir = '', definition = '', name = '', count = '0'] = process.argv.slice(2);
using store = openStore(storeDir, { nodeLinks });
using cache = openActionCache(file, store);
for (let i = 0; i < Number(count); i++) {
  const input = treeOf(store, { input: `${name} ${i}` });
  const delta = treeOf(store, { output: `${name} ${i}` });
  const log: BlobDigest = store.putBlob(Buffer.from('log'));
  cache.record(definition as ActionDigest, input, { paths: new Map([[toByteString('input'), Asked.content]]), askers: new Map() }, { delta, log, durationMs: i, caches: [], volatile: [], notPassed: [] });
}
