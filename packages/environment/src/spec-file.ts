import { readFileSync } from 'node:fs';
import { HdError, isErrno } from '@hyperdocker/base';
import type { Diagnostic, EnvSpec } from '@hyperdocker/spec';
import { parseSpec } from '@hyperdocker/spec';
import type { Project } from './home.ts';

/** The text of an hd.toml, and what it says. */
export interface SpecText { text: string; spec: EnvSpec }

export type SpecFile = SpecText & { ok: true; warnings: Diagnostic[] } | { ok: false; text: string; diagnostics: Diagnostic[] };

/** @throws HdError PROJECT_UNREADABLE */
export function readSpecFile(project: Project): SpecFile {
  let text: string;
  try {
    text = readFileSync(project.specFile, 'utf8');
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) throw new HdError('NO_PROJECT', `${project.specFile} is gone`, { cause });
    throw new HdError('PROJECT_UNREADABLE', `cannot read ${project.specFile}`, { cause });
  }
  return { text, ...parseSpec(text) };
}

/** For callers that cannot show diagnostics one by one. @throws HdError SPEC_INVALID */
export function specOrThrow(project: Project): SpecText {
  const file = readSpecFile(project);
  if (file.ok) return file;
  const [first] = file.diagnostics;
  throw new HdError('SPEC_INVALID', `hd.toml:${first?.line ?? 1}:${first?.column ?? 1}: ${first?.message ?? 'it is not valid'}`, { hint: first?.hint });
}
