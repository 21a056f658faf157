import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

/** The first executable of this name on PATH. */
export function findProgram(name: string, env: NodeJS.ProcessEnv = process.env): string | undefined {
  return findPrograms(name, env)[0];
}

export function findPrograms(name: string, env: NodeJS.ProcessEnv = process.env): string[] {
  const directories = (env['PATH'] ?? '').split(delimiter).filter((directory) => directory !== '');
  return [...new Set(directories.map((directory) => join(directory, name)))].filter((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}
