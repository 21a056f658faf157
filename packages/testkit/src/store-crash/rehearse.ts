import { describeError } from '@hyperdocker/base';
import { join } from 'node:path';
import { STEPS, Session, WAYS } from './workload.ts';
import type { Expectation, Way } from './workload.ts';

/** What must hold after each step of a store's life; at 0, before the first. */
export function rehearse(dir: string, way: Way): Expectation[] {
  const session = new Session(join(dir, 'store'), join(dir, 'host'), WAYS[way]);
  const history = [session.expectation];
  for (const step of STEPS) {
    step.run(session);
    history.push(session.expectation);
  }
  return history;
}

/** One kind of failure, with how often and where first it came. */
export interface Failure { message: string; count: number; first: string }

export function addFailure(failures: Failure[], error: unknown, first: string): void {
  // Digests, places and names of files differ from case to case.
  const message = describeError(error).replaceAll(/[0-9a-f]{10,}(?:-[0-9a-f]+)?|\/\S*\/\w+@\d+|\b\d+\b/g, '…');
  const known = failures.find((failure) => failure.message === message);
  if (known === undefined) failures.push({ message, count: 1, first });
  else known.count++;
}
