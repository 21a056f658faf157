import { accessSync, constants, existsSync, readFileSync, readdirSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { isErrno } from '@hyperdocker/base';
import { signalEach } from './process-tree.ts';

/**
 * How this host groups processes, as far as a bundle has to know.
 *
 * - `unified`: version 2 alone; a container gets a cgroup namespace and sees its own group.
 * - `legacy`: version 1, or both at once; containers get groups, but do not see them.
 * - `none`: not there or not writable; containers run without groups, and without what groups enforce.
 */
export type CgroupMode = 'unified' | 'legacy' | 'none';

export function cgroupMode(mountPoint = '/sys/fs/cgroup'): CgroupMode {
  if (existsSync(join(mountPoint, 'cgroup.controllers'))) return isWritable(mountPoint) ? 'unified' : 'none';
  // Version 1: without the devices controller writable there is nothing to hold a container to its devices.
  return isWritable(join(mountPoint, 'devices')) && readdirSync(join(mountPoint, 'devices')).length > 0 ? 'legacy' : 'none';
}

function isWritable(path: string): boolean {
  try {
    accessSync(path, constants.W_OK);
    return true;
  } catch {
    return false;
  }
}

/** Below it in each hierarchy: the groups of our containers, by their ids. */
export const GROUPS = 'hyperdocker';

/**
 * Removes the groups of containers that are gone, and kills what is still in them: a runtime that is killed at the wrong moment leaves both, and knows nothing of them afterwards.
 * @param which by the id of the container
 */
export async function removeGroups(which: (id: string) => boolean, mountPoint = '/sys/fs/cgroup'): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const left = groups(mountPoint).filter((group) => which(group.id) && !removeGroup(group.dir));
    if (left.length === 0 || attempt === ATTEMPTS) return;
    await delay(INTERVAL_MS);
  }
}

const ATTEMPTS = 100;
const INTERVAL_MS = 20;

function groups(mountPoint: string): { id: string; dir: string }[] {
  return [mountPoint, ...directories(mountPoint).map((name) => join(mountPoint, name))].flatMap((hierarchy) => {
    const parent = join(hierarchy, GROUPS);
    return directories(parent).map((id) => ({ id, dir: join(parent, id) }));
  });
}

/** False: somebody is still in there. */
function removeGroup(dir: string): boolean {
  const below = directories(dir).map((name) => removeGroup(join(dir, name)));
  try {
    signalEach(readFileSync(join(dir, 'cgroup.procs'), 'utf8').split('\n').filter((line) => line !== '').map(Number), 'SIGKILL');
    rmdirSync(dir);
    return !below.includes(false);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENODEV')) return true;
    if (isErrno(error, 'EBUSY', 'EOPNOTSUPP')) return false;
    // Without the right to, it stays; and so does a directory with files of its own, which is none of the kernel's: crun makes such where a hierarchy is not mounted.
    if (isErrno(error, 'EACCES', 'EPERM', 'EROFS', 'ENOTEMPTY')) return true;
    throw error;
  }
}

function directories(dir: string): string[] {
  try {
    return readdirSync(dir, { withFileTypes: true }).filter((entry) => entry.isDirectory()).map(({ name }) => name);
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'ENODEV')) return [];
    throw error;
  }
}
