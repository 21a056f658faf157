import { workerData } from 'node:worker_threads';
import type { GangTicket } from '@hyperdocker/base';
import { takePart } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { Hosts } from './put-files.ts';
import { putAll } from './put-files.ts';

/** A helper of `FilesToPut`. */
const { gang, storeDir } = workerData as { gang: GangTicket; storeDir: string };
takePart(gang, () => {
  const store = openStore(storeDir);
  return {
    perform: (hosts: Hosts) => putAll(store, hosts),
    [Symbol.dispose]: () => {
      using _closed = store;
      store.flush();
    },
  };
});
