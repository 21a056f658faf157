import { statSync } from 'node:fs';
import { relative, resolve } from 'node:path';
import type { EnvPaths, Home, Project } from '@hyperdocker/environment';
import { envPaths, findProject, openHome } from '@hyperdocker/environment';
import { usageError } from './args.ts';
import type { Invocation } from './command.ts';

export interface ProjectPlace { home: Home; project: Project; paths: EnvPaths }

/** The project that a command is about. @param directory relative to where the command works. @throws HdError NO_PROJECT, USAGE */
export function locateProject({ cwd, env }: Invocation, directory = '.'): ProjectPlace {
  const start = resolve(cwd, directory);
  if (statSync(start, { throwIfNoEntry: false })?.isDirectory() !== true) throw usageError(`${start} is not a directory`);
  const home = openHome(env);
  const project = findProject(start);
  return { home, project, paths: envPaths(home, project) };
}

/** A path that was typed, relative to the project; '' for the project itself. @throws HdError USAGE */
export function pathInProject(project: Project, { cwd }: Invocation, typed: string): string {
  const path = relative(project.dir, resolve(cwd, typed));
  if (path === '..' || path.startsWith('../')) throw usageError(`${typed} is not in the project ${project.dir}`);
  return path;
}
