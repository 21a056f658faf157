import { readFileSync } from 'node:fs';

/** A process on this machine, told from a later one with the same number by its start time. */
export interface ProcessId {
  pid: number;
  /** Clock ticks since boot, field 22 of /proc/<pid>/stat. */
  startTicks: string;
}

let own: ProcessId | undefined;

export function ownProcess(): ProcessId {
  return (own ??= { pid: process.pid, startTicks: startTicksOf(process.pid) ?? '0' });
}

export function isAlive({ pid, startTicks }: ProcessId): boolean {
  return startTicksOf(pid) === startTicks;
}

/** Undefined where there is no such process, or only its zombie. */
function startTicksOf(pid: number): string | undefined {
  let stat: string;
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  } catch {
    return undefined;
  }
  // The command name, in parentheses, may itself hold spaces and parentheses.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}
