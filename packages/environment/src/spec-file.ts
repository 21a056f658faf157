import { HdError } from '@hyperdocker/base';
import type { Diagnostic } from '@hyperdocker/spec';
import { parseSpec } from '@hyperdocker/spec';
import type { Project } from './home.ts';
import type { SpecText } from './spec-text.ts';
import { readSpecText } from './spec-text.ts';

export type SpecFile = SpecText & { ok: true; warnings: Diagnostic[] } | { ok: false; text: string; diagnostics: Diagnostic[] };

/** @throws HdError NO_PROJECT, PROJECT_UNREADABLE */
export function readSpecFile(project: Project): SpecFile {
  return parseSpecText(readSpecText(project));
}

export function parseSpecText(text: string): SpecFile {
  return { text, ...parseSpec(text) };
}

/** For callers that cannot show diagnostics one by one. @throws HdError SPEC_INVALID */
export function specOrThrow(project: Project): SpecText {
  const file = readSpecFile(project);
  if (file.ok) return file;
  const [first] = file.diagnostics;
  throw new HdError('SPEC_INVALID', `hd.toml:${first?.line ?? 1}:${first?.column ?? 1}: ${first?.message ?? 'it is not valid'}`, { hint: first?.hint });
}
