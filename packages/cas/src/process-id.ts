import { processStartTime } from '@hyperdocker/base';

/** A process on this machine, told from a later one with the same number by its start time. */
export interface ProcessId {
  pid: number;
  /** Clock ticks since boot, field 22 of /proc/<pid>/stat. */
  startTicks: string;
}

let own: ProcessId | undefined;

export function ownProcess(): ProcessId {
  return (own ??= { pid: process.pid, startTicks: processStartTime(process.pid) ?? '0' });
}

export function isAlive({ pid, startTicks }: ProcessId): boolean {
  return processStartTime(pid) === startTicks;
}
