import type { FsckProblem, ObjectName } from '@hyperdocker/cas';
import type { KnownEnvironment } from '@hyperdocker/environment';
import { checkStore, openHome } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatCount, plural } from '../format.ts';
import { printable } from '../terminal.ts';

export async function run({ env, flags, json, quiet, terminal }: Invocation): Promise<number> {
  const repair = flags.bool('repair');
  const { objectsChecked, problems, rebuiltObjects, environments } = checkStore(openHome(env), { rebuild: flags.bool('rebuild-index'), repair, sample: sampleFlag(flags.text('sample')) });
  const left = problems.filter(({ repaired }) => !repaired).length;
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.cas.fsck/1', objectsChecked, ...(rebuiltObjects === undefined ? {} : { rebuiltObjects }), problems: problems.map((problem) => ({ ...problem, environments: environmentsOf(problem, environments) })) })}\n`);
  else {
    const lines = problems.flatMap((problem) => problemLines(problem, environments));
    if (!quiet) {
      if (rebuiltObjects !== undefined) lines.unshift(`Index made again: ${plural(rebuiltObjects, 'object')}.`);
      lines.push(`${formatCount(objectsChecked)} objects checked, ${verdict(problems.length, left, repair)}.`);
    }
    if (lines.length > 0) terminal.out(`${lines.map((line) => printable(line)).join('\n')}\n`);
    if (left > 0) terminal.err(`hint: ${repair ? 'what is lost is made again by `hd build` in the projects named; images by `hd build --pull`' : '`hd cas fsck --repair` puts right what it can'}\n`);
  }
  return left === 0 ? EXIT.ok : EXIT.failure;
}

/** `10%`, `0.5 %`, or `10`, as a part of 1. @throws HdError USAGE */
function sampleFlag(text: string | undefined): number {
  if (text === undefined) return 1;
  const percent = /^\s*(\d+(?:\.\d+)?)\s*%?\s*$/.exec(text)?.[1];
  if (percent === undefined || Number(percent) > 100) throw usageError(`--sample needs a percentage, not "${text}"`, 'such as 5%');
  return Number(percent) / 100;
}

function verdict(problems: number, left: number, repair: boolean): string {
  if (problems === 0) return 'all right';
  if (!repair) return plural(problems, 'problem');
  return left === 0 ? `${plural(problems, 'problem')}, all repaired` : `${plural(problems, 'problem')}, ${formatCount(left)} not repaired`;
}

/** What it is, and where it is needed. */
function problemLines({ kind, digest, problem, names, repaired }: FsckProblem, environments: readonly KnownEnvironment[]): string[] {
  const places = new Set(names.map((name) => `    ${placeOf(name, environments)}`));
  return [`${kind} ${digest}: ${problem}${repaired ? ' (repaired)' : ''}`, ...places];
}

/** Most refs of an environment lead to the files of its project, by their paths there; `tree` to all that is inside. */
function placeOf({ ref, path }: ObjectName, environments: readonly KnownEnvironment[]): string {
  const [, id = '', what = ''] = /^env\/([^/]+)\/([^/]+)/.exec(ref) ?? [];
  if (id === '') return `${ref}: /${path}`;
  const project = environments.find((environment) => environment.id === id)?.project;
  const place = path === '' ? 'all of it' : what === 'tree' ? `/${path}` : what === 'cache' ? `a cache directory: ${path}` : path;
  return `environment ${id}${project === undefined ? '' : ` (${project})`}: ${place}`;
}

function environmentsOf({ names }: FsckProblem, environments: readonly KnownEnvironment[]): { id: string; project?: string }[] {
  const ids = new Set(names.flatMap(({ ref }) => /^env\/([^/]+)\//.exec(ref)?.[1] ?? []));
  return environments.flatMap(({ id, project }) => (ids.has(id) ? [{ id, ...(project === undefined ? {} : { project }) }] : []));
}
