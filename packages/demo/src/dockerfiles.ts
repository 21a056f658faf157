import { posix } from 'node:path';
import type { StepInputs } from '@hyperdocker/environment';
import type { ServiceSpec } from '@hyperdocker/spec';

/** What a Dockerfile is written from: the same base, steps and command. */
export interface DockerPlan {
  /** Tag of the base image. */
  from: string;
  workdir: string;
  steps: readonly StepInputs[];
  service: ServiceSpec & { port: number };
}

/** Where tools keep what they have downloaded. */
const TOOL_CACHES: [RegExp, string[]][] = [
  [/\bpip3?\b.*\binstall\b/, ['/root/.cache/pip']],
  [/\bnpm\b/, ['/root/.npm']],
  [/\byarn\b/, ['/usr/local/share/.cache/yarn']],
  [/\bgo (build|mod|install|test)\b/, ['/root/go/pkg/mod', '/root/.cache/go-build']],
  [/\bcargo\b/, ['/root/.cargo/registry']],
  [/\bapt-get\b/, ['/var/cache/apt', '/var/lib/apt/lists']],
];
/** Directories of which so many files are read are copied whole. */
const MANY_FILES = 4;

/** As many a first Dockerfile is: all sources come first, so that every edit runs every step again. */
export function naiveDockerfile(plan: DockerPlan): string {
  return [...head(plan), 'COPY . .', ...plan.steps.map((step) => runLine(plan, step, step.command)), ...foot(plan)].join('\n');
}

/**
 * As the manual has it: before each step only what it needs is copied, downloads are kept in cache mounts. What a step needs is what hd saw it read, so that no Dockerfile
 * written by hand could do better.
 * @param cacheId another one makes the cache mounts empty
 */
export function orderedDockerfile(plan: DockerPlan, cacheId: string): string {
  const copied = new Set<string>();
  const lines = plan.steps.flatMap((step) => {
    const copies = copiesFor(step.reads).filter((path) => !copied.has(path));
    for (const path of copies) copied.add(path);
    const caches = [...new Set([...step.cacheDirs, ...TOOL_CACHES.flatMap(([pattern, dirs]) => (pattern.test(step.command) ? dirs : []))])];
    const mounts = caches.map((dir) => `--mount=type=cache,id=${cacheId}${dir.replaceAll('/', '-')},target=${dir},sharing=locked `).join('');
    // With a cache mount there is no need to go without one.
    const command = caches.length === 0 ? step.command : step.command.replaceAll(/ --no-cache-dir\b/g, '');
    return [...copies.map((path) => `COPY ["${path}", "${path}"]`), runLine(plan, step, command, mounts)];
  });
  return [...head(plan), ...lines, 'COPY . .', ...foot(plan)].join('\n');
}

function head({ from, workdir, steps }: DockerPlan): string[] {
  const env = Object.entries(steps[0]?.env ?? {}).filter(([name]) => name !== 'HOME' && name !== 'PATH').map(envLine);
  return [`FROM ${from}`, ...env, `WORKDIR ${workdir}`];
}

function foot({ workdir, service }: DockerPlan): string[] {
  const env = Object.entries({ PORT: String(service.port), ...service.env }).map(envLine);
  const cwd = service.cwd === undefined ? [] : [`WORKDIR ${posix.resolve(workdir, service.cwd)}`];
  return [...env, ...cwd, `CMD ["/bin/sh", "-c", ${JSON.stringify(`exec ${service.command}`)}]`, ''];
}

/** In the form of a list where a command has several lines: those would be instructions otherwise. */
function runLine({ workdir }: DockerPlan, step: StepInputs, command: string, mounts = ''): string {
  const text = step.workdir === workdir ? command : `cd ${step.workdir} && ${command}`;
  return `RUN ${mounts}${text.includes('\n') ? JSON.stringify(['/bin/sh', '-c', text]) : text}`;
}

/** Instructions expand variables in values. */
function envLine([name, value]: [string, string]): string {
  return `ENV ${name}=${JSON.stringify(value).replaceAll('$', '\\$')}`;
}

/** Few files by their names, many of one directory as that. */
function copiesFor(reads: readonly string[]): string[] {
  const byTop = Map.groupBy(reads, (path) => (path.includes('/') ? path.slice(0, path.indexOf('/')) : ''));
  return [...byTop].flatMap(([top, paths]) => (top === '' || paths.length < MANY_FILES ? paths : [`${top}/`]));
}
