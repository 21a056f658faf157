import { once } from 'node:events';
import { createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError, sha256Hex } from '@hyperdocker/base';
import type { EnvPaths } from './home.ts';
import { isAlive, readState } from './state-file.ts';

/**
 * The right to change what an environment has on disk and what runs for it: a supervisor's for its life, and that of who cleans up after one. It is a name in the
 * kernel that no two can hold, and that is free again when its holder ends, however it ends.
 * @throws HdError ALREADY_RUNNING when a supervisor has it; who cleans up is waited for
 */
export async function claim(paths: EnvPaths): Promise<AsyncDisposable> {
  for (let attempt = 0; ; attempt++) {
    const held = await tryClaim(paths);
    if (held !== undefined) return held;
    const state = readState(paths.stateFile);
    if ((state !== undefined && isAlive(state)) || attempt === ATTEMPTS) throw new HdError('ALREADY_RUNNING', 'another supervisor has this environment');
    await delay(INTERVAL_MS);
  }
}

/** Cleaning up takes a second at most, but for a machine under load. */
const ATTEMPTS = 1000;
const INTERVAL_MS = 20;

async function tryClaim(paths: EnvPaths): Promise<AsyncDisposable | undefined> {
  const lock = createServer();
  try {
    await once(lock.listen(`\0hyperdocker-${sha256Hex(paths.socket).slice(0, 32)}`), 'listening');
  } catch {
    return undefined;
  }
  lock.unref();
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => void lock.close(() => resolve())) };
}
