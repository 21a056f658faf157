import { existsSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError, processStartTime } from '@hyperdocker/base';
import { detachBelow } from '@hyperdocker/mount';
import { OciRuntime, endHelpersOf, removeGroups } from '@hyperdocker/sandbox';
import { claim } from './claim.ts';
import type { EnvPaths } from './home.ts';
import { readLiveRecord, removeLiveRecord, servedRoot } from './live-record.ts';
import { isAlive, readState, removeState } from './state-file.ts';
import { removeTrees } from './user-namespace.ts';

/**
 * Takes away all that a supervisor that was killed has left: the process that serves its files, with the mounts; containers that no guard has ended; files. Does nothing where a supervisor lives.
 * @param options.evenServed also a root that could be adopted
 */
export async function recover(paths: EnvPaths, options: { evenServed: boolean }): Promise<void> {
  let held: AsyncDisposable;
  try {
    held = await claim(paths);
  } catch (error) {
    // Whoever has it has cleaned up, or does.
    if (error instanceof HdError && error.code === 'ALREADY_RUNNING') return;
    throw error;
  }
  await using _held = held;
  const state = readState(paths.stateFile);
  if ((state !== undefined && isAlive(state)) || (!options.evenServed && servedRoot(paths) !== undefined)) return;
  const runtime = state?.runtime ?? readLiveRecord(paths)?.runtime;
  await endHost(paths);
  if (runtime !== undefined) await endContainers(paths, runtime);
  if (state !== undefined) endHelpersOf(state.pid);
  detachBelow(paths.dir);
  // Elsewhere than in the host's own mount namespace these are plain directories.
  removeTrees([paths.liveDir, paths.stepsDir, paths.bundlesDir, paths.networkDir]);
  for (const socket of [paths.socket, paths.hostSocket]) rmSync(socket, { force: true });
  removeLiveRecord(paths);
  removeState(paths.stateFile);
}

/** Ends all containers of an environment, whoever runs them. Guards may do the same at the same time. */
export async function endContainers(paths: EnvPaths, path: string, which: (id: string) => boolean = () => true): Promise<void> {
  const runtime = new OciRuntime({ path, root: paths.runtimeRoot });
  for (let attempt = 1; ; attempt++) {
    const left = (await runtime.list()).filter(({ id }) => which(id));
    if (left.length === 0) break;
    const outcomes = await Promise.allSettled(left.map(({ id }) => runtime.delete(id, { force: true })));
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    if (failed !== undefined && attempt === ATTEMPTS) throw failed.reason;
    if (failed !== undefined) await delay(INTERVAL_MS);
  }
  runtime.close();
  await removeGroups((id) => id.startsWith(paths.containerPrefix) && which(id));
  // Of a container that was only half made the runtime itself knows nothing.
  const names = existsSync(paths.runtimeRoot) ? readdirSync(paths.runtimeRoot) : [];
  for (const name of names) if (which(name)) rmSync(join(paths.runtimeRoot, name), { recursive: true, force: true });
}

const ATTEMPTS = 100;
const INTERVAL_MS = 50;

async function endHost(paths: EnvPaths): Promise<void> {
  const host = readLiveRecord(paths)?.host;
  for (let attempt = 0; host !== undefined && processStartTime(host.pid) === host.startTime; attempt++) {
    if (attempt === 0) process.kill(host.pid, 'SIGKILL');
    if (attempt === ATTEMPTS) throw new HdError('FUSE_HOST', `the process ${host.pid}, which serves files, does not end`);
    await delay(INTERVAL_MS);
  }
}
