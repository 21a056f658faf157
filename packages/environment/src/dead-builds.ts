import { processStartTime } from '@hyperdocker/base';
import { detachBelow } from '@hyperdocker/mount';
import { buildPaths, runningBuilds } from './dockerfile/build-files.ts';
import type { Home } from './home.ts';
import { endContainers } from './recover.ts';
import { removeTrees } from './user-namespace.ts';

/** Takes away what servers of builds that were killed have left: containers that no guard has ended, and directories. What they had mounted is gone with them. */
export async function removeDeadBuilds(home: Home, runtimePath: string): Promise<void> {
  for (const pid of runningBuilds(home)) {
    // One of the same number as this process, which has none yet, was another.
    if (pid !== process.pid && processStartTime(pid) !== undefined) continue;
    const paths = buildPaths(home, pid);
    await endContainers(paths, runtimePath);
    detachBelow(paths.dir);
    removeTrees([paths.dir]);
  }
}
