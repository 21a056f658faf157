import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/**
 * The processes of the PID namespace whose process 1 is `initPid`, that one included, without those that have ended and are only waited for. Empty where it is gone, and where it is no namespace of its own:
 * a recycled process id must not turn a signal on the processes of the host.
 */
export function processesBeside(initPid: number): number[] {
  const namespace = pidNamespace(initPid);
  if (namespace === undefined || namespace === pidNamespace(process.pid)) return [];
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => pidNamespace(pid) === namespace && !isZombie(pid));
}

/** Sends a signal to each. Those that are gone in the meantime are no error. */
export function signalEach(pids: readonly number[], signal: NodeJS.Signals): void {
  for (const pid of pids) {
    try {
      process.kill(pid, signal);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
    }
  }
}

/** The process id in a file that a runtime writes; `undefined` before it is there in full. */
export function readPidFile(path: string): number | undefined {
  try {
    const pid = Number(readFileSync(path, 'utf8').trim());
    return Number.isInteger(pid) && pid > 0 ? pid : undefined;
  } catch {
    return undefined;
  }
}

/** `undefined` for a process that is gone. */
export function parentOf(pid: number): number | undefined {
  const parent = stateOf(pid)?.[1];
  return parent === undefined ? undefined : Number(parent);
}

function isZombie(pid: number): boolean {
  return /^[ZX]/.test(stateOf(pid)?.[0] ?? 'X');
}

/** State and parent, which come after the name: that stands in parentheses and may hold some itself. */
function stateOf(pid: number): string[] | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  } catch {
    return undefined;
  }
}

function pidNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined;
  }
}
