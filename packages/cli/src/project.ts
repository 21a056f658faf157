import { statSync } from 'node:fs';
import { resolve } from 'node:path';
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
