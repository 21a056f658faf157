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
import type { SideLog } from '../history/report.ts';
import { renderHistory } from '../history/report.ts';
import { HomeReader, OUTPUT, differing } from '../history/results.ts';
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
  open: (workshop) => walk(workshop, project),
}));

async function walk(workshop: Workshop, project: Project): Promise<Race> {
  const repo = workshop.repo(project.name) ?? '';
  const commits = await lastCommits(repo, EDITS + 1);
  const reader = new HomeReader(workshop.hdHome);
  await fetchBase(workshop, project);
  reader.forgetActions();
  const hdCheckout = await Checkout.make(repo, workshop.tempDir(project.name), { 'hd.toml': renderToml(project) });
  const logs: SideLog[] = [{ side: 'hd', builds: [] }];
  const sides = [hdSide(workshop.hd(hdCheckout.dir), hdCheckout, project, commits, logs[0]!)];
  const docker = await workshop.docker(project.base);
  if (docker !== undefined) {
    for (const [name, dockerfile] of [['docker, naive Dockerfile', renderNaive(project, RUN)], ['docker, well-ordered', renderOrdered(project, RUN)]] as const) {
      const checkout = await Checkout.make(repo, workshop.tempDir(project.name), { Dockerfile: dockerfile, '.dockerignore': '.git\n' });
      const log: SideLog = { side: name, builds: [] };
      logs.push(log);
      sides.push(dockerSide(docker, checkout, `bench-history-${logs.length}`, commits, log));
    }
  }
  return {
    sides,
    report: () => report(workshop, project, { repo, commits: commits.slice(0, logs[0]!.builds.length), logs, reader, incremental: hdCheckout.dir }),
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
      const events = await hd.build();
      const ms = performance.now() - startedMs;
      const ran = project.steps.map(() => false);
      const reasons = project.steps.map(() => '');
      for (const event of events) {
        if (event.type !== 'step') continue;
        if (event.status === 'ran') ran[event.step.index - 1] = true;
        if (event.status === 'running') reasons[event.step.index - 1] = event.reason;
      }
      log.builds.push({ ms, ran, reasons });
      return { ms, work: countWords(ran) };
    },
  };
}

function dockerSide(docker: Docker, checkout: Checkout, tag: string, commits: readonly Commit[], log: SideLog): Side {
  return {
    name: log.side,
    run: async (round) => {
      await checkout.go(commitAt(commits, round));
      const startedMs = performance.now();
      const { commands } = await docker.build(checkout.dir, tag);
      const ms = performance.now() - startedMs;
      log.builds.push({ ms, ran: commands });
      return { ms, work: countWords(commands) };
    },
  };
}

interface Walked { repo: string; commits: Commit[]; logs: SideLog[]; reader: HomeReader; /** The directory of the incremental builds. */ incremental: string }

/** The oracle's answers, from a clean build of every commit. */
async function report(workshop: Workshop, project: Project, { repo, commits, logs, reader, incremental }: Walked): Promise<string> {
  const checkout = await Checkout.make(repo, workshop.tempDir(project.name), { 'hd.toml': renderToml(project) });
  const hd = workshop.hd(checkout.dir);
  const caches = project.caches.map((path) => (path.startsWith('/') ? path.slice(1) : `${WORKDIR}/${path}`));
  const cleanBuild = async (): Promise<CleanBuild> => {
    reader.forgetActions();
    await hd.build();
    return reader.results(caches);
  };
  const builds: CleanBuild[] = [];
  const twins = new Map<number, CleanBuild>();
  for (const [index, commit] of commits.entries()) {
    workshop.say(`history.${project.name}: clean build ${index} of ${commits.length - 1}`);
    await checkout.go(commit);
    builds.push(await cleanBuild());
    if (index === 0 || index === commits.length - 1) twins.set(index, await cleanBuild());
  }
  const oracle = consult(builds, twins);
  const noise = new Set(oracle.noise.flat());
  const built = (dir: string): ReadonlyMap<string, string> => reader.built(envRef(envPaths(openHome({ HD_HOME: workshop.hdHome }), findProject(dir)).id, 'tree'), caches);
  const wrong = differing(built(incremental), built(checkout.dir)).filter((path) => path !== OUTPUT && !noise.has(path));
  return renderHistory({ project, commits, sides: logs, oracle, wrong });
}

function commitAt(commits: readonly Commit[], round: number): Commit {
  const commit = commits[round];
  if (commit === undefined) throw new RangeError(`there are ${commits.length - 1} commits to go through; --rounds ${round} is too many`);
  return commit;
}

function countWords(ran: readonly boolean[]): string {
  return `ran ${ran.filter(Boolean).length} of ${ran.length} steps`;
}
