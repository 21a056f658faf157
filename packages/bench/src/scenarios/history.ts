import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { envPaths, envRef, findProject, openHome } from '@hyperdocker/environment';
import type { Docker } from '@hyperdocker/demo';
import { run } from '@hyperdocker/demo';
import type { Hd } from '../hd.ts';
import { predictRuns } from '../history/buildkit-rules.ts';
import { Checkout, lastCommits, snapshot } from '../history/checkout.ts';
import type { Commit } from '../history/checkout.ts';
import type { CleanBuild } from '../history/oracle.ts';
import { consult } from '../history/oracle.ts';
import type { Project } from '../history/project.ts';
import { renderNaive, renderOrdered, renderToml } from '../history/project.ts';
import { PROJECTS } from '../history/projects.ts';
import type { Rules, SideLog, WrongResult } from '../history/report.ts';
import { renderHistory, some } from '../history/report.ts';
import { HomeReader, differing } from '../history/results.ts';
import type { Race, Scenario, Side } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';

const EDITS = 20;
const WORKDIR = 'workspace';
/** In every Dockerfile: what an earlier run left in a cache must not answer for this one. */
const RUN = Date.now().toString(36);

/** A round is a commit; the unmeasured first one is the first build. */
export const historyScenarios: Scenario[] = PROJECTS.map((project) => ({
  name: `history.${project.name}`,
  rounds: EDITS,
  what: `The last ${EDITS} commits of ${project.url}, one after the other over the same directory: \`hd build\`; \`docker build\``,
  unable: (workshop) => workshop.repo(project.name) === undefined
    ? `it needs the project's history: git clone --bare ${project.url} DIR/${project.name}.git, and --repos DIR`
    : undefined,
  open: (workshop, rounds) => walk(workshop, project, rounds),
}));

async function walk(workshop: Workshop, project: Project, edits: number): Promise<Race> {
  const repo = workshop.repo(project.name) ?? '';
  const commits = await lastCommits(repo, edits + 1);
  await fetchBase(workshop, project);
  new HomeReader(workshop.hdHome).forgetActions();
  const hdCheckout = await Checkout.make(repo, workshop.tempDir(project.name), { 'hd.toml': renderToml(project) });
  const logs: SideLog[] = [{ side: 'hd', builds: [] }];
  const sides = [hdSide(workshop.hd(hdCheckout.dir), hdCheckout, project, commits, logs[0]!)];
  const docker = await workshop.docker(project.base);
  if (docker !== undefined) {
    for (const [name, dockerfile] of [['docker, naive Dockerfile', renderNaive(project, RUN)], ['docker, well-ordered', renderOrdered(project, RUN)]] as const) {
      const checkout = await Checkout.make(repo, workshop.tempDir(project.name), { Dockerfile: dockerfile, '.dockerignore': '.git\n' });
      const log: SideLog = { side: name, builds: [] };
      logs.push(log);
      sides.push(dockerSide(docker, checkout, `bench-history-${logs.length}`, project, commits, log));
    }
  }
  const snapshots = await Promise.all(commits.map((commit) => snapshot(repo, commit)));
  const ordered = project.steps.map(({ copies }) => copies);
  const rules = { naive: predictRuns(ordered.map((_, step) => (step === 0 ? ['. .'] : [])), snapshots), ordered: predictRuns(ordered, snapshots) };
  const clean = await CleanSide.make(workshop, project, repo);
  return {
    sides,
    settle: (round) => clean.compare(commitAt(commits, round), logs[0]!.builds.at(-1)?.failed, builtTree(workshop.hdHome, project, hdCheckout.dir)),
    report: () => clean.report(commits, logs, rules),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** So that the first build has its base image, as Docker's has. */
async function fetchBase(workshop: Workshop, project: Project): Promise<void> {
  const dir = workshop.tempDir('base');
  writeFileSync(join(dir, 'hd.toml'), renderToml({ ...project, steps: [] }));
  await workshop.hd(dir).build();
}

function hdSide(hd: Hd, checkout: Checkout, project: Project, commits: readonly Commit[], log: SideLog): Side {
  return {
    name: log.side,
    run: async (round) => {
      await checkout.go(commitAt(commits, round));
      const startedMs = performance.now();
      const events = await hd.tryBuild();
      const ms = performance.now() - startedMs;
      const ran = project.steps.map(() => false);
      const reasons = project.steps.map(() => '');
      let failed: number | undefined;
      for (const event of events) {
        if (event.type !== 'step') continue;
        if (event.status === 'ran') ran[event.step.index - 1] = true;
        if (event.status === 'running') reasons[event.step.index - 1] = event.reason;
        if (event.status === 'failed') ran[(failed = event.step.index - 1)] = true;
      }
      log.builds.push({ ms, ran, reasons, ...(failed === undefined ? {} : { failed }) });
      return { ms, work: countWords(ran) };
    },
  };
}

function dockerSide(docker: Docker, checkout: Checkout, tag: string, { steps }: Project, commits: readonly Commit[], log: SideLog): Side {
  return {
    name: log.side,
    run: async (round) => {
      await checkout.go(commitAt(commits, round));
      const startedMs = performance.now();
      const { commands, ok } = await docker.tryBuild(checkout.dir, tag);
      const ms = performance.now() - startedMs;
      const ran = steps.map((_, step) => commands[step] ?? false);
      log.builds.push({ ms, ran, ...(ok ? {} : { failed: commands.length - 1 }) });
      return { ms, work: countWords(ran) };
    },
  };
}

/** All files that an environment was built to, times apart. */
type Tree = ReadonlyMap<string, string>;

/** A clean build of every commit, one step after the other, in a home of its own: what the oracle and the check are made of. */
class CleanSide {
  readonly #project: Project;
  readonly #homeDir: string;
  readonly #reader: HomeReader;
  readonly #checkout: Checkout;
  readonly #hd: Hd;
  readonly #builds: CleanBuild[] = [];
  readonly #twins = new Map<number, CleanBuild>();
  readonly #failures: WrongResult[] = [];
  readonly #differences: { commit: Commit; paths: string[] }[] = [];

  private constructor(project: Project, homeDir: string, checkout: Checkout, hd: Hd) {
    this.#project = project;
    this.#homeDir = homeDir;
    this.#reader = new HomeReader(homeDir);
    this.#checkout = checkout;
    this.#hd = hd;
  }

  static async make(workshop: Workshop, project: Project, repo: string): Promise<CleanSide> {
    const homeDir = workshop.tempDir('home');
    await run('cp', ['-a', `${workshop.hdHome}/.`, homeDir]);
    const checkout = await Checkout.make(repo, workshop.tempDir(project.name), { 'hd.toml': renderToml({ ...project, caches: project.downloads }, 1) });
    return new CleanSide(project, homeDir, checkout, workshop.hd(checkout.dir, { HD_HOME: homeDir }));
  }

  /** Of a commit that was built incrementally: the step at which that ended, and what it came to. */
  async compare(commit: Commit, incrementalFailed: number | undefined, incremental: Tree): Promise<void> {
    await this.#checkout.go(commit);
    const build = await this.#build();
    const failed = build.length === this.#project.steps.length ? undefined : build.length;
    if (incrementalFailed !== failed) this.#failures.push({ commit: commit.id, what: `step ${(incrementalFailed ?? failed ?? 0) + 1} fails in one of the two` });
    const paths = failed === undefined ? differing(incremental, builtTree(this.#homeDir, this.#project, this.#checkout.dir)) : [];
    if (paths.length > 0) this.#differences.push({ commit, paths });
    // A second clean build tells what differs by itself.
    if (paths.length > 0 || this.#builds.length === 0) this.#twins.set(this.#builds.length, await this.#build());
    this.#builds.push(build);
  }

  report(commits: readonly Commit[], logs: SideLog[], rules: Rules): string {
    const oracle = consult(this.#project.steps.length, this.#builds, this.#twins);
    const noise = new Set(oracle.noise.flat());
    const wrong = this.#differences.map(({ commit, paths }) => ({ commit: commit.id, paths: paths.filter((path) => !noise.has(path)) })).filter(({ paths }) => paths.length > 0);
    return renderHistory({
      project: this.#project, rules: { naive: rules.naive.slice(0, this.#builds.length), ordered: rules.ordered.slice(0, this.#builds.length) }, commits: commits.slice(0, this.#builds.length), sides: logs, oracle,
      wrong: [...this.#failures, ...wrong.map(({ commit, paths }) => ({ commit, what: some(paths) }))],
    });
  }

  async #build(): Promise<CleanBuild> {
    this.#reader.forgetActions();
    await this.#hd.tryBuild();
    return this.#reader.results(uncompared(this.#project));
  }
}

function builtTree(homeDir: string, project: Project, dir: string): Tree {
  return new HomeReader(homeDir).built(envRef(envPaths(openHome({ HD_HOME: homeDir }), findProject(dir)).id, 'tree'), uncompared(project));
}

/** What is not compared, as it is called in trees: caches, the file that says which there are, and what tests leave behind under random names. */
function uncompared({ caches }: Project): string[] {
  return [...caches.map((path) => (path.startsWith('/') ? path.slice(1) : `${WORKDIR}/${path}`)), `${WORKDIR}/hd.toml`, 'tmp'];
}

function commitAt(commits: readonly Commit[], round: number): Commit {
  const commit = commits[round];
  if (commit === undefined) throw new RangeError(`there are ${commits.length - 1} commits to go through; --rounds ${round} is too many`);
  return commit;
}

function countWords(ran: readonly boolean[]): string {
  return `ran ${ran.filter(Boolean).length} of ${ran.length} steps`;
}
