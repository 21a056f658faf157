import { relative } from 'node:path';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Filter } from '@hyperdocker/watch';
import { createFilter } from '@hyperdocker/watch';
import type { Home, Project } from './home.ts';
import type { SecretHost } from './secrets.ts';
import { secretExclusions } from './secrets.ts';

/**
 * Which files of a project belong to its environment. A home inside the project is no part of it: it would hold itself. Nor are files of secrets.
 * @param include instead of the specification's
 */
export function projectFilter(places: { home: Home; project: Project; env: SecretHost['env'] }, spec: EnvSpec, include = spec.files.include): Filter {
  const { home, project, env } = places;
  const inside = relative(project.dir, home.dir);
  const own = inside === '' || inside.startsWith('..') ? [] : [inside];
  return createFilter({ include, exclude: [...spec.files.exclude, ...own, ...secretExclusions(spec.secrets, { env, projectDir: project.dir })] });
}
