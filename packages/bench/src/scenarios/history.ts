import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { envPaths, envRef, findProject, openHome } from '@hyperdocker/environment';
import type { Docker } from '../docker.ts';
import type { Hd } from '../hd.ts';
import { Checkout, lastCommits } from '../history/checkout.ts';
import type { Commit } from '../history/checkout.ts';
import type { CleanBuild } from '../history/oracle.ts';
import { consult } from '../history/oracle.ts';
import type { Project } from '../history/project.ts';
import { renderNaive, renderOrdered, renderToml } from '../history/project.ts';
import { PROJECTS } from '../history/projects.ts';
import type { SideLog, WrongResult } from '../history/report.ts';
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
  const reader = new HomeReader(workshop.hdHome);
  await fetchBase(workshop, project);
  reader.forgetActions();
  const hdCheckout = await Checkout.make(repo, workshop.tempDir(project.name), { 'hd.toml': renderToml(project) });
  const logs: SideLog[] = [{ side: 'hd', builds: [] }];
  const trees: Tree[] = [];
  const keepTree = (): void => void trees.push(builtTree(workshop, project, reader, hdCheckout.dir));
  const sides = [hdSide(workshop.hd(hdCheckout.dir), hdCheckout, project, commits, logs[0]!, keepTree)];
  const docker = await workshop.docker(project.base);
  if (docker !== undefined) {
    for (const [name, dockerfile] of [['docker, naive Dockerfile', renderNaive(project, RUN)], ['docker, well-ordered', renderOrdered(project, RUN)]] as const) {
      const checkout = await Checkout.make(repo, workshop.tempDir(project.name), { Dockerfile: dockerfile, '.dockerignore': '.git\n' });
      const log: SideLog = { side: name, builds: [] };
      logs.push(log);
      sides.push(dockerSide(docker, checkout, `bench-history-${logs.length}`, project, commits, log));
    }
  }
  return {
    sides,
    report: () => report(workshop, project, { repo, commits, logs, reader, trees }),
    [Symbol.asyncDispose]: async () => {},
  };
}

/** So that the first build has its base image, as Docker's has. */
async function fetchBase(workshop: Workshop, project: Project): Promise<void> {
  const dir = workshop.tempDir('base');
  writeFileSync(join(dir, 'hd.toml'), renderToml({ ...project, steps: [] }));
  await workshop.hd(dir).build();
}

function hdSide(hd: Hd, checkout: Checkout, project: Project, commits: readonly Commit[], log: SideLog, after: () => void): Side {
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
      after();
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
/** `trees`: of the incremental builds of `hd`, one for each commit. */
interface Walked { repo: string; commits: Commit[]; logs: SideLog[]; reader: HomeReader; trees: readonly Tree[] }

/** The oracle's answers, from a clean build of every commit. */
async function report(workshop: Workshop, project: Project, { repo, commits, logs, reader, trees }: Walked): Promise<string> {
  const checkout = await Checkout.make(repo, workshop.tempDir(project.name), { 'hd.toml': renderToml({ ...project, caches: project.downloads }) });
  const hd = workshop.hd(checkout.dir);
  const cleanBuild = async (): Promise<{ build: CleanBuild; tree: Tree }> => {
    reader.forgetActions();
    await hd.tryBuild();
    return { build: reader.results(uncompared(project)), tree: builtTree(workshop, project, reader, checkout.dir) };
  };
  const builds: CleanBuild[] = [];
  const twins = new Map<number, CleanBuild>();
  const differences: { commit: Commit; paths: string[] }[] = [];
  const wrong: WrongResult[] = [];
  for (const [index, commit] of commits.entries()) {
    workshop.say(`history.${project.name}: clean build ${index} of ${commits.length - 1}`);
    await checkout.go(commit);
    const { build, tree } = await cleanBuild();
    builds.push(build);
    const failed = build.length === project.steps.length ? undefined : build.length;
    const incremental = logs[0]?.builds[index];
    if (incremental?.failed !== failed) wrong.push({ commit: commit.id, what: `step ${(incremental?.failed ?? failed ?? 0) + 1} fails in one of the two` });
    const paths = failed === undefined ? differing(trees[index] ?? new Map(), tree) : [];
    if (paths.length > 0) differences.push({ commit, paths });
    // A second clean build tells what differs by itself.
    if (paths.length > 0 || index === 0 || index === commits.length - 1) twins.set(index, (await cleanBuild()).build);
  }
  const oracle = consult(project.steps.length, builds, twins);
  const noise = new Set(oracle.noise.flat());
  for (const { commit, paths } of differences) {
    const left = paths.filter((path) => !noise.has(path));
    if (left.length > 0) wrong.push({ commit: commit.id, what: some(left) });
  }
  return renderHistory({ project, commits, sides: logs, oracle, wrong });
}

function builtTree(workshop: Workshop, project: Project, reader: HomeReader, dir: string): Tree {
  return reader.built(envRef(envPaths(openHome({ HD_HOME: workshop.hdHome }), findProject(dir)).id, 'tree'), uncompared(project));
}

/** What is not compared, as it is called in trees: caches, and the file that says which there are. */
function uncompared({ caches }: Project): string[] {
  return [...caches.map((path) => (path.startsWith('/') ? path.slice(1) : `${WORKDIR}/${path}`)), `${WORKDIR}/hd.toml`];
}

function commitAt(commits: readonly Commit[], round: number): Commit {
  const commit = commits[round];
  if (commit === undefined) throw new RangeError(`there are ${commits.length - 1} commits to go through; --rounds ${round} is too many`);
  return commit;
}

function countWords(ran: readonly boolean[]): string {
  return `ran ${ran.filter(Boolean).length} of ${ran.length} steps`;
}
