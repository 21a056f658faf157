import { workerData } from 'node:worker_threads';
import type { ByteString, GangTicket } from '@hyperdocker/base';
import { takePart } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { MaterializeWork } from './materialize.ts';
import { layOut, writeUnits } from './materialize.ts';

/** A helper of `materialize`. */
const { gang, work } = workerData as { gang: GangTicket; work: MaterializeWork };
takePart(gang, (claim) => {
  using store = openStore(work.storeDir, { readOnly: true });
  writeUnits(store, work.dir, layOut(store, '' as ByteString, work.tree), claim);
});
