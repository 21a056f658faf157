import { formatMs } from '@hyperdocker/demo';
import type { Commit } from './checkout.ts';
import type { Oracle } from './oracle.ts';
import type { Project } from './project.ts';

/** What one side did at each commit, the start first. */
export interface SideLog {
  side: string;
  builds: SideBuild[];
}

export interface SideBuild {
  ms: number;
  /** Of each step: did it run? */
  ran: boolean[];
  /** Why, where the side says so. */
  reasons?: string[];
  /** The step at which it ended, from 0. */
  failed?: number;
}

/** Where a build over an older one came to something else than a clean one of the same commit. */
export interface WrongResult { commit: string; what: string }

/** What BuildKit's rules say would run: by commit, the start first, then by step. */
export interface Rules { naive: boolean[][]; ordered: boolean[][] }

export interface History {
  project: Project;
  rules: Rules;
  /** The start first, then the edits. */
  commits: Commit[];
  sides: SideLog[];
  oracle: Oracle;
  /** What was wrong in the trees of `hd`, noise and times apart. */
  wrong: WrongResult[];
}

/** Markdown: totals by step, the check, then what ran at each commit and why. */
export function renderHistory(history: History): string {
  const { project, commits, sides } = history;
  return [
    `### ${project.name}`, '',
    `${commits.length - 1} commits, ${commits[1]?.id} to ${commits.at(-1)?.id}, after a first build of ${commits[0]?.id}.`, '',
    ...totals(history), '',
    check(history), '',
    'What ran at each commit; what the oracle would have left out is *slanted*, what it would have left out only by files has a °:', '',
    ...commits.slice(1).map((commit, index) => commitLine(history, sides[0], commit, index + 1)),
  ].join('\n');
}

function totals({ project, rules, commits, sides, oracle }: History): string[] {
  const count = (rows: readonly (readonly boolean[])[], step: number): number => rows.slice(1).filter((row) => row[step]).length;
  const columns = [...sides.map(({ builds }) => builds.map(({ ran }) => ran)), ...(sides.length > 1 ? [] : [rules.naive, rules.ordered]), oracle.printed, oracle.files];
  const byRule = sides.length > 1 ? [] : ['naive Dockerfile, by rule', 'well-ordered, by rule'];
  const sum = columns.map((rows) => project.steps.reduce((total, _, step) => total + count(rows, step), 0));
  const row = (cells: (string | number)[]): string => `| ${cells.join(' | ')} |`;
  const times = (name: string, pick: (side: SideLog) => number): string => row([name, ...sides.map((side) => formatMs(pick(side))), ...byRule.map(() => ''), '', '']);
  return [
    row(['Step', ...sides.map(({ side }) => side), ...byRule, 'oracle', 'oracle, files alone']),
    row(columns.map(() => '---').concat('---')),
    ...project.steps.map((step, index) => row([`${step.name}: \`${step.run.replaceAll('|', '\\|')}\``, ...columns.map((rows) => count(rows, index))])),
    row([`**of ${project.steps.length * (commits.length - 1)}**`, ...sum.map((total) => `**${total}**`)]),
    times('all rebuilds together', ({ builds }) => builds.slice(1).reduce((total, { ms }) => total + ms, 0)),
    times('first build', ({ builds }) => builds[0]?.ms ?? Number.NaN),
  ];
}

function check(history: History): string {
  const { project, commits, sides, oracle, wrong } = history;
  const stale = commits.slice(1).flatMap(({ id }, index) => project.steps.filter((_, step) => sides[0]?.builds[index + 1]?.ran[step] === false && oracle.files[index + 1]?.[step] === true).map(({ name }) => `${id} ${name}`));
  const failed = commits.flatMap(({ id }, index) => project.steps.filter((_, step) => sides[0]?.builds[index]?.failed === step).map(({ name }) => `${id} (${name})`));
  const noise = project.steps.flatMap(({ name }, step) => (oracle.noise[step]?.length ? [`${name}: ${some(oracle.noise[step])}`] : []));
  return [
    wrong.length === 0 ? `At every commit the tree that \`hd\` came to is that of a clean build.` : `**Wrong results**: ${wrong.map(({ commit, what }) => `${commit}: ${what}`).join('; ')}.`,
    ...(failed.length === 0 ? [] : [`Builds that fail, clean or not: ${failed.join(', ')}.`]),
    stale.length === 0 ? 'No step was left out that would have left something new.' : `**Left out although it would have left something new**: ${stale.join(', ')}.`,
    ...breaches(history),
    noise.length === 0 ? 'Two clean builds of one commit were the same.' : `Not compared, since two clean builds of one commit differ there: ${noise.join('; ')}.`,
  ].join(' ');
}

/** Where Docker did something else than its rules say. */
function breaches({ project, commits, sides, rules }: History): string[] {
  return [rules.naive, rules.ordered].flatMap((rule, index) => {
    const { side = '', builds = [] } = sides[index + 1] ?? {};
    const odd = builds.flatMap(({ ran, failed }, commit) => project.steps.filter((_, step) => step <= (failed ?? step) && ran[step] !== rule[commit]?.[step]).map(({ name }) => `${commits[commit]?.id} ${name}`));
    return odd.length === 0 ? [] : [`Not as BuildKit's rules say, ${side}: ${odd.join(', ')}.`];
  });
}

function commitLine({ project, oracle }: History, side: SideLog | undefined, { id, subject, files }: Commit, index: number): string {
  const build = side?.builds[index];
  const steps = project.steps.flatMap(({ name }, step) => {
    if (build?.ran[step] !== true) return [];
    const text = `${name} (${build.reasons?.[step] ?? ''})`;
    return oracle.printed[index]?.[step] === true ? [`${text}${oracle.files[index]?.[step] === true ? '' : '°'}`] : [`*${text}*`];
  });
  return `- \`${id}\` ${subject.replaceAll(/([*_`<[])/g, '\\$1')} (${files.length === 1 ? files[0] : `${files.length} files`}): ${steps.join('; ') || 'nothing'}`;
}

/** The first few paths, and how many more there are. */
export function some(paths: readonly string[]): string {
  return `${paths.slice(0, 5).map((path) => `\`${path}\``).join(', ')}${paths.length > 5 ? ` and ${paths.length - 5} more` : ''}`;
}
