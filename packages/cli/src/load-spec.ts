import { HdError } from '@hyperdocker/base';
import type { Project, SpecText } from '@hyperdocker/environment';
import { parseSpecText, readSpecText } from '@hyperdocker/environment';
import type { EnvSpec } from '@hyperdocker/spec';
import { renderDiagnostic } from '@hyperdocker/spec';
import { plural } from './format.ts';
import type { Terminal } from './terminal.ts';

/** The project's hd.toml. Everything that is wrong with it goes to standard error first. @throws HdError SPEC_INVALID */
export function loadSpec(project: Project, terminal: Terminal): SpecText {
  const text = readSpecText(project);
  return { text, spec: checkSpec(text, project, terminal) };
}

/** The same for one that has been read. @throws HdError SPEC_INVALID */
export function checkSpec(text: string, project: Project, terminal: Terminal): EnvSpec {
  const file = parseSpecText(text);
  const diagnostics = file.ok ? file.warnings : file.diagnostics;
  for (const diagnostic of diagnostics) {
    terminal.err(`${renderDiagnostic(diagnostic, 'hd.toml', text, { color: terminal.errPaint.enabled })}\n`);
  }
  if (file.ok) return file.spec;
  const errors = diagnostics.filter(({ severity }) => severity === 'error').length;
  throw new HdError('SPEC_INVALID', `${project.specFile} has ${plural(errors, 'error')}`);
}
