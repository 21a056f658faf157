import { readFileSync } from 'node:fs';
import { HdError, isErrno } from '@hyperdocker/base';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Project } from './home.ts';

/** The text of an hd.toml, and what it says. Apart from what parses it, which takes 40 ms to load. */
export interface SpecText { text: string; spec: EnvSpec }

/** @throws HdError NO_PROJECT, PROJECT_UNREADABLE */
export function readSpecText(project: Project): string {
  try {
    return readFileSync(project.specFile, 'utf8');
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) throw new HdError('NO_PROJECT', `${project.specFile} is gone`, { cause });
    throw new HdError('PROJECT_UNREADABLE', `cannot read ${project.specFile}`, { cause });
  }
}
