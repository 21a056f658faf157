import { once } from 'node:events';
import { readFileSync } from 'node:fs';
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
    const held = await tryName(claimName(paths));
    if (held !== undefined) return held;
    if (isSupervised(paths) || attempt === ATTEMPTS) throw alreadyRunning();
    await delay(INTERVAL_MS);
  }
}

export interface BuildClaimOptions {
  /** Ends the waiting. */
  signal: AbortSignal;
  /** Somebody else builds it: called once. */
  onWait: () => void;
  /** A build beside a supervisor is not waited with, but refused: the supervisor builds by itself. */
  besideSupervisor: 'wait' | 'refuse';
}

/**
 * The right to build an environment, and to move its refs: that of one build, and a supervisor's for its life. Another name of the same kind, since a build changes nothing of what runs or was
 * left: files that wait for a supervisor go on waiting beside it. A build may take an hour, and is waited for as long as its process lives.
 * @throws HdError ALREADY_RUNNING; what the signal is aborted with
 */
export async function claimBuild(paths: EnvPaths, { signal, onWait, besideSupervisor }: BuildClaimOptions): Promise<AsyncDisposable> {
  for (let attempt = 0; ; attempt++) {
    signal.throwIfAborted();
    if (besideSupervisor === 'refuse' && isSupervised(paths)) throw alreadyRunning();
    const held = await tryName(buildName(paths));
    if (held !== undefined) return held;
    if (attempt === SOON_ATTEMPTS) onWait();
    await delay(INTERVAL_MS);
  }
}

/** By somebody who has not ended. */
export function isBeingBuilt(paths: EnvPaths): boolean {
  return readFileSync('/proc/net/unix', 'latin1').includes(`@${buildName(paths)}`);
}

/** What to tell meanwhile. */
export const OTHER_BUILD = 'the environment is being built already: waiting for that build';

/** Cleaning up takes a second at most, but for a machine under load. */
const ATTEMPTS = 1000;
/** What ends right now is not worth a word. */
const SOON_ATTEMPTS = 10;
const INTERVAL_MS = 20;

function claimName({ socket }: EnvPaths): string {
  return `hyperdocker-${sha256Hex(socket).slice(0, 32)}`;
}

function buildName({ dir }: EnvPaths): string {
  return `hyperdocker-build-${sha256Hex(dir).slice(0, 32)}`;
}

function isSupervised({ stateFile }: EnvPaths): boolean {
  const state = readState(stateFile);
  return state !== undefined && isAlive(state);
}

function alreadyRunning(): HdError {
  return new HdError('ALREADY_RUNNING', 'another supervisor has this environment');
}

async function tryName(name: string): Promise<AsyncDisposable | undefined> {
  const lock = createServer();
  try {
    await once(lock.listen(`\0${name}`), 'listening');
  } catch {
    return undefined;
  }
  lock.unref();
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => void lock.close(() => resolve())) };
}
