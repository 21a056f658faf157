import { rmSync } from 'node:fs';
import { processStartTime } from '@hyperdocker/base';
import { readJson, writeJson } from './json-file.ts';

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
  writeJson(file, state);
}

export function readState(file: string): SupervisorState | undefined {
  return readJson(file) as SupervisorState | undefined;
}

export function removeState(file: string): void {
  rmSync(file, { force: true });
}

export function isAlive(state: SupervisorState): boolean {
  return processStartTime(state.pid) === state.startTime;
}
