import { workerData } from 'node:worker_threads';
import type { GangTicket } from './gang.ts';
import { takePart } from './gang.ts';

/** A worker of gang.test.ts: notes who did what, and fails after some jobs if told so. */
const { gang, done, closed, failsAfter } = workerData as { gang: GangTicket; done: Int32Array; closed: Int32Array; failsAfter: number };
takePart(gang, () => {
  let count = 0;
  return {
    perform: ({ number }: { number: number }) => {
      Atomics.add(done, number, 1);
      Atomics.notify(done, number);
      if (++count > failsAfter) throw new Error('as told');
      return `${number} by a worker`;
    },
    [Symbol.dispose]: () => {
      Atomics.add(closed, 0, 1);
      Atomics.notify(closed, 0);
    },
  };
});
