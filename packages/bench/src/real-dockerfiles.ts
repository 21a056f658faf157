import { cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { openStore } from '@hyperdocker/cas';
import { openHome } from '@hyperdocker/environment';
import type { Docker } from '@hyperdocker/demo';
import { attempt, run } from '@hyperdocker/demo';
import type { ImageDifferences } from './image-comparison.ts';
import { compareImages } from './image-comparison.ts';
import type { DebianBase, Workshop } from './workshop.ts';

/** What stands for every base image that a Dockerfile names: both builders get the same one, so that what they make of it can be compared. */
export const REAL_BASE: DebianBase = {
  suite: 'bookworm', tag: 'bench-real',
  include: 'apache2,busybox-static,ca-certificates,curl,gcc,git,golang-go,libc6-dev,make,nginx-light,nodejs,npm,php-cli,python-is-python3,python3,python3-dev,python3-pip,xz-utils',
};
const BUILD_SECONDS_MAX = 240;
/** Debian's pip asks for it; the images of Docker Hub have a Python of their own. */
const BASE_ENV = ['PIP_BREAK_SYSTEM_PACKAGES=1', 'PIP_ROOT_USER_ACTION=ignore'];

/** What became of one Dockerfile. */
export type RealResult =
  /** `own`: paths that differ between two builds by BuildKit, too: times, random names. */
  | { kind: 'compared'; differences: ImageDifferences; own: number }
  | { kind: 'neither'; why: string }
  | { kind: 'only'; builder: 'hd' | 'BuildKit'; why: string }
  /** `hd` does not take it for a Dockerfile. */
  | { kind: 'invalid'; why: string };
export interface RealDockerfile { project: string; file: string; target?: string; bases: string[]; runs: number; result: RealResult }

/**
 * Builds every Dockerfile below a directory with `hd build -f` and with BuildKit, its own directory being the context, up to the stage that a Compose file of the project names; and compares the images.
 * Each directory in `corpusDir` is a project. @param wanted beginnings of paths; none: all
 */
export async function buildReal(workshop: Workshop, docker: Docker, corpusDir: string, wanted: readonly string[], tell: (done: RealDockerfile) => void): Promise<RealDockerfile[]> {
  const side = new RealBuilds(workshop, docker);
  const plans: Plan[] = [];
  const all = dockerfilesIn(corpusDir);
  const chosen = wanted.length === 0 ? all : [...new Set(wanted.flatMap((beginning) => all.filter((path) => path.startsWith(beginning))))];
  for (const path of chosen) plans.push(await side.plan(corpusDir, path));
  await side.nameBases(plans.flatMap(({ bases }) => bases));
  const results: RealDockerfile[] = [];
  for (const plan of plans) {
    const { project, file, target, bases, runs } = plan;
    const done = { project, file, ...(target === undefined ? {} : { target }), bases, runs, result: await side.build(corpusDir, plan) };
    tell(done);
    results.push(done);
  }
  return results;
}

/** What a dry run says of one Dockerfile. */
interface Plan { path: string; project: string; file: string; target: string | undefined; bases: string[]; runs: number; problem?: string }

/** Relative, in order. Templates are none. */
export function dockerfilesIn(dir: string): string[] {
  const all = readdirSync(dir, { recursive: true, encoding: 'utf8' });
  return all.filter((path) => /^Dockerfile(\.[\w-]+)?$|^[\w-]+\.Dockerfile$/.test(basename(path)) && !path.endsWith('.template')).sort();
}

/** What BuildKit of Docker 20.10 leaves of mounts, as the comparison says it: the directory, and those on the way to it. */
function placesOfMounts(text: string): Set<string> {
  const targets = [...text.matchAll(/(?:target|dst|destination)=(\/[^\s,\\]+)/g)].map(([, path]) => path ?? '');
  return new Set(targets.flatMap((path) => path.split('/').slice(1).map((_, depth, names) => `/${names.slice(0, depth + 1).join('/')} is only in the second`)));
}

/** The stage that the nearest Compose file names, if the Dockerfile has it. */
function targetOf(corpusDir: string, path: string): string | undefined {
  const text = readFileSync(join(corpusDir, path), 'utf8');
  const stages = [...text.matchAll(/^FROM\s.*\sAS\s+(\S+)\s*$/gim)].map(([, name]) => name?.toLowerCase());
  for (let dir = dirname(path); dir !== '.'; dir = dirname(dir)) {
    const compose = ['compose.yaml', 'compose.yml', 'docker-compose.yaml', 'docker-compose.yml'].map((name) => join(corpusDir, dir, name)).find((file) => existsSync(file));
    if (compose === undefined) continue;
    const targets = [...readFileSync(compose, 'utf8').matchAll(/^\s+target:\s*['"]?([\w.-]+)['"]?\s*$/gm)].map(([, name]) => name?.toLowerCase());
    return targets.find((name) => stages.includes(name));
  }
  return undefined;
}

function targetFlag(target: string | undefined): string[] {
  return target === undefined ? [] : ['--target', target];
}

class RealBuilds {
  readonly #workshop: Workshop;
  readonly #docker: Docker;
  readonly #dir: string;
  #count = 0;

  constructor(workshop: Workshop, docker: Docker) {
    this.#workshop = workshop;
    this.#docker = docker;
    this.#dir = workshop.tempDir('real');
  }

  async plan(corpusDir: string, path: string): Promise<Plan> {
    const project = path.split('/')[0] ?? path;
    const target = targetOf(corpusDir, path);
    const plan = { path, project, file: relative(project, path), target };
    const { code, output } = await this.#hd(['build', '-f', basename(path), '--dry-run', '--json', ...targetFlag(target), '.'], join(corpusDir, dirname(path)), this.#emptyHome);
    const line = output.split('\n').find((each) => each.startsWith('{'));
    if (code !== 0 || line === undefined) return { ...plan, bases: [], runs: 0, problem: reasonOf(output) };
    const { image_missing: missing, steps } = JSON.parse(line) as { image_missing?: string; steps: unknown[] };
    return { ...plan, bases: missing?.split(', ') ?? [], runs: steps.length };
  }

  async build(corpusDir: string, { path, target, bases, problem }: Plan): Promise<RealResult> {
    if (problem !== undefined) return { kind: 'invalid', why: problem };
    const byDigest = bases.find((base) => base.includes('@'));
    if (byDigest !== undefined) return { kind: 'neither', why: `its base is named by digest: ${byDigest}` };
    const name = `real-${this.#count++}`;
    const contexts = { hd: this.#copy(corpusDir, { path, target }, name, 'hd'), docker: this.#copy(corpusDir, { path, target }, name, 'docker') };
    try {
      return await this.#compare(name, contexts, [basename(path), ...targetFlag(target)]);
    } finally {
      for (const context of Object.values(contexts)) rmSync(context, { recursive: true, force: true });
    }
  }

  #copy(corpusDir: string, { path, target }: Pick<Plan, 'path' | 'target'>, name: string, builder: 'hd' | 'docker'): string {
    const context = join(this.#dir, builder, name);
    mkdirSync(dirname(context), { recursive: true });
    cpSync(join(corpusDir, dirname(path)), context, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
    // Beside the context, which both get as it is.
    if (builder === 'docker') writeFileSync(`${context}.Dockerfile`, forOldBuildKit(readFileSync(join(context, basename(path)), 'utf8'), target));
    return context;
  }

  async #compare(name: string, contexts: { hd: string; docker: string }, [file = '', ...options]: string[]): Promise<RealResult> {
    const startedMs = Date.now() - 1000;
    const ours = await this.#hd(['build', '-f', file, '-t', name, '--no-cache', ...options, '.'], contexts.hd);
    const theirs = await this.#dockerBuild(contexts.docker, name, options);
    if (ours.code !== 0 && theirs.code !== 0) return { kind: 'neither', why: reasonOf(ours.output) };
    if (ours.code !== 0) return { kind: 'only', builder: 'BuildKit', why: reasonOf(ours.output) };
    if (theirs.code !== 0) return { kind: 'only', builder: 'hd', why: reasonOf(theirs.output) };
    await this.#import(name, `of-docker/${name}`);
    const found = this.#differences(name, `of-docker/${name}`, startedMs);
    const places = placesOfMounts(readFileSync(join(contexts.hd, file), 'utf8'));
    const differences = { ...found, files: found.files.filter((line) => !places.has(line)) };
    if (differences.files.length === 0) return { kind: 'compared', differences, own: 0 };
    // What differs between two builds by one builder says nothing of the other.
    if ((await this.#dockerBuild(contexts.docker, `${name}-again`, options)).code !== 0) return { kind: 'compared', differences, own: 0 };
    await this.#import(`${name}-again`, `of-docker/${name}-again`);
    const own = new Set(this.#differences(`of-docker/${name}`, `of-docker/${name}-again`, startedMs).files.map(pathOf));
    const files = differences.files.filter((line) => !own.has(pathOf(line)));
    return { kind: 'compared', differences: { ...differences, files }, own: differences.files.length - files.length };
  }

  /** Gives both builders the base under the names that they lack. */
  async nameBases(bases: readonly string[]): Promise<void> {
    const missing = [...new Set(bases)].filter((name) => !name.includes('@'));
    if (missing.length === 0) return;
    const dir = join(this.#dir, 'names');
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'Dockerfile'), `FROM ${REAL_BASE.tag}\n${BASE_ENV.map((variable) => `ENV ${variable}\n`).join('')}CMD ["bash"]\n`);
    for (const name of missing) await this.#docker.build(dir, name);
    const archive = join(this.#dir, 'bases.tar');
    await run(this.#docker.client, ['save', '--output', archive, ...missing], { env: this.#docker.environment });
    // One archive, many names.
    await this.#must(['image', 'import', archive]);
    rmSync(archive);
  }

  async #import(image: string, as: string): Promise<void> {
    const archive = join(this.#dir, 'image.tar');
    await this.#docker.save(image, archive);
    await this.#must(['image', 'import', archive, as]);
    rmSync(archive);
  }

  #differences(first: string, second: string, sinceMs: number): ImageDifferences {
    using store = openStore(openHome({ HD_HOME: this.#workshop.hdHome }).storeDir, { readOnly: true });
    return compareImages(store, first, second, sinceMs);
  }

  async #must(args: string[]): Promise<void> {
    await run(this.#workshop.hdBin, args, { cwd: this.#dir, env: { ...process.env, HD_HOME: this.#workshop.hdHome } });
  }

  /** In which all bases are missing. */
  get #emptyHome(): string {
    return join(this.#dir, 'empty');
  }

  #hd(args: string[], cwd: string, home = this.#workshop.hdHome): Promise<{ code: number | null; output: string }> {
    return attempt('timeout', [String(BUILD_SECONDS_MAX), this.#workshop.hdBin, ...args], { cwd, env: { ...process.env, HD_HOME: home } });
  }

  #dockerBuild(context: string, tag: string, options: readonly string[]): Promise<{ code: number | null; output: string }> {
    return attempt('timeout', [String(BUILD_SECONDS_MAX), this.#docker.client, 'build', '--network', 'host', '--progress', 'plain', '--no-cache', '-f', `${context}.Dockerfile`, '-t', tag, ...options, context], { env: this.#docker.environment });
  }
}

/**
 * As the BuildKit of Docker 20.10 can read it: without `# syntax=`, since what that names would have to be fetched, and without stages that hold here-documents, which it does not know, where nothing
 * needs them.
 */
export function forOldBuildKit(text: string, target: string | undefined): string {
  const [head = '', ...stages] = text.replace(/^# *syntax *=.*\n/, '').split(/^(?=FROM\s)/im);
  const nameOf = (stage: string): string | undefined => /^FROM\s.*\sAS\s+(\S+)/i.exec(stage)?.[1]?.toLowerCase();
  const isNeeded = (stage: string, at: number): boolean => {
    const name = nameOf(stage);
    if (name === undefined ? target === undefined && at === stages.length - 1 : name === target || (target === undefined && at === stages.length - 1)) return true;
    return stages.some((other, place) => place > at && name !== undefined && new RegExp(`^FROM\\s+(--\\S+\\s+)?${name}(\\s|$)|from=${name}\\b`, 'im').test(other));
  };
  return [head, ...stages.filter((stage, at) => !/<<-?['"]?\w/.test(stage) || isNeeded(stage, at))].join('');
}

/** Of names with a time or a random number in them, the rest. */
function pathOf(line: string): string {
  return line.replace(/\d+/g, '#').replace(/(: (kind|mode|owner|attributes|names|content) .* ≠ .*| is only in the (first|second))$/, '');
}

/** The line that tells most: of a command its last words, else the error. */
function reasonOf(output: string): string {
  const lines = output.split('\n').map((line) => line.trim()).filter((line) => line !== '');
  const error = lines.findLast((line) => /^(hd: |ERROR|error: failed|failed to solve)/.test(line)) ?? lines.at(-1) ?? 'it took too long';
  const said = lines.findLast((line) => /not found|could not|cannot|can't|no such|unable|error|denied|refused|failed/i.test(line) && line !== error && !/^(hint|hd: )|^-+$|FAILED|^\d+ \||this step ended|did not complete/.test(line));
  return [error.replace(/^hd: /, ''), ...(said === undefined ? [] : [said.replace(/^#\d+ [\d.]+ /, '')])].join(' – ').slice(0, 300);
}

/** For docs/dockerfiles.md. */
export function realTable(results: readonly RealDockerfile[]): string {
  const rows = results.map(({ project, file, target, bases, runs, result }) => `| ${project.replace('+', '/')} | \`${file}\`${target === undefined ? '' : `, \`${target}\``} | ${bases.map((base) => `\`${base}\``).join(', ') || '–'} | ${runs} | ${resultText(result).replaceAll('|', '\\|')} |`);
  const count = (of: (result: RealResult) => boolean): number => results.filter(({ result }) => of(result)).length;
  return [
    '| Project | Dockerfile | Bases | `RUN` | Image |', '|---|---|---|---|---|', ...rows, '',
    `${results.length} Dockerfiles: ${count(({ kind }) => kind !== 'invalid')} translate, ${count(({ kind }) => kind === 'compared')} were built by both, of which ${count(isEqual)} are equal; ${count(({ kind }) => kind === 'only')} by one alone, ${count(({ kind }) => kind === 'neither')} by neither.`,
  ].join('\n');
}

function isEqual(result: RealResult): boolean {
  return result.kind === 'compared' && result.differences.files.length + result.differences.times.length + result.differences.config.length === 0;
}

function resultText(result: RealResult): string {
  switch (result.kind) {
    case 'invalid':
      return `does not translate: ${result.why}`;
    case 'neither':
      return `neither builds it here: ${result.why}`;
    case 'only':
      return `only ${result.builder} builds it: ${result.why}`;
    case 'compared': {
      const { files, times, config } = result.differences;
      const some = (list: readonly string[]): string => `${list.slice(0, 4).join(', ')}${list.length > 4 ? ` and ${list.length - 4} more` : ''}`;
      const own = result.own === 0 ? '' : `, but for ${result.own} that differ between two builds by BuildKit, too`;
      if (isEqual(result)) return `equal${own}`;
      return `differs: ${[...(files.length === 0 ? [] : [some(files)]), ...(times.length === 0 ? [] : [`times: ${some(times)}`]), ...(config.length === 0 ? [] : [`config: ${some(config)}`])].join('; ')}${own}`;
    }
  }
}
