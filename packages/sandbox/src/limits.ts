import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { CgroupMode } from './cgroups.ts';

/** What the processes of a container may use together. */
export interface ContainerLimits {
  readonly memoryBytes?: number;
  /** Of processors: 1.5 is one and a half. */
  readonly cpus?: number;
  /** Processes and threads. */
  readonly pids?: number;
}

/** Enough for anything but a fork bomb. */
export const DEFAULT_PIDS = 4096;

const CGROUPS = '/sys/fs/cgroup';
const CPU_PERIOD_US = 100_000;

/** Of the runtime specification. Swap is not a way out of the limit of memory. */
export function limitResources({ memoryBytes, cpus, pids = DEFAULT_PIDS }: ContainerLimits, mode: CgroupMode): object {
  const countsSwap = mode === 'unified' || existsSync(join(CGROUPS, 'memory/memory.memsw.limit_in_bytes'));
  return {
    ...(memoryBytes === undefined ? {} : { memory: { limit: memoryBytes, ...(countsSwap ? { swap: memoryBytes } : {}) } }),
    ...(cpus === undefined ? {} : { cpu: { period: CPU_PERIOD_US, quota: Math.round(cpus * CPU_PERIOD_US) } }),
    pids: { limit: pids },
  };
}

/** Whether the kernel has killed a process of a container for its limit of memory. To be asked while its group is there. */
export function wasOutOfMemory(containerId: string, mode: CgroupMode): boolean {
  const file = mode === 'unified' ? join('hyperdocker', containerId, 'memory.events') : join('memory/hyperdocker', containerId, 'memory.oom_control');
  try {
    return Number(/^oom_kill (\d+)$/m.exec(readFileSync(join(CGROUPS, file), 'utf8'))?.[1] ?? 0) > 0;
  } catch {
    return false;
  }
}

/** Which of the limits nothing here enforces. */
export function limitsWithoutEffect(limits: ContainerLimits, mode: CgroupMode): string[] {
  const controllers: [wanted: unknown, key: string, controller: string][] = [[limits.memoryBytes, 'memory', 'memory'], [limits.cpus, 'cpus', 'cpu'], [limits.pids, 'pids', 'pids']];
  const available = mode === 'unified' ? readFileSync(join(CGROUPS, 'cgroup.controllers'), 'utf8').trim().split(' ') : undefined;
  const works = (controller: string): boolean => mode !== 'none' && (available?.includes(controller) ?? existsSync(join(CGROUPS, controller, 'cgroup.procs')));
  return controllers.flatMap(([wanted, key, controller]) => (wanted === undefined || works(controller) ? [] : [key]));
}
