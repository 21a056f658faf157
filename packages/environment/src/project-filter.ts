import { relative } from 'node:path';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Filter } from '@hyperdocker/watch';
import { createFilter, readIgnoreFiles } from '@hyperdocker/watch';
import type { Home, Project } from './home.ts';
import type { SecretHost } from './secrets.ts';
import { secretExclusions } from './secrets.ts';

/**
 * Which files of a project belong to its environment. A home inside the project is no part of it: it would hold itself. Nor are files of secrets. Ignore files are
 * read now: once one of them has changed, it takes another filter.
 * @param include instead of the specification's
 */
export function projectFilter(places: { home: Home; project: Project; env: SecretHost['env'] }, spec: EnvSpec, include = spec.files.include): Filter {
  const { home, project, env } = places;
  const inside = relative(project.dir, home.dir);
  const own = inside === '' || inside.startsWith('..') ? [] : [inside];
  const options = { include, exclude: [...spec.files.exclude, ...own, ...secretExclusions(spec.secrets, { env, projectDir: project.dir })] };
  const plain = createFilter(options);
  const ignoreFiles = readIgnoreFiles(project.dir, spec.files.ignoreFiles, (directory) => plain.mayContain(directory));
  return ignoreFiles.length === 0 ? plain : createFilter({ ...options, ignoreFiles });
}
