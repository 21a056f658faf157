import { join } from 'node:path';
import { lstatIfAny } from '@hyperdocker/base';
import { lineOf } from '@hyperdocker/spec';
import type { Decider } from '@hyperdocker/watch';
import { createMatcher } from '@hyperdocker/watch';
import type { Home, Project } from './home.ts';
import { projectFilter } from './project-filter.ts';
import { specOrThrow } from './spec-file.ts';

/** Whether a path belongs to the environment, and which rule says so. */
export interface PathExplanation {
  /** Relative to the project. */
  path: string;
  /** What is there now. `special`: neither a file nor a directory nor a link. */
  kind: 'file' | 'directory' | 'link' | 'special' | 'absent';
  counts: boolean;
  /** In words. */
  rule: string;
  by?: Decider;
  /** Where the rule is written: a file of the project, and its 1-based line. */
  place?: { file: string; line: number };
  /** Services that a change of it concerns, with the pattern. */
  services: { name: string; pattern: string }[];
}

/** @param path relative to the project; what is not there is taken for a file. @throws HdError SPEC_INVALID */
export function explainPaths(place: { home: Home; project: Project; env: NodeJS.ProcessEnv }, paths: readonly string[]): PathExplanation[] {
  const { spec, text } = specOrThrow(place.project);
  const filter = projectFilter(place, spec);
  return paths.map((path) => {
    const kind = kindAt(join(place.project.dir, path));
    if (kind === 'special') return { path, kind, counts: false, rule: 'it is neither a file nor a directory nor a link', services: [] };
    const { included, rule, by } = filter.decide(path, kind === 'directory');
    const at = by === undefined ? undefined : placeOf(by, text, spec.files);
    const services = spec.services.flatMap(({ name, watch }) => watch.filter((pattern) => createMatcher([pattern])(path)).map((pattern) => ({ name, pattern })));
    return { path, kind, counts: included, rule: ownRule(by, spec.files.exclude) ?? rule, ...(by === undefined ? {} : { by }), ...(at === undefined ? {} : { place: at }), services };
  });
}

function kindAt(path: string): PathExplanation['kind'] {
  const stats = lstatIfAny(path);
  if (stats === undefined) return 'absent';
  if (stats.isDirectory()) return 'directory';
  if (stats.isSymbolicLink()) return 'link';
  return stats.isFile() ? 'file' : 'special';
}

function placeOf(by: Decider, text: string, files: { include: string[]; exclude: string[] }): { file: string; line: number } | undefined {
  if (by.origin === 'ignore-file') return { file: by.file, line: by.line };
  if (by.origin === 'default') return undefined;
  const index = by.origin === 'include' ? files.include.indexOf(by.pattern) : files.exclude.lastIndexOf(by.pattern);
  const line = index < 0 ? undefined : lineOf(text, ['files', by.origin, String(index)]);
  return line === undefined ? undefined : { file: 'hd.toml', line };
}

/** What `hd` leaves out though nothing in hd.toml says so by a pattern. */
function ownRule(by: Decider | undefined, exclude: readonly string[]): string | undefined {
  return by?.origin === 'exclude' && !exclude.includes(by.pattern) ? 'it is a file of a secret, or where hd keeps its own' : undefined;
}
