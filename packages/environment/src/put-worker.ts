import { workerData } from 'node:worker_threads';
import type { GangTicket } from '@hyperdocker/base';
import { takePart } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { PutWork } from './put-files.ts';
import { putUnits } from './put-files.ts';

/** A helper of `putFiles`. */
const { gang, work } = workerData as { gang: GangTicket; work: PutWork };
takePart(gang, (claim) => {
  using store = openStore(work.storeDir);
  putUnits(store, work, claim);
  store.flush();
});
