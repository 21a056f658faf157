import type { NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import { putEnv } from '@hyperdocker/engine';
import type { OciRuntime } from '@hyperdocker/sandbox';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Batch, Filter } from '@hyperdocker/watch';
import type { Build, BuildOptions } from './build.ts';
import { build } from './build.ts';
import type { StepRecord } from './build-record.ts';
import { readBuildRecord, unreached, writeBuildRecord } from './build-record.ts';
import { builtEvent } from './change-events.ts';
import type { Emit } from './events.ts';
import type { EnvPaths, Home, Project } from './home.ts';
import { envRef } from './home.ts';
import { imageRefOf, resolveImage } from './images.ts';
import type { Ingested } from './ingest.ts';
import { Ingest } from './ingest.ts';
import { noteUse } from './known-environments.ts';
import { limitWarnings } from './machine-warnings.ts';
import type { Passthrough } from './passthrough.ts';
import type { Plan } from './plan.ts';
import { makePlan } from './plan.ts';
import { HOST_PLATFORM } from './platform.ts';
import { projectFilter } from './project-filter.ts';
import { readSecrets } from './secrets.ts';
import type { Session } from './session.ts';
import type { SpecText } from './spec-text.ts';
import type { Projector, StepContext } from './step-runner.ts';
import { TreePin } from './tree-pin.ts';
import { WriteLease } from './write-lease.ts';

/** What serves files to steps. */
export interface ServedFiles {
  projector(store: Store): Projector;
  /** Ends what runs on files that nobody serves any more: as it is when a build begins. */
  readonly signal: AbortSignal;
}

export interface EnvironmentBuildsOptions {
  store: Store;
  actions: ActionCache;
  runtime: OciRuntime;
  files: ServedFiles;
  home: Home;
  project: Project;
  paths: EnvPaths;
  hostEnv: NodeJS.ProcessEnv;
  passthrough: Passthrough;
  refreshImage: boolean;
  emit: Emit;
  /** Ends what is under way. */
  signal: AbortSignal;
}

/** From an environment's specification and files to its root: plan, ingest, build, commit. */
export class EnvironmentBuilds implements Disposable {
  readonly #options: EnvironmentBuildsOptions;
  readonly #imagePin: TreePin;

  constructor(options: EnvironmentBuildsOptions) {
    this.#options = options;
    this.#imagePin = new TreePin(options.store, `the image of ${options.paths.id}`);
  }

  /** Lets go of the image. */
  [Symbol.dispose](): void {
    this.#imagePin[Symbol.dispose]();
  }

  /** Everything up to a root that is the environment's, and tells of it. What runs is not touched. @throws those of its parts */
  async make({ text, spec }: SpecText, { noCache }: Required<Pick<BuildOptions, 'noCache'>>): Promise<Session> {
    const { store, home, project, hostEnv, paths, emit } = this.#options;
    const started = performance.now();
    using lease = new WriteLease(store, `the build of ${paths.id}`);
    const plan = await this.plan(spec, lease);
    for (const warning of limitWarnings(spec)) emit(warning);
    const filter = projectFilter({ home, project, env: hostEnv }, spec);
    const ingest = this.intake(filter, plan);
    const ingested = this.ingest(ingest, 'rescan');
    const built = await this.build(plan, ingested, lease, { noCache });
    const previous = this.committedSource();
    const root = this.commit(plan, ingested, built);
    const session = { spec, text, madeBy: text, plan, filter, ingest, ingested, build: built, root };
    emit(builtEvent(store, session, { previous, ms: performance.now() - started }));
    return session;
  }

  /** Its base image is there, and stays. @throws those of resolveImage and makePlan */
  async plan(spec: EnvSpec, lease: WriteLease): Promise<Plan> {
    const { store, home, project, paths, refreshImage, emit, signal } = this.#options;
    const { base } = spec.environment;
    const image = await resolveImage(base, { home, store, lease, projectDir: project.dir, platform: HOST_PLATFORM, refresh: refreshImage, emit, signal });
    this.#imagePin.hold(image.tree);
    noteUse(paths, { project: project.dir, image: imageRefOf(base, { projectDir: project.dir, platform: HOST_PLATFORM }) });
    return makePlan(store, { spec, image, projectDir: project.dir, platform: HOST_PLATFORM, base });
  }

  /** What takes in the files that the filter leaves. */
  intake(filter: Filter, { owner }: Plan): Ingest {
    const { store, home, project, paths } = this.#options;
    return new Ingest({ store, storeDir: home.storeDir, projectDir: project.dir, filter, statCacheFile: paths.statCache, owner });
  }

  /** What the stat cache speaks of stays in the store, also where the build that follows fails. */
  ingest(intake: Ingest, batch: Batch): Ingested {
    const { store, paths } = this.#options;
    const ingested = batch === 'rescan' ? intake.scan() : intake.update(batch);
    for (const [name, digest] of [['scanned', ingested.source], ['projected', ingested.projected]] as const) {
      const ref = envRef(paths.id, name);
      if (store.getRef(ref)?.target.digest !== digest) store.setRef(ref, { kind: 'tree', digest });
    }
    return ingested;
  }

  /** @throws those of `build` */
  async build(plan: Plan, { projected }: Ingested, lease: WriteLease, options: Pick<BuildOptions, 'onFirstRun' | 'noCache'> = {}): Promise<Build> {
    const { actions, project, hostEnv, paths: { id, buildRecord }, emit } = this.#options;
    const { jobs } = plan.spec.build;
    const previous = readBuildRecord(buildRecord);
    const steps: StepRecord[] = [];
    try {
      return await build({
        plan, projected, context: this.#context(plan), actions, lease, envId: id, previous, emit,
        readSecrets: (uses) => readSecrets(plan.spec.secrets, uses, { env: hostEnv, projectDir: project.dir }),
        onStep: (step) => void steps.push(step),
        ...(jobs === undefined ? {} : { jobs }), ...options,
      });
    } finally {
      // Of a build that failed too: what it ran, and why, is asked for then most of all.
      writeBuildRecord(buildRecord, plan.workdir, [...steps, ...unreached(plan.steps, steps.length, previous)]);
    }
  }

  /** The project's files in the last build that was committed, maybe of another supervisor. */
  committedSource(): TreeDigest | undefined {
    return this.#options.store.getRef(envRef(this.#options.paths.id, 'source'))?.target.digest as TreeDigest | undefined;
  }

  /** Moves the refs: the only point at which a build becomes the environment's. */
  commit(plan: Plan, { source }: Ingested, { tree }: Build): NodeDigest {
    const { store, paths: { id } } = this.#options;
    const root = putEnv(store, { name: plan.spec.environment.name, packages: plan.packages, files: source, steps: plan.steps.map((step) => step.definition) });
    const old = store.getRef(envRef(id, 'root'))?.target;
    // Not for the same root once more: what changed last stays to be seen.
    if (old !== undefined && old.digest !== root) store.setRef(envRef(id, 'previous'), old);
    store.setRef(envRef(id, 'tree'), { kind: 'tree', digest: tree });
    store.setRef(envRef(id, 'source'), { kind: 'tree', digest: source });
    store.setRef(envRef(id, 'root'), { kind: 'node', digest: root });
    return root;
  }

  #context({ user, spec }: Plan): StepContext {
    const { store, files, hostEnv, runtime, paths: { stepsDir, containerPrefix }, passthrough, signal } = this.#options;
    return { ...files.projector(store), hostEnv, runtime, stepsDir, containerPrefix, passthrough, user, limits: spec.build.limits, signal: AbortSignal.any([signal, files.signal]) };
  }
}
