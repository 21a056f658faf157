import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The first executable of this name in the directories of a search path such as PATH. */
export function findProgram(name: string, searchPath: string | undefined): string | undefined {
  return findPrograms(name, searchPath)[0];
}

export function findPrograms(name: string, searchPath: string | undefined): string[] {
  const directories = (searchPath ?? '').split(delimiter).filter((directory) => directory !== '');
  return [...new Set(directories.map((directory) => join(directory, name)))].filter(isExecutable);
}
