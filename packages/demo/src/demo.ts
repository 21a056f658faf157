import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, isAbsolute, join, relative } from 'node:path';
import { HdError, describeError } from '@hyperdocker/base';
import type { Home, Project, StepInputs } from '@hyperdocker/environment';
import { exportBase, specOrThrow, stepInputs } from '@hyperdocker/environment';
import type { EnvSpec, ServiceSpec } from '@hyperdocker/spec';
import { parseSpec } from '@hyperdocker/spec';
import type { Filter } from '@hyperdocker/watch';
import { createFilter } from '@hyperdocker/watch';
import type { DockerPlan } from './dockerfiles.ts';
import { naiveDockerfile, orderedDockerfile } from './dockerfiles.ts';
import { Docker } from './docker.ts';
import { DockerSide, WatchSide } from './docker-side.ts';
import { CleanupGuard } from './guard.ts';
import type { Edit, Turn } from './hd-side.ts';
import { HdSide } from './hd-side.ts';
import { readPage, run } from './process.ts';
import type { Summary } from './stats.ts';
import { ratio, summarize } from './stats.ts';
import type { DependencyFile, ServedText } from './subject.ts';
import { dependencyFile, projectFiles, servedTexts, servingService, withMark, withRemark } from './subject.ts';

export interface DemoOptions {
  project: Project;
  /** Whose base image is used, and fetched where it is not there. Nothing else of it is touched. */
  home: Home;
  env: NodeJS.ProcessEnv;
  /** How `hd` is called. */
  hd: readonly string[];
  /** Measured ones; one more, unmeasured, goes before those of each scenario but the cold build. */
  rounds: number;
  /** `leave-out`: only our own figures. */
  docker: 'use' | 'leave-out';
  onProgress: (text: string) => void;
}

export type ScenarioName = 'cold' | 'edit' | 'dependency' | 'noop';

export interface SideReport {
  side: string;
  /** One for each round, milliseconds. */
  samplesMs: number[];
  ms: Summary;
  /** How many times hd's time it took, and the spread of that over the rounds. */
  timesHd: Summary;
  /** Of the last round. For Docker: RUN instructions. */
  ran: number;
  steps: number;
}

export interface ScenarioReport { name: ScenarioName; title: string; what: string; sides: SideReport[] }

/** What a side keeps on the disk: the base image, and what the first build and all edits after it have added. */
export interface DiskReport { side: string; baseBytes: number; addedBytes: number }

export interface DemoReport {
  environment: string;
  base: string;
  rounds: number;
  /** Null: there was none to compare with; `dockerAbsent` says why. */
  dockerVersion: string | null;
  dockerAbsent: string | null;
  service: string;
  edited: { file: string; phrase: string };
  /** Null: no step reads a file of the project. */
  dependency: string | null;
  scenarios: ScenarioReport[];
  disk: DiskReport[];
  notes: string[];
}

interface Side { name: string; turns: Partial<Record<ScenarioName, (round: number) => Promise<Turn>>> }

const TRIALS = 8;
const TRIAL_TIMEOUT_MS = 15_000;
const TEMPLATE = 'template';

/**
 * `hd` and Docker beside each other on copies of a project, each measured to an answer that shows the new code. The project itself is only read: nothing has to be put
 * back, whatever ends this process.
 * @throws HdError DEMO_NO_SERVICE, DEMO_NOTHING_SHOWN, DEMO_BUILD_FAILED, COMMAND_FAILED
 */
export async function runDemo(options: DemoOptions): Promise<DemoReport> {
  const { spec } = specOrThrow(options.project);
  // Nothing of hd's stays behind the demo.
  const env = { ...options.env, HD_LINGER_SECONDS: '0' };
  const service = servingService(spec);
  const dir = realpathSync(mkdtempSync(join(tmpdir(), 'hd-demo-')));
  const found = options.docker === 'leave-out' ? { ok: false as const, why: 'it was asked to be left out' } : await Docker.attach(options.env);
  const label = `hd-demo=${randomBytes(6).toString('hex')}`;
  const homesDir = join(dir, 'homes');
  const projectDir = join(dir, 'hd', options.project.dir.split('/').at(-1) ?? 'project');
  await using _guard = new CleanupGuard({ dir, homesDir, projectDir, hd: options.hd, ...(found.ok ? { docker: { label, env: found.docker.environment } } : {}) });
  const archive = await prepareBase({ ...options, env }, spec, dir, loadedName(label));
  const filter = createFilter({ include: spec.files.include, exclude: spec.files.exclude });
  copyProject(options.project.dir, projectDir, spec, filter, archive);
  const hd = new HdSide({ hd: options.hd, projectDir, homesDir, env, service: service.name, port: service.port }, TEMPLATE);
  options.onProgress('hd: the first build');
  await hd.inFreshHome(TEMPLATE, 'first');
  await hd.up('');
  const served = await findServed(hd, projectDir, projectFiles(projectDir, filter), service);
  const plan = stepInputs(hd.place);
  const dependency = dependencyFile(projectDir, plan.steps.flatMap(({ reads }) => reads), served.file);
  const demo = new Demo(options, { spec, service, dir, projectDir, label, archive, filter, hd, served, dependency, plan });
  return await demo.run(found);
}

interface Stage {
  spec: EnvSpec;
  service: ServiceSpec & { port: number };
  dir: string;
  projectDir: string;
  label: string;
  archive: string;
  filter: Filter;
  hd: HdSide;
  served: ServedText;
  dependency: DependencyFile | undefined;
  plan: { workdir: string; steps: StepInputs[] };
}

/** The rounds, once everything is there. */
class Demo {
  readonly #options: DemoOptions;
  readonly #stage: Stage;
  readonly #disk = new Map<string, DiskReport>();
  /** In every edit: what an earlier demo has left in a cache must not answer for this one. */
  readonly #run = Date.now().toString(36);

  constructor(options: DemoOptions, stage: Stage) {
    this.#options = options;
    this.#stage = stage;
  }

  async run(found: { ok: true; docker: Docker } | { ok: false; why: string }): Promise<DemoReport> {
    const { spec, service, served, dependency, hd, dir } = this.#stage;
    const { rounds } = this.#options;
    const opened = found.ok ? await this.#openDocker(found.docker) : { sides: [], why: found.why };
    const sides = [this.#hdSide(), ...opened.sides];
    const templateBytes = await diskUse(join(dir, 'homes', TEMPLATE));
    const measured = new Map<ScenarioName, SideReport[]>();
    // The cold builds last: what they leave on the disk is not what a day of edits leaves.
    for (const name of ['noop', 'edit', 'dependency', 'cold'] as const) {
      if (name === 'dependency' && dependency === undefined) continue;
      if (name === 'cold') this.#disk.set('hd', { side: 'hd', baseBytes: templateBytes, addedBytes: (await diskUse(hd.homeDir)) - templateBytes });
      measured.set(name, await this.#measure(name, sides));
    }
    return {
      environment: spec.environment.name, base: spec.environment.base, rounds, service: service.name,
      dockerVersion: opened.sides.length > 0 && found.ok ? await found.docker.version() : null, dockerAbsent: opened.why ?? null,
      edited: { file: served.file, phrase: served.phrase }, dependency: dependency?.file ?? null,
      scenarios: SCENARIOS.flatMap(({ name, title, what }) => (measured.has(name) ? [{ name, title, what, sides: measured.get(name) ?? [] }] : [])),
      disk: [...this.#disk.values()].sort((a, b) => Number(b.side === 'hd') - Number(a.side === 'hd')),
      notes: opened.sides.length > 0 ? NOTES : [],
    };
  }

  async #measure(name: ScenarioName, sides: readonly Side[]): Promise<SideReport[]> {
    const { rounds, onProgress } = this.#options;
    const taking = sides.flatMap(({ name: side, turns }) => (turns[name] === undefined ? [] : [{ side, turn: turns[name], done: [] as Turn[] }]));
    const first = name === 'cold' ? 1 : 0;
    for (let round = first; round <= rounds; round++) {
      // Who goes first changes: nobody always has what another one left in the caches of the machine.
      for (const { side, turn, done } of round % 2 === 0 ? taking : taking.toReversed()) {
        onProgress(`${TITLES[name]}, ${round === 0 ? 'unmeasured round' : `round ${round} of ${rounds}`}: ${side}`);
        const taken = await turn(round);
        if (round > 0) done.push(taken);
      }
    }
    const ours = taking[0]?.done.map(({ ms }) => ms) ?? [];
    return taking.map(({ side, done }) => {
      const samplesMs = done.map(({ ms }) => ms);
      return { side, samplesMs, ms: summarize(samplesMs), timesHd: ratio(samplesMs, ours), ran: done.at(-1)?.ran ?? 0, steps: done.at(-1)?.steps ?? 0 };
    });
  }

  #hdSide(): Side {
    const { hd, served } = this.#stage;
    return {
      name: 'hd',
      turns: {
        cold: async (round) => {
          await hd.inFreshHome(TEMPLATE, `cold-${round}`);
          return hd.up(served.phrase);
        },
        noop: () => hd.up(served.phrase),
        edit: async (round) => {
          await hd.ready(served.phrase);
          return hd.edit(this.#sourceEdit(round));
        },
        dependency: async (round) => {
          await hd.ready(served.phrase);
          return hd.edit(this.#dependencyEdit(round));
        },
      },
    };
  }

  #sourceEdit(round: number): Edit {
    const { served } = this.#stage;
    const mark = `${this.#run}-edit-${round}.`;
    return { files: { [served.file]: withMark(served, mark) }, shows: mark };
  }

  /** A line of the source with it, as one that uses the new package would be: that the page shows it tells that all is in use. */
  #dependencyEdit(round: number): Edit {
    const { served, dependency } = this.#stage;
    const mark = `${this.#run}-install-${round}.`;
    return { files: { ...(dependency === undefined ? {} : { [dependency.file]: withRemark(dependency, `hd demo ${mark}`) }), [served.file]: withMark(served, mark) }, shows: mark };
  }

  /** Docker's sides, with everything built once; none, and why, where they cannot be had. */
  async #openDocker(docker: Docker): Promise<{ sides: Side[]; why?: string }> {
    const { label, archive, plan, served, service, spec } = this.#stage;
    const why = beyondDocker(spec, service, plan.steps);
    if (why !== undefined) return { sides: [], why };
    try {
      const startBytes = await docker.diskBytes();
      this.#options.onProgress('Docker: the base image, and the first build of each Dockerfile');
      const from = `hd-demo-base:${idOf(label)}`;
      await docker.loadBase(archive, loadedName(label), from, label);
      const baseBytes = ((await docker.diskBytes()) ?? 0) - (startBytes ?? 0);
      const dockerPlan: DockerPlan = { from, workdir: plan.workdir, steps: plan.steps, service };
      const naive = this.#dockerSide(docker, 'naive', 'Docker, naive Dockerfile', () => naiveDockerfile(dockerPlan));
      const ordered = this.#dockerSide(docker, 'ordered', 'Docker, well-ordered', (round) => orderedDockerfile(dockerPlan, `hd-demo-${this.#run}-${round}`));
      const watch = new WatchSide(ordered.options);
      const metered = (side: string, turn: () => Promise<Turn>): Promise<Turn> => this.#metered(docker, side, baseBytes, turn);
      for (const { side } of [naive, ordered]) await metered(side.name, () => side.noop(served.phrase));
      const sides: Side[] = [naive, ordered].map(({ side }) => ({
        name: side.name,
        turns: {
          cold: (round) => side.cold(served.phrase, round),
          noop: () => metered(side.name, () => side.noop(served.phrase)),
          edit: (round) => metered(side.name, () => side.edit(this.#sourceEdit(round), served.phrase)),
          dependency: (round) => metered(side.name, () => side.edit(this.#dependencyEdit(round), served.phrase)),
        },
      }));
      return { sides: [...sides, { name: watch.name, turns: { edit: (round) => metered(ordered.side.name, () => watch.edit(this.#sourceEdit(round), served.phrase)) } }] };
    } catch (error) {
      return { sides: [], why: describeError(error) };
    }
  }

  #dockerSide(docker: Docker, kind: string, name: string, dockerfile: (round: number) => string): { side: DockerSide; options: ConstructorParameters<typeof DockerSide>[0] } {
    const { dir, label, archive, spec, filter, service, plan } = this.#stage;
    const projectDir = join(dir, kind);
    copyProject(this.#options.project.dir, projectDir, spec, filter, archive);
    const options = { docker, name, tag: `hd-demo-${idOf(label)}-${kind}`, label, projectDir, dockerfilePath: join(dir, `Dockerfile.${kind}`), dockerfile, port: service.port, env: {}, workdir: plan.workdir };
    return { side: new DockerSide(options), options };
  }

  /** Counts what it leaves on the disk. */
  async #metered(docker: Docker, side: string, baseBytes: number, turn: () => Promise<Turn>): Promise<Turn> {
    const before = await docker.diskBytes();
    const taken = await turn();
    const after = await docker.diskBytes();
    if (before !== undefined && after !== undefined) {
      const { addedBytes = 0 } = this.#disk.get(side) ?? {};
      this.#disk.set(side, { side, baseBytes, addedBytes: addedBytes + after - before });
    }
    return taken;
  }
}

const SCENARIOS: { name: ScenarioName; title: string; what: string }[] = [
  { name: 'cold', title: 'Cold build', what: 'only the base image is there: until the first response' },
  { name: 'edit', title: 'One-file edit', what: 'another content each time: from the write until a response shows it' },
  { name: 'dependency', title: 'Dependency edit', what: 'a file that a build step reads, and a line of the source with it: until a response shows it' },
  { name: 'noop', title: 'No-op', what: 'all is built and nothing is up: until the first response' },
];
const TITLES = Object.fromEntries(SCENARIOS.map(({ name, title }) => [name, title])) as Record<ScenarioName, string>;

const NOTES = [
  'All sides stand on the same base image, and every time includes the start of the command: hd up -d; docker build, docker rm -f and docker run -d.',
  'The naive Dockerfile copies all sources first. The well-ordered one copies before each step only what hd saw it read, and keeps downloads in cache mounts.',
  'compose watch: what its sync+restart does, by docker cp and docker restart; its wait of half a second for further changes is not counted. A dependency edit is a rebuild for it, as with the well-ordered Dockerfile.',
  'Containers have --init and the network of the host, the fastest that Docker has.',
];

/** What keeps Docker from running the project as it is. */
function beyondDocker(spec: EnvSpec, service: ServiceSpec, steps: readonly StepInputs[]): string | undefined {
  if (steps.some(({ secrets }) => secrets)) return 'the build steps use secrets';
  if (spec.environment.network === 'host') return 'the project is in the network of the host, where only one side could be up at a time';
  if (service.dependsOn.length > 0) return `${service.name} depends on other services: that takes compose`;
  if (service.privileged) return `${service.name} is privileged`;
  return undefined;
}

function idOf(label: string): string {
  return label.slice(label.indexOf('=') + 1);
}

/** What the image in the archive is called. */
function loadedName(label: string): string {
  return `hd-demo-base:${idOf(label)}-loaded`;
}

/** The base image as an archive, and a home that has it. */
async function prepareBase({ home, project, hd, env, onProgress }: DemoOptions, spec: EnvSpec, dir: string, name: string): Promise<string> {
  const archive = join(dir, 'base.tar');
  onProgress(`the base image, ${spec.environment.base}`);
  await exportBase(home, {
    base: spec.environment.base, projectDir: project.dir, file: archive, name,
    emit: (event) => {
      if (event.type === 'image' && event.detail !== undefined) onProgress(`the base image: ${event.detail}`);
    },
  });
  const empty = join(dir, 'empty');
  mkdirSync(empty);
  mkdirSync(join(dir, 'homes'));
  writeFileSync(join(empty, 'hd.toml'), `[environment]\nname = "base"\nbase = ${JSON.stringify(`docker-archive:${archive}`)}\n`);
  const [program = '', ...args] = hd;
  await run(program, [...args, 'build'], { cwd: empty, env: { ...env, HD_HOME: join(dir, 'homes', TEMPLATE) } });
  return archive;
}

/** What belongs to the environment, and what its hd.toml names beside that; on the base image of the archive. */
function copyProject(from: string, to: string, spec: EnvSpec, filter: Filter, archive: string): void {
  mkdirSync(to, { recursive: true });
  cpSync(from, to, {
    recursive: true, verbatimSymlinks: true,
    filter: (source) => {
      const path = relative(from, source);
      return path === '' || (statSync(source, { throwIfNoEntry: false })?.isDirectory() === true ? filter.mayContain(path) : filter.decide(path, false).included);
    },
  });
  const named = [...spec.services.flatMap(({ envFiles }) => envFiles), ...spec.secrets.flatMap((secret) => (secret.kind === 'file' ? [secret.file] : []))];
  for (const file of named.filter((path) => !isAbsolute(path) && !path.startsWith('~') && existsSync(join(from, path)))) {
    mkdirSync(dirname(join(to, file)), { recursive: true });
    cpSync(join(from, file), join(to, file));
  }
  writeFileSync(join(to, 'hd.toml'), withBase(readFileSync(join(from, 'hd.toml'), 'utf8'), `docker-archive:${archive}`));
}

/** @throws HdError DEMO_BASE where `base` is written in a way that is not recognised */
function withBase(toml: string, base: string): string {
  const changed = toml.replace(/^(\s*base\s*=\s*)("(?:[^"\\]|\\.)*"|'[^']*')/m, (_, key: string) => `${key}${JSON.stringify(base)}`);
  const parsed = parseSpec(changed);
  if (parsed.ok && parsed.spec.environment.base === base) return changed;
  throw new HdError('DEMO_BASE', 'the demo cannot put its base image into hd.toml', { hint: 'write it as `base = "…"` on a line of its own in [environment]' });
}

/** The text that is going to be edited: one that has been seen to show. @throws HdError DEMO_NOTHING_SHOWN */
async function findServed(hd: HdSide, projectDir: string, files: readonly string[], service: ServiceSpec): Promise<ServedText> {
  const page = (await readPage({ port: hd.port })) ?? '';
  const candidates = servedTexts(projectDir, files, service, page).slice(0, TRIALS);
  for (const [index, candidate] of candidates.entries()) {
    try {
      await hd.edit({ files: { [candidate.file]: withMark(candidate, `trial-${index}.`) }, shows: `trial-${index}.` }, { timeoutMs: TRIAL_TIMEOUT_MS });
      return candidate;
    } catch (error) {
      if (!(error instanceof HdError)) throw error;
    } finally {
      await hd.edit({ files: { [candidate.file]: candidate.text }, shows: '' });
    }
  }
  throw new HdError('DEMO_NOTHING_SHOWN', `no file that ${service.name} watches has a text that its page at / shows`, { hint: 'the demo edits a text and waits for it on the page: let the page say something that stands in the source' });
}

/** Of a directory, as `du` has it. */
async function diskUse(dir: string): Promise<number> {
  return Number((await run('du', ['--summarize', '--block-size=1', dir])).split('\t')[0]);
}
