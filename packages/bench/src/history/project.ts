import type { DebianBase } from '../workshop.ts';

/** A project whose own commits are the edits. */
export interface Project {
  /** Also the name of its repository: `<name>.git` in the directory of repositories. */
  name: string;
  /** What can be cloned. */
  url: string;
  base: DebianBase;
  env: Record<string, string>;
  /** Kept between runs: for `hd` as `cache`, in the well-ordered Dockerfile as cache mounts of the steps that use them. */
  caches: string[];
  /** Of these, those that hold downloads alone: clean builds have them too. */
  downloads: string[];
  steps: ProjectStep[];
}

export interface ProjectStep {
  name: string;
  run: string;
  /** What the well-ordered Dockerfile copies just before: arguments of COPY instructions. */
  copies: string[];
  /** Of the project's `caches`, those that it is worth mounting here. */
  mounts?: string[];
}

/** The same base, variables and commands as in the Dockerfiles. `jobs`: how many steps at once, where `hd` is not to choose. */
export function renderToml({ name, base, env, caches, steps }: Project, jobs?: number): string {
  const list = (items: string[]): string => `[${items.map((item) => JSON.stringify(item)).join(', ')}]`;
  return `[environment]
name = ${JSON.stringify(name)}
base = "apt://${base.suite}?include=${base.include}"
env = { ${Object.entries(env).map(([key, value]) => `${key} = ${JSON.stringify(value)}`).join(', ')} }

[build]
steps = [
${steps.map((step) => `  { run = ${JSON.stringify(step.run)}, name = ${JSON.stringify(step.name)} },\n`).join('')}]
cache = ${list(caches)}
${jobs === undefined ? '' : `jobs = ${jobs}\n`}`;
}

/** As many a first Dockerfile is. `run` sets it apart from earlier runs of the benchmark, whose cache must not answer. */
export function renderNaive(project: Project, run: string): string {
  return [...head(project, run), 'COPY . .', ...project.steps.map((step) => `RUN ${step.run}`), ''].join('\n');
}

/** As someone writes it who knows what each command reads: each gets its files just before, and what changes seldom comes first. */
export function renderOrdered(project: Project, run: string): string {
  const instructions = project.steps.flatMap(({ copies, mounts = [], run: command }) => [
    ...copies.map((names) => `COPY ${names}`),
    `RUN ${mounts.map((target) => `--mount=type=cache,id=${project.name}-${run}-${target.replaceAll('/', '-')},target=${target} `).join('')}${command}`,
  ]);
  return [...head(project, run), ...instructions, ''].join('\n');
}

function head({ base, env }: Project, run: string): string[] {
  return [`FROM ${base.tag}`, ...Object.entries({ ...env, HD_BENCH_RUN: run }).map(([key, value]) => `ENV ${key}="${value}"`), 'WORKDIR /workspace'];
}
