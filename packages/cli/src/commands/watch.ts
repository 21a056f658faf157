import type { PathExplanation } from '@hyperdocker/environment';
import { explainPaths } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject, pathInProject } from '../project.ts';
import { printable } from '../terminal.ts';

/** Which rule decides whether a path is watched and brought in. */
export async function run(invocation: Invocation): Promise<number> {
  const { terminal, flags, json, env } = invocation;
  const named = flags.list('explain');
  if (named.length === 0) throw usageError('say which path: `hd watch --explain PATH`', 'the environment follows its files by itself while it is up');
  const { home, project } = locateProject(invocation);
  const paths = explainPaths({ home, project, env }, named.map((arg) => pathInProject(project, invocation, arg)));
  terminal.out(json ? `${JSON.stringify({ schema: 'hd.watch.explain/1', paths })}\n` : paths.map((path) => textOf(path)).join(''));
  return EXIT.ok;
}

function textOf({ path, kind, counts, rule, place, services }: PathExplanation): string {
  const where = place === undefined || rule.includes(`${place.file}:`) ? '' : ` (${place.file}:${place.line})`;
  const absent = kind === 'absent' ? '; it is not there now' : '';
  const concerned = counts && services.length > 0 ? services.map(({ name, pattern }) => `  a change of it concerns ${name} (watch "${printable(pattern)}")\n`).join('') : '';
  return `${printable(path === '' ? '.' : path)} ${counts ? 'counts' : 'does not count'}: ${printable(rule)}${where}${absent}\n${concerned}`;
}
