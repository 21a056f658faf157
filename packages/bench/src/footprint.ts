import { readFileSync, readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

/** What some processes, with all that they have started, take of the machine. */
export interface Footprint {
  processes: number;
  threads: number;
  /** What each has to itself, and its share of what several have: these add up. */
  proportionalBytes: number;
  /** The same by what they are: the processes asked for, those that serve files, everything else. */
  byKind: { asked: number; fuseHosts: number; others: number };
  /** Of the processes asked for alone, the largest: everything that it sees in memory, shared or not. */
  largestResidentBytes: number;
  /** Of one processor, while nobody wanted anything. */
  idleCpuPercent: number;
}

/** USER_HZ, which is the same on every Linux. */
const TICKS_A_SECOND = 100;

/** @param idleMs for how long it is watched doing nothing */
export async function footprintOf(roots: readonly number[], idleMs: number): Promise<Footprint> {
  const before = ticksOf(descendants(roots));
  const startedMs = performance.now();
  await delay(idleMs);
  const pids = descendants(roots);
  const ticks = ticksOf(pids) - before;
  const seconds = (performance.now() - startedMs) / 1000;
  return {
    processes: pids.length,
    threads: sum(pids, (pid) => statusNumber(pid, 'Threads')),
    proportionalBytes: sum(pids, proportional),
    byKind: {
      asked: sum(roots, proportional),
      fuseHosts: sum(pids.filter(isFuseHost), proportional),
      others: sum(pids.filter((pid) => !roots.includes(pid) && !isFuseHost(pid)), proportional),
    },
    largestResidentBytes: Math.max(...roots.map((pid) => kilobytes(pid, 'status', 'VmRSS'))),
    idleCpuPercent: (ticks / TICKS_A_SECOND / seconds) * 100,
  };
}

function proportional(pid: number): number {
  return kilobytes(pid, 'smaps_rollup', 'Pss');
}

function isFuseHost(pid: number): boolean {
  return read(`/proc/${pid}/cmdline`).includes('fuse-host-main');
}

/** What the kernel keeps of files in memory, of everybody. */
export function pageCacheBytes(): number {
  return Number(/^Cached:\s+(\d+) kB$/m.exec(readFileSync('/proc/meminfo', 'utf8'))?.[1] ?? 0) * 1024;
}

function descendants(roots: readonly number[]): number[] {
  const children = Map.groupBy(readdirSync('/proc').filter((name) => /^\d+$/.test(name)).map(Number), parentOf);
  const found = [...roots];
  for (let at = 0; at < found.length; at++) found.push(...(children.get(found[at]) ?? []));
  return found;
}

function parentOf(pid: number): number | undefined {
  const fields = statFields(pid);
  return fields === undefined ? undefined : Number(fields[1]);
}

/** User and system time, of the processes and of children that have ended. */
function ticksOf(pids: readonly number[]): number {
  return sum(pids, (pid) => sum((statFields(pid) ?? []).slice(11, 15), Number));
}

/** From the third on: the second is a name that may hold anything. */
function statFields(pid: number): string[] | undefined {
  const stat = read(`/proc/${pid}/stat`);
  return stat === '' ? undefined : stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

function kilobytes(pid: number, file: string, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(read(`/proc/${pid}/${file}`))?.[1] ?? 0) * 1024;
}

function statusNumber(pid: number, name: string): number {
  return Number(new RegExp(`^${name}:\\s+(\\d+)$`, 'm').exec(read(`/proc/${pid}/status`))?.[1] ?? 0);
}

/** Empty for a process that has ended. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

function sum<T>(values: readonly T[], amount: (value: T) => number): number {
  return values.reduce((total, value) => total + amount(value), 0);
}
