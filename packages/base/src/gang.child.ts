import { workerData } from 'node:worker_threads';
import type { GangTicket } from './gang.ts';
import { takePart } from './gang.ts';

/** A worker of gang.test.ts: notes who did what, and fails after some units if told so. */
const { gang, done, failsAfter } = workerData as { gang: GangTicket; done: Int32Array; failsAfter: number };
takePart(gang, (claim) => {
  let count = 0;
  for (let unit = claim(); unit !== undefined; unit = claim()) {
    Atomics.add(done, unit, 1);
    Atomics.notify(done, unit);
    if (++count > failsAfter) throw new Error('as told');
  }
});
