import { HdError } from '@hyperdocker/base';
import type { Project } from '@hyperdocker/environment';
import { readSpecFile } from '@hyperdocker/environment';
import type { EnvSpec } from '@hyperdocker/spec';
import { renderDiagnostic } from '@hyperdocker/spec';
import { plural } from './format.ts';
import type { Terminal } from './terminal.ts';

/** The project's hd.toml. Everything that is wrong with it goes to standard error first. @throws HdError SPEC_INVALID */
export function loadSpec(project: Project, terminal: Terminal): { text: string; spec: EnvSpec } {
  const file = readSpecFile(project);
  const diagnostics = file.ok ? file.warnings : file.diagnostics;
  for (const diagnostic of diagnostics) {
    terminal.err(`${renderDiagnostic(diagnostic, 'hd.toml', file.text, { color: terminal.errPaint.enabled })}\n`);
  }
  if (file.ok) return file;
  const errors = diagnostics.filter(({ severity }) => severity === 'error').length;
  throw new HdError('SPEC_INVALID', `${project.specFile} has ${plural(errors, 'error')}`);
}
