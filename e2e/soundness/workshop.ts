import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, existsSync, linkSync, mkdirSync, writeFileSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { ActionDigest, TreeDigest } from '@hyperdocker/base';
import { HdError, assert, sys, toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import type { ActionCache, ActionResult, PathSet } from '@hyperdocker/engine';
import { encodePathSet, firstDifference, nodeLinks, openActionCache } from '@hyperdocker/engine';
import { FuseHost } from '@hyperdocker/mount';
import { loadImage } from '@hyperdocker/oci';
import type { Image } from '@hyperdocker/oci';
import { OciRuntime, findRuntime } from '@hyperdocker/sandbox';
import { parseSpec } from '@hyperdocker/spec';
import { createFilter } from '@hyperdocker/watch';
import type { Build, BuildOptions } from '../../packages/environment/src/build.ts';
import { build, layProject } from '../../packages/environment/src/build.ts';
import type { HdEvent } from '../../packages/environment/src/events.ts';
import { Ingest } from '../../packages/environment/src/ingest.ts';
import { makePlan } from '../../packages/environment/src/plan.ts';
import { WriteLease } from '../../packages/environment/src/write-lease.ts';
import { makeBusyboxRoot, writeOciDir } from '../busybox.ts';
import { ChrootRuntime } from './chroot-runtime.ts';
import type { PlainOutcome } from './plain.ts';
import { plainBuild } from './plain.ts';
import { TimelessTrees } from './trees.ts';

/** `container`: as in an environment. `chroot`: the same mounts and the same trace without the container around them, for many rounds. */
export type Executor = 'container' | 'chroot';

export interface WorkshopOptions {
  /** Everything is made in it. */
  dir: string;
  executor: Executor;
  /** How many steps a build may run at once, where its recipe does not say. */
  jobs: number;
  /** Instead of what the executor stands for. */
  runtime?: OciRuntime;
}

/** What is to be built. */
export interface Recipe {
  /** Directory of the project. */
  project: string;
  steps: readonly string[];
  workdir: string;
  /** Name of the user of the image; '' is root. */
  user: string;
  jobs?: number;
  /** Told of each event at once. */
  onStep?: (event: StepEvent) => void;
}

/** What was told of the steps of a build. */
export type StepEvent = Extract<HdEvent, { type: 'step' }>;

export type Outcome =
  | { ok: true; tree: TreeDigest; results: readonly ActionResult[]; ran: number; discarded: number; events: readonly StepEvent[] }
  /** `step`: 1-based. */
  | { ok: false; step: number; exitCode: number; log: string; ran: number; events: readonly StepEvent[] };

/** One store, one FUSE host and one container runtime, in which any number of builds run one after the other. */
export class Workshop implements AsyncDisposable {
  readonly store: Store;
  readonly trees: TimelessTrees;
  readonly #options: WorkshopOptions;
  readonly #image: Image;
  readonly #fuse: FuseHost;
  readonly #runtime: OciRuntime;
  #count = 0;

  private constructor(options: WorkshopOptions, store: Store, image: Image) {
    this.#options = options;
    this.store = store;
    this.trees = new TimelessTrees(store);
    this.#image = image;
    this.#fuse = new FuseHost();
    const root = join(options.dir, 'run');
    this.#runtime = options.runtime ?? (options.executor === 'chroot' ? new ChrootRuntime({ path: '', root }) : new OciRuntime({ path: findRuntime(), root }));
  }

  static async open(options: WorkshopOptions): Promise<Workshop> {
    // For the FUSE host, which compiles its modules for every mount.
    process.env['NODE_COMPILE_CACHE'] ??= join(options.dir, 'compiled');
    const store = openStore(join(options.dir, 'cas'), { nodeLinks });
    return new Workshop(options, store, await baseImage(store, options.dir));
  }

  /** A place with an action cache and a stat cache of its own, where builds are incremental. */
  environment(): Environment {
    return new Environment(this, join(this.#options.dir, `environment-${++this.#count}`));
  }

  async build(recipe: Recipe, ingest: Ingest, actions: ActionCache): Promise<Outcome> {
    const { dir, jobs } = this.#options;
    using lease = new WriteLease(this.store, 'soundness');
    const plan = this.#plan(recipe);
    const events: StepEvent[] = [];
    let failed: { step: number; exitCode: number; log: string } | undefined;
    const options: BuildOptions = {
      plan, projected: ingest.scan().projected, actions, lease, jobs: recipe.jobs ?? jobs, envId: 'soundness', readSecrets: () => new Map(),
      context: {
        store: this.store, storeDir: join(dir, 'cas'), fuse: this.#fuse, materializedDir: join(dir, 'materialized'), runtime: this.#runtime, stepsDir: join(dir, 'steps'),
        passthrough: { env: {}, mounts: [] }, user: plan.user, limits: {}, hostEnv: {}, signal: AbortSignal.timeout(BUILD_TIMEOUT_MS),
      },
      emit(event) {
        if (event.type === 'step') {
          events.push(event);
          recipe.onStep?.(event);
        }
        if (event.type === 'step' && event.status === 'failed') failed = { step: event.step.index, exitCode: event.exitCode, log: event.log };
      },
    };
    let built: Build;
    try {
      built = await build(options);
    } catch (error) {
      if (!(error instanceof HdError) || error.code !== 'STEP_FAILED' || failed === undefined) throw error;
      return { ok: false, ...failed, ran: events.filter(({ status }) => status === 'ran').length, events };
    }
    return { ok: true, tree: built.tree, results: built.results, ran: built.ran, discarded: built.discarded, events };
  }

  /** Undefined where the steps are to run in containers: what is compared then is what containers do. */
  async plain(recipe: Recipe): Promise<PlainOutcome | undefined> {
    if (this.#options.executor !== 'chroot') return undefined;
    const ingest = this.freshIngest(recipe);
    const plan = this.#plan(recipe);
    return await plainBuild(this.store, plan, layProject(this.store, plan, ingest.scan().projected), join(this.#options.dir, `plain-${++this.#count}`));
  }

  /** Without a memory. */
  freshIngest(recipe: Recipe): Ingest {
    return this.ingest(recipe, join(this.#options.dir, `stat-${++this.#count}`));
  }

  ingest(recipe: Recipe, statCacheFile: string): Ingest {
    const { user } = this.#plan(recipe);
    return new Ingest({ store: this.store, projectDir: recipe.project, filter: createFilter({ include: [], exclude: [] }), statCacheFile, owner: { uid: user.uid, gid: user.gid } });
  }

  #plan(recipe: Recipe): ReturnType<typeof makePlan> {
    const toml = `[environment]\nname = "soundness"\nbase = "oci:base"\nworkdir = "${recipe.workdir}"\n[build]\nsteps = [${recipe.steps.map((step) => JSON.stringify(step)).join(', ')}]\n`;
    const parsed = parseSpec(toml);
    assert(parsed.ok, `an hd.toml that is invalid: ${JSON.stringify(parsed)}\n${toml}`);
    const image = { ...this.#image, config: { ...this.#image.config, user: recipe.user } };
    return makePlan(this.store, { spec: parsed.spec, image, projectDir: recipe.project, platform: 'linux/amd64', base: 'oci:base' });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fuse.close();
    this.#runtime.close();
    this.store[Symbol.dispose]();
  }
}

/** More than any build here needs: a step that hangs is a failure, not a wait. */
const BUILD_TIMEOUT_MS = 120_000;
/** As in the action cache: with more, it may have forgotten one. */
const MAX_PATH_SETS = 16;

interface Run { input: TreeDigest; paths: PathSet; encoded: string }

/** Builds with a memory, and keeps a record of its own of what ran and what each run had looked at. */
export class Environment implements Disposable {
  readonly #workshop: Workshop;
  readonly #dir: string;
  readonly #actions: ActionCache;
  readonly #runs = new Map<ActionDigest, Run[]>();
  #ingest: Ingest | undefined;
  #needless: string[] = [];
  /** Runs whose recorded facts were compared with those before, by this record. */
  checkedRuns = 0;

  constructor(workshop: Workshop, dir: string) {
    this.#workshop = workshop;
    this.#dir = dir;
    mkdirSync(dir, { recursive: true });
    this.#actions = watched(openActionCache(join(dir, 'actions.sqlite'), workshop.store), (definition, input, { paths }) => this.#recorded(definition, input, paths));
  }

  /** @returns what came of it, and every run that nothing called for. */
  async build(recipe: Recipe): Promise<{ outcome: Outcome; needless: string[] }> {
    this.#needless = [];
    this.#ingest ??= this.#workshop.ingest(recipe, join(this.#dir, 'stat'));
    const outcome = await this.#workshop.build(recipe, this.#ingest, this.#actions);
    return { outcome, needless: this.#needless };
  }

  /** A step has run: of each run of it before, something that was looked at must be different now. */
  #recorded(definition: ActionDigest, input: TreeDigest, paths: PathSet): void {
    const runs = this.#runs.get(definition) ?? [];
    if (new Set(runs.map(({ encoded }) => encoded)).size <= MAX_PATH_SETS) {
      this.checkedRuns++;
      const same = runs.find((run) => firstDifference(this.#workshop.store, run.paths, run.input, input) === undefined);
      if (same !== undefined) this.#needless.push(`a step ran again although none of the ${same.paths.size} facts of an earlier run had changed (definition ${definition})`);
    }
    this.#runs.set(definition, [...runs, { input, paths, encoded: encodePathSet(paths).toString('latin1') }]);
  }

  [Symbol.dispose](): void {
    this.#actions[Symbol.dispose]();
  }
}

/** A build of the same project that remembers nothing: no result, and no digest of any file. The store is the same, to be fast. */
export async function cleanBuild(workshop: Workshop, recipe: Recipe): Promise<Outcome> {
  using actions = openActionCache(':memory:', workshop.store);
  const ingest = workshop.freshIngest(recipe);
  return await workshop.build(recipe, ingest, actions);
}

function watched(cache: ActionCache, onRecord: (...run: Parameters<ActionCache['record']>) => void): ActionCache {
  return new Proxy(cache, {
    get(target, property) {
      const value: unknown = Reflect.get(target, property);
      if (property !== 'record') return typeof value === 'function' ? value.bind(target) : value;
      return (...run: Parameters<ActionCache['record']>) => {
        onRecord(...run);
        target.record(...run);
      };
    },
  });
}

/** Busybox, a null device for those without a /dev of their own, and in /opt and /etc files that steps and lower layers of the image meet in. */
async function baseImage(store: Store, dir: string): Promise<Image> {
  const root = join(dir, 'base-root');
  makeBusyboxRoot(root);
  for (const path of ['dev', 'proc', 'sys', 'workspace', 'opt/base/in']) mkdirSync(join(root, path), { recursive: true });
  sys().makeNode(join(root, 'dev/null'), 0o020666, 1, 3);
  chmodSync(join(root, 'dev/null'), 0o666);
  writeFileSync(join(root, 'opt/base/k.txt'), 'base\n');
  linkSync(join(root, 'opt/base/k.txt'), join(root, 'opt/base/in/linked'));
  writeFileSync(join(root, 'etc/app.conf'), 'one\n');
  sys().setXattr(join(root, 'etc/app.conf'), toByteString('user.note'), Buffer.from('from the image'));
  for (const program of ['setfattr', 'getfattr']) addProgram(root, program);
  writeOciDir(join(dir, 'base'), { layers: [root] });
  return await loadImage(store, { kind: 'oci-dir', path: join(dir, 'base') }, { tempDir: dir });
}

/** A program of this machine with the libraries that it needs. Where it is not installed, steps that call it find nothing. */
function addProgram(root: string, name: string): void {
  const path = ['/usr/bin', '/bin'].map((bin) => join(bin, name)).find((candidate) => existsSync(candidate));
  if (path === undefined) return;
  const libraries = [...execFileSync('ldd', [path], { encoding: 'utf8' }).matchAll(/(\/\S+)/g)].map(([, library = '']) => library);
  for (const file of [path, ...libraries]) {
    mkdirSync(join(root, dirname(file)), { recursive: true });
    copyFileSync(file, join(root, file === path ? join('bin', basename(file)) : file));
  }
}
