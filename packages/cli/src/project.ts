import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { EnvPaths, Home, Project } from '@hyperdocker/environment';
import { envPaths, findProject, openHome, readSpecFile } from '@hyperdocker/environment';
import type { EnvSpec } from '@hyperdocker/spec';
import { renderDiagnostic } from '@hyperdocker/spec';
import { usageError } from './args.ts';
import type { Invocation } from './command.ts';
import { plural } from './format.ts';
import type { Terminal } from './terminal.ts';

export interface ProjectPlace { home: Home; project: Project; paths: EnvPaths }

/** The project that a command is about. @param directory relative to where the command works. @throws HdError NO_PROJECT, USAGE */
export function locateProject({ cwd, env }: Invocation, directory = '.'): ProjectPlace {
  const start = resolve(cwd, directory);
  if (statSync(start, { throwIfNoEntry: false })?.isDirectory() !== true) throw usageError(`${start} is not a directory`);
  const home = openHome(env);
  const project = findProject(start);
  return { home, project, paths: envPaths(home, project) };
}

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
