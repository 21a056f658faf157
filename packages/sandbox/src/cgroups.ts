import { accessSync, constants, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

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
