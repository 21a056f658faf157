import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { isErrno, processStartTime } from '@hyperdocker/base';

/** What another process must know of a supervisor: enough to find it, to tell it from a later process of the same id, and to clean up after it. */
export interface SupervisorState {
  version: 1;
  pid: number;
  /** Field 22 of /proc/PID/stat: a process id alone may have been given out again. */
  startTime: string;
  project: string;
  name: string;
  runtime: string;
  runtimeRoot: string;
}

export function writeState(file: string, state: SupervisorState): void {
  writeFileSync(`${file}.tmp`, JSON.stringify(state), { mode: 0o600 });
  renameSync(`${file}.tmp`, file);
}

export function readState(file: string): SupervisorState | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')) as SupervisorState;
  } catch (error) {
    if (isErrno(error, 'ENOENT') || error instanceof SyntaxError) return undefined;
    throw error;
  }
}

export function removeState(file: string): void {
  rmSync(file, { force: true });
}

export function isAlive(state: SupervisorState): boolean {
  return processStartTime(state.pid) === state.startTime;
}
