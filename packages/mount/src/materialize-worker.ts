import { workerData } from 'node:worker_threads';
import type { ByteString, GangTicket } from '@hyperdocker/base';
import { takePart } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { MaterializeWork } from './materialize.ts';
import { layOut, writeUnit } from './materialize.ts';

/** A helper of `materialize`. */
const { gang, work } = workerData as { gang: GangTicket; work: MaterializeWork };
takePart(gang, () => {
  const store = openStore(work.storeDir, { readOnly: true });
  const layout = layOut(store, '' as ByteString, work.tree);
  return { perform: (unit: number) => writeUnit(store, work.dir, layout, unit), [Symbol.dispose]: () => store[Symbol.dispose]() };
});
