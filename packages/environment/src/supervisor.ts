import { mkdirSync, rmSync } from 'node:fs';
import { basename } from 'node:path';
import type { ByteString, NodeDigest, TreeDigest } from '@hyperdocker/base';
import { HdError, describeError, inUserNamespace, sha256Hex, toText } from '@hyperdocker/base';
import type { Store, TreeChange } from '@hyperdocker/cas';
import { diffTrees, lookupPath, openStore } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import { nodeLinks, openActionCache, putEnv } from '@hyperdocker/engine';
import type { FuseHostOptions } from '@hyperdocker/mount';
import { FuseHost, detachBelow, fuseProblem } from '@hyperdocker/mount';
import type { ContainerSpec } from '@hyperdocker/sandbox';
import { OciRuntime, cgroupMode, findRuntime, limitsWithoutEffect, mountTargets } from '@hyperdocker/sandbox';
import type { EnvSpec, ServiceSpec } from '@hyperdocker/spec';
import type { Batch, Filter, TreeWatcher } from '@hyperdocker/watch';
import { watchTree } from '@hyperdocker/watch';
import type { ChangedPath, DetachedReply, ExecReply, ExecRequest, Phase, PullReply, PullRequest, PulledFile, ResetReply, StatusReply } from './api.ts';
import { build } from './build.ts';
import type { LaunchOptions } from './client.ts';
import type { Build, BuildOptions } from './build.ts';
import type { StepRecord } from './build-record.ts';
import { readBuildRecord, unreached, writeBuildRecord } from './build-record.ts';
import { applyEdits } from './edits.ts';
import type { EnvironmentNetwork } from './environment-network.ts';
import { openNetwork } from './environment-network.ts';
import { EventLog } from './event-log.ts';
import type { ExecSurroundings } from './execs.ts';
import { EXEC, Execs } from './execs.ts';
import type { ChangeSummary, FileChange, HdEvent } from './events.ts';
import { envRef } from './home.ts';
import { imageRefOf, resolveImage } from './images.ts';
import type { Ingested } from './ingest.ts';
import { Ingest } from './ingest.ts';
import { noteUse } from './known-environments.ts';
import { RootKeeper, leftToUs } from './left-root.ts';
import type { LiveRecord } from './live-record.ts';
import { specDigest } from './spec-digest.ts';
import type { Clash, LiveRootOptions } from './live-root.ts';
import { LIVE_MOUNT, LiveRoot } from './live-root.ts';
import type { Passthrough } from './passthrough.ts';
import { hostPassthrough } from './passthrough.ts';
import type { Plan } from './plan.ts';
import { HOST_PLATFORM, makePlan, userOf } from './plan.ts';
import { projectFilter } from './project-filter.ts';
import { pullEvents } from './pull-events.ts';
import { endContainers } from './recover.ts';
import { registryConfig } from './registries.ts';
import type { SecretHost } from './secrets.ts';
import { readSecrets } from './secrets.ts';
import { requireServices } from './service-names.ts';
import { ServiceSet } from './service-set.ts';
import type { SpecText } from './spec-file.ts';
import type { StepContext } from './step-runner.ts';
import { exitUnlessAborted, inTree } from './step-runner.ts';
import { StoreLimit } from './store-limit.ts';
import { SyncBack } from './sync-back.ts';
import { TreePin } from './tree-pin.ts';
import type { VolumeHost } from './volumes.ts';
import { allMounts, serviceMounts } from './volumes.ts';
import { WriteLease } from './write-lease.ts';

/** A process that serves files and dies so often will do so again. */
const MAX_DEATHS = 3;
const DEATHS_WITHIN_MS = 300_000;

export interface SupervisorOptions extends LaunchOptions {
  hostEnv: NodeJS.ProcessEnv;
}

const MAX_TOLD = 1_000;

/** All that a spec gives rise to, until the next spec. */
interface Session {
  spec: EnvSpec;
  /** Of hd.toml, as it was last seen. */
  text: string;
  /** The last one that says what the environment is. */
  madeBy: string;
  plan: Plan;
  filter: Filter;
  ingest: Ingest;
  ingested: Ingested;
  /** What the live root shows of the project, where that is ahead of `ingested`. */
  first?: TreeDigest | undefined;
  build: Build;
  root: NodeDigest;
  network?: EnvironmentNetwork;
  live?: LiveRoot;
  syncBack?: SyncBack;
  services?: ServiceSet;
}

/**
 * One environment, from `up` to `down`:
 *
 *   building ──ok──▶ up ◀─┐ edits: ingest, build what they call for, write through, restart
 *      │             │ └──┘
 *      └─▶ failed    ├── hd.toml changed: stop, then building again
 *                    ▼
 *                 stopping ──▶ (the process ends)
 *
 * Everything that changes the environment runs in one queue, one job at a time.
 */
export class Supervisor {
  readonly log = new EventLog();
  readonly #options: SupervisorOptions;
  readonly #store: Store;
  readonly #actions: ActionCache;
  readonly #imagePin: TreePin;
  /** The mounted root. */
  readonly #livePin: TreePin;
  /** What the mounted root was brought to, where no build has come to that. */
  readonly #shownPin: TreePin;
  readonly #runtime: OciRuntime;
  readonly #runtimePath: string;
  readonly #passthrough: Passthrough;
  readonly #abort = new AbortController();
  readonly #limit: StoreLimit;
  readonly #execs: Execs;
  readonly #keeper: RootKeeper;
  /** Files of a supervisor before, until they are adopted or given up. */
  #left: LiveRecord | undefined;
  #fuse: FuseHost | undefined;
  /** Ends what runs on files that nobody serves any more. */
  #files = new AbortController();
  readonly #hostDeathsMs: number[] = [];
  readonly #told = new Set<string>();
  #mending: Promise<void> | undefined;
  #phase: Phase = 'building';
  #session: Session | undefined;
  #watcher: TreeWatcher | undefined;
  #queue: Promise<void> = Promise.resolve();
  #ending: Promise<void> | undefined;

  /** @throws HdError RUNTIME_NOT_FOUND, and those of opening the store */
  constructor(options: SupervisorOptions) {
    this.#options = options;
    const { home, paths } = options;
    for (const dir of [paths.stepsDir, paths.logsDir, paths.runtimeRoot, paths.bundlesDir]) mkdirSync(dir, { recursive: true, mode: 0o700 });
    this.#left = options.buildOnly ? undefined : leftToUs(paths);
    // Its process takes as long to start as everything up to a build that has nothing to do: both at once.
    if (this.#left === undefined) this.#startFuse();
    this.#runtimePath = findRuntime({ configured: options.hostEnv['HD_RUNTIME'] });
    this.#store = openStore(home.storeDir, { nodeLinks });
    [this.#imagePin, this.#livePin, this.#shownPin] = ['the image of', 'the root of', 'edits in'].map((what) => new TreePin(this.#store, `${what} ${paths.id}`)) as [TreePin, TreePin, TreePin];
    this.#actions = openActionCache(home.actionsFile, this.#store);
    this.#runtime = new OciRuntime({ path: this.#runtimePath, root: paths.runtimeRoot });
    this.#execs = new Execs({ runtime: this.#runtime, runtimePath: this.#runtimePath, runtimeRoot: paths.runtimeRoot, bundlesDir: paths.bundlesDir, containerId: (what) => this.#containerId(what) });
    this.#passthrough = hostPassthrough(options.hostEnv);
    this.#keeper = new RootKeeper({ store: this.#store, home, paths, env: options.hostEnv });
    this.#limit = new StoreLimit({ home, env: options.hostEnv, emit: (event) => this.#emit(event), signal: this.#abort.signal });
  }

  get runtimePath(): string {
    return this.#runtimePath;
  }

  /** Builds and starts everything. Emits `failed` and throws when it cannot. */
  async up(): Promise<void> {
    const started = performance.now();
    await this.#enqueue(async () => {
      let network: Promise<EnvironmentNetwork> | undefined;
      try {
        await this.#adoptHost();
        const { file } = this.#options;
        // It takes a while to come up, and the build does not need it.
        if (!this.#options.buildOnly) network = this.#openNetwork(file.spec);
        this.#session = await this.#makeSession(file);
        if (network !== undefined) await this.#prepare(this.#session, network);
      } catch (error) {
        if (this.#session?.network === undefined) await network?.then((opened) => opened[Symbol.asyncDispose](), () => {});
        this.fail(error);
        throw error;
      }
      this.#phase = 'up';
    });
    if (this.#options.watch && !this.#options.buildOnly) this.#watch();
    this.#syncBack('rescan');
    const kept = this.#keepLimit();
    if (this.#options.buildOnly) await kept;
    // Outside the queue: while a service keeps crashing, edits must still come through.
    try {
      const failed = (await this.#session?.services?.start(this.#abort.signal)) ?? [];
      if (!this.#abort.signal.aborted) this.#emit({ type: 'up', ms: performance.now() - started, failed });
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  status(): StatusReply {
    const session = this.#session;
    return {
      pid: process.pid,
      name: session?.spec.environment.name ?? '',
      id: this.#options.paths.id,
      project: this.#options.project.dir,
      base: session?.spec.environment.base ?? '',
      root: session?.root,
      ...(session === undefined ? {} : { specSha256: sha256Hex(session.madeBy) }),
      phase: this.#phase,
      tracing: this.#fuse !== undefined,
      wayOut: session?.network?.way ?? null,
      services: session?.services?.status() ?? [],
      last: this.log.last,
    };
  }

  restart(names: readonly string[]): Promise<void> {
    return this.#enqueue(async () => this.#liveServices(names).restart(names.length === 0 ? undefined : names, { kind: 'request' }));
  }

  /** The named ones, else those of the profiles in use. Resolves when each has come to something, with those that do not run. */
  startServices(names: readonly string[]): Promise<string[]> {
    // Outside the queue: while a service keeps crashing, edits must still come through.
    return this.#liveServices(names).start(this.#abort.signal, names.length === 0 ? undefined : names);
  }

  async stopServices(names: readonly string[]): Promise<void> {
    await this.#liveServices(names).stop(names.length === 0 ? undefined : names);
  }

  /** @throws HdError NOT_READY, NO_SUCH_SERVICE */
  #liveServices(names: readonly string[]): ServiceSet {
    const { services } = this.#live();
    requireServices(services.names, names);
    return services;
  }

  /** Resolves once files that were lost are there again. */
  async mended(): Promise<void> {
    await this.#mending;
  }

  /** A container for a command of the client's, on the environment's root. */
  async exec(request: ExecRequest): Promise<ExecReply | DetachedReply> {
    const surroundings = this.#surroundings(request.user);
    return request.detach === true ? await this.#execs.detach(request, surroundings) : this.#execs.prepare(request, surroundings);
  }

  /** What services and commands have written over the environment's root. */
  changes(): Promise<ChangedPath[]> {
    return this.#enqueue(async () => this.#changes(this.#live().session));
  }

  /** Brings files that were written inside to the host. */
  pull(request: PullRequest): Promise<PullReply> {
    return this.#enqueue(async () => {
      const { session } = this.#live();
      const reply = session.syncBack?.pull(request) ?? { files: [], unmatched: [] };
      if (request.dryRun !== true) await this.#pulled(reply.files);
      return reply;
    });
  }

  /** Those that `sync_back` names, once what is under way is done. */
  #syncBack(batch: Batch): void {
    if (this.#session?.syncBack?.isOn !== true) return;
    this.#enqueue(async () => {
      if (this.#phase === 'up') await this.#pulled(this.#session?.syncBack?.run(batch) ?? []);
    }).catch((error: unknown) => this.#warn(error));
  }

  /** Tells of it, and takes the files in: they are inside already, so that no service has to hear of them. */
  async #pulled(files: readonly PulledFile[]): Promise<void> {
    this.#emitPulled(files);
    const paths = files.filter(({ outcome }) => outcome === 'written').map(({ path }) => path);
    if (paths.length > 0) await this.#applyBatch(new Set(paths), new Set(paths));
  }

  #emitPulled(files: readonly PulledFile[]): void {
    for (const event of pullEvents(files)) {
      if (event.type === 'pulled') this.#emit(event);
      else this.#tellOnce(event);
    }
  }

  /** What stays as it is, is not told at every turn. */
  #tellOnce(event: HdEvent): void {
    const text = JSON.stringify(event);
    if (this.#told.has(text)) return;
    if (this.#told.size >= MAX_TOLD) this.#told.clear();
    this.#told.add(text);
    this.#emit(event);
  }

  /** Drops that: everything stops, and starts on the root as it was built. Resolves once the services run, or cannot. */
  async reset(): Promise<ResetReply> {
    const dropped = await this.#enqueue(async () => {
      const { session } = this.#live();
      this.#phase = 'building';
      await this.#halt(session);
      const lost = this.#changes(session);
      try {
        await this.#dropRoot(session);
        await this.#prepare(session, session.network ?? this.#openNetwork(session.spec));
      } catch (error) {
        this.fail(error);
        throw error;
      }
      this.#phase = 'up';
      return lost;
    });
    return { dropped, failed: (await this.#session?.services?.start(this.#abort.signal)) ?? [] };
  }

  /**
   * Stops everything in reverse order. Afterwards nothing of this environment runs or is mounted. May be called again, with
   * `kill` when the grace takes too long.
   */
  down(options: { kill: boolean }): Promise<void> {
    this.#phase = 'stopping';
    this.#abort.abort(new HdError('STOPPED', 'stopped before it was up'));
    this.#watcher?.close();
    if (options.kill) this.#session?.services?.kill();
    this.#ending ??= this.#enqueue(() => this.#end());
    return this.#ending;
  }

  /** After an error of its own: what runs is ended, and the files are left to the next supervisor. */
  abandon(): Promise<void> {
    if (this.#session?.live === undefined || this.#fuse === undefined) return this.down({ kill: true });
    this.#abort.abort(new HdError('STOPPED', 'it has failed'));
    this.#watcher?.close();
    this.#ending ??= (async () => {
      this.#session?.services?.kill();
      await this.#session?.services?.stop();
      this.#fuse?.release();
    })();
    return this.#ending;
  }

  async #end(): Promise<void> {
    await this.#stop();
    noteUse(this.#options.paths, { project: this.#options.project.dir });
    // Files that were left, and could not be adopted, are left once more.
    if (this.#left === undefined) await this.#fuse?.close();
    else this.#fuse?.release();
    this.#runtime.close();
    this.#actions[Symbol.dispose]();
    this.#store[Symbol.dispose]();
    for (const dir of [this.#options.paths.stepsDir, this.#options.paths.networkDir]) rmSync(dir, { recursive: true, force: true });
    if (!this.#options.buildOnly && this.#left === undefined) rmSync(this.#options.paths.bundlesDir, { recursive: true, force: true });
    this.#emit({ type: 'stopped' });
  }

  /** Everything up to a built tree. What runs is not touched. */
  async #makeSession({ text, spec }: SpecText): Promise<Session> {
    const started = performance.now();
    const { project, home, paths } = this.#options;
    using lease = new WriteLease(this.#store, `hd up ${paths.id}`);
    const image = await resolveImage(spec.environment.base, {
      store: this.#store, storeDir: home.storeDir, lease, projectDir: project.dir, tempDir: home.tempDir, partialDir: home.partialDir, platform: HOST_PLATFORM, registries: registryConfig(home),
      refresh: this.#options.refreshImage, emit: (event) => this.#emit(event), signal: this.#abort.signal,
    });
    this.#imagePin.hold(image.tree);
    noteUse(paths, { project: project.dir, image: imageRefOf(spec.environment.base, { projectDir: project.dir, platform: HOST_PLATFORM }) });
    const plan = makePlan(this.#store, { spec, image, projectDir: project.dir, platform: HOST_PLATFORM, base: spec.environment.base });
    this.#warnOfLimits(spec);
    const filter = this.#filter(spec);
    const ingest = this.#makeIngest(filter, plan);
    const ingested = this.#ingest(ingest, 'rescan');
    const built = await this.#build(plan, ingested, lease, { noCache: this.#options.noCache && this.#session === undefined && this.#phase === 'building' });
    const previous = this.#store.getRef(envRef(paths.id, 'source'))?.target.digest as TreeDigest | undefined;
    const root = this.#commit(plan, ingested, built);
    const session = { spec, text, madeBy: text, plan, filter, ingest, ingested, build: built, root };
    this.#emitBuilt(session, previous, performance.now() - started);
    return session;
  }

  /** Mounts the root and makes the services, not yet started. */
  async #prepare(session: Session, opening: EnvironmentNetwork | Promise<EnvironmentNetwork>): Promise<void> {
    const { spec } = session;
    session.first = undefined;
    const network = (session.network = await opening);
    // Files of this tree stay in use until the root is unmounted, whatever the environment's tree becomes meanwhile.
    this.#livePin.hold(session.build.tree);
    const adopted = await this.#adoptRoot(session);
    session.live = adopted ?? (await LiveRoot.mount(this.#projector(), this.#liveOptions(session.build.tree, spec)));
    await this.#keepRoot(session);
    session.syncBack = this.#makeSyncBack(session, session.live);
    session.services = this.#makeServices(session, network, { keepLogs: adopted !== undefined });
    if (adopted !== undefined) this.#emit({ type: 'adopted', services: session.services.names });
  }

  #makeServices(session: Session, network: EnvironmentNetwork, { keepLogs }: { keepLogs: boolean }): ServiceSet {
    const { paths, project } = this.#options;
    const { spec } = session;
    return new ServiceSet({
      keepLogs,
      runtime: this.#runtime,
      specs: spec.services,
      network,
      projectDir: project.dir,
      runCommand: (command, signal) => this.#runCommand(command, signal),
      logsDir: paths.logsDir,
      bundlesDir: paths.bundlesDir,
      profiles: this.#options.profiles,
      container: (service, generation) => this.#serviceContainer(session, service, generation),
      emit: (event) => this.#emit(event),
    });
  }

  #makeSyncBack(session: Session, live: LiveRoot): SyncBack {
    const { paths, project } = this.#options;
    const made = new SyncBack({
      store: this.#store, live, workdir: inTree(session.plan.workdir), projectDir: project.dir, clashesDir: paths.clashesDir, recordFile: paths.pulled, patterns: session.spec.files.syncBack,
      filter: session.filter, given: () => session.ingested, mountTargets: () => this.#mountTargets(session),
    });
    made.watch((batch) => this.#syncBack(batch), (error) => this.#warn(error));
    return made;
  }

  async #stop(): Promise<void> {
    const session = this.#session;
    if (session !== undefined) {
      await this.#halt(session);
      await this.#dropRoot(session);
    }
    await session?.network?.[Symbol.asyncDispose]();
    this.#session = undefined;
    this.#livePin[Symbol.dispose]();
    this.#shownPin[Symbol.dispose]();
  }

  /** Afterwards nothing uses the root. */
  async #halt({ services, live, syncBack }: Session): Promise<void> {
    await services?.stop();
    if (live === undefined) return;
    // A command of a client's that runs on would hold it, and so would what another supervisor's guard has not ended.
    this.#execs.forget();
    await this.#endContainers();
    syncBack?.close();
    // What they wrote last is still to come out; the next build takes it in.
    if (syncBack?.isOn === true) this.#emitPulled(syncBack.run('rescan'));
  }

  /** Nothing may use it. */
  async #dropRoot({ live }: Session): Promise<void> {
    if (live === undefined) return;
    await this.#keeper.release(this.#fuse);
    await live.unmount();
  }

  #mountTargets({ network, spec }: Session): Set<ByteString> {
    const volumes = allMounts(spec.services).map(({ target }) => ({ source: '', destination: target, readonly: false }));
    return new Set(mountTargets({ mounts: [...(network?.container.mounts ?? []), ...volumes] }).map(({ path }) => inTree(path)));
  }

  #changes(session: Session): ChangedPath[] {
    return (session.live?.changes(this.#mountTargets(session)) ?? []).map((change) => ({ ...change, path: `/${toText(change.path)}` }));
  }

  /** What the stat cache speaks of stays in the store, also where the build that follows fails. */
  #ingest(ingest: Ingest, batch: Batch): Ingested {
    const ingested = batch === 'rescan' ? ingest.scan() : ingest.update(batch);
    for (const [name, digest] of [['scanned', ingested.source], ['projected', ingested.projected]] as const) {
      const ref = envRef(this.#options.paths.id, name);
      if (this.#store.getRef(ref)?.target.digest !== digest) this.#store.setRef(ref, { kind: 'tree', digest });
    }
    return ingested;
  }

  async #build(plan: Plan, ingested: Ingested, lease: WriteLease, options: Pick<BuildOptions, 'onFirstRun' | 'noCache'> = {}): Promise<Build> {
    const { jobs } = plan.spec.build;
    const { id, buildRecord } = this.#options.paths;
    const previous = readBuildRecord(buildRecord);
    const steps: StepRecord[] = [];
    try {
      return await build({
        plan, projected: ingested.projected, context: this.#stepContext(plan), actions: this.#actions, lease, envId: id,
        readSecrets: (uses) => readSecrets(plan.spec.secrets, uses, this.#secretHost),
        previous, onStep: (step) => void steps.push(step),
        emit: (event) => this.#emit(event), ...(jobs === undefined ? {} : { jobs }), ...options,
      });
    } finally {
      // Of a build that failed too: what it ran, and why, is asked for then most of all.
      writeBuildRecord(buildRecord, plan.workdir, [...steps, ...unreached(plan.steps, steps.length, previous)]);
    }
  }

  /** Moves the refs: the only point at which a build becomes the environment's. */
  #commit(plan: Plan, ingested: Ingested, built: Build): NodeDigest {
    const { id } = this.#options.paths;
    const root = putEnv(this.#store, { name: plan.spec.environment.name, packages: plan.packages, files: ingested.source, steps: plan.steps.map((step) => step.definition) });
    const old = this.#store.getRef(envRef(id, 'root'))?.target;
    // Not for the same root once more: what changed last stays to be seen.
    if (old !== undefined && old.digest !== root) this.#store.setRef(envRef(id, 'previous'), old);
    this.#store.setRef(envRef(id, 'tree'), { kind: 'tree', digest: built.tree });
    this.#store.setRef(envRef(id, 'source'), { kind: 'tree', digest: ingested.source });
    this.#store.setRef(envRef(id, 'root'), { kind: 'node', digest: root });
    return root;
  }

  #watch(): void {
    const { project } = this.#options;
    const { spec } = this.#live().session;
    // hd.toml counts even where [files] leaves it out, and so do files that say what counts.
    const filter = this.#filter(spec, spec.files.include.length === 0 ? undefined : [...spec.files.include, 'hd.toml', ...spec.files.ignoreFiles.map((name) => `**/${name}`)]);
    this.#watcher?.close();
    const { debounceMs, debounceMaxMs } = spec.options;
    this.#watcher = watchTree(project.dir, {
      filter, debounceMs, maxWaitMs: debounceMaxMs,
      onBatch: (batch) => void this.#enqueue(() => this.#applyBatch(batch)).catch((error: unknown) => this.#warn(error)),
      // What goes wrong here goes wrong with the batch, which comes in any case.
      onFirst: (paths) => void this.#enqueue(async () => this.#showFirst(paths)).catch(() => {}),
      onError: (error) => this.#warn(error),
    });
    // What was edited between the scan and the first watch has sent no event.
    void this.#watcher.ready.then(() => this.#enqueue(() => this.#applyBatch('rescan'))).catch((error: unknown) => this.#warn(error));
  }

  #makeIngest(filter: Filter, { owner }: Plan): Ingest {
    const { project, home, paths } = this.#options;
    return new Ingest({ store: this.#store, storeDir: home.storeDir, projectDir: project.dir, filter, statCacheFile: paths.statCache, owner });
  }

  /** Where an ignore file has changed, other files belong to the environment. */
  #reloadFilter(session: Session, batch: Batch): void {
    const { ignoreFiles } = session.spec.files;
    if (ignoreFiles.length === 0 || (batch !== 'rescan' && ![...batch].some((path) => ignoreFiles.includes(basename(path))))) return;
    const filter = this.#filter(session.spec);
    if (filter.key === session.filter.key) return;
    session.filter = filter;
    session.ingest = this.#makeIngest(filter, session.plan);
    session.syncBack?.refilter(filter);
    this.#watch();
  }

  #filter(spec: EnvSpec, include?: string[]): Filter {
    const { home, project, hostEnv } = this.#options;
    return projectFilter({ home, project, env: hostEnv }, spec, include);
  }

  /**
   * Shows a save inside before the batch is complete that it begins: who watches files there need not wait for those who start processes. It builds nothing, and for the batch
   * it is as if it had not been.
   */
  #showFirst(paths: ReadonlySet<string>): void {
    const session = this.#session;
    if (this.#phase !== 'up' || session?.live === undefined) return;
    if ([...paths].some((path) => path === 'hd.toml' || session.spec.files.ignoreFiles.includes(basename(path)))) return;
    using _lease = this.#store.lease(`hd edit ${this.#options.paths.id}`);
    const ingested = this.#ingest(session.ingest, paths);
    const from = session.first ?? session.ingested.projected;
    if (ingested.projected === from) return;
    session.syncBack?.edited();
    session.first = ingested.projected;
    this.#showEdits(session, [...diffTrees(this.#store, from, ingested.projected)]);
  }

  /**
   * What is in a batch is a hint: its files are compared with what is known of them, so a touch does nothing. What no batch told is found by the next rescan.
   * @param pulled files that came from inside: no edits for those who are there
   */
  async #applyBatch(batch: Batch, pulled: ReadonlySet<string> = new Set()): Promise<void> {
    const session = this.#session;
    if (this.#phase !== 'up' || session?.live === undefined || session.services === undefined) return;
    if (await this.#reloadSpec(session)) return;
    const started = performance.now();
    this.#reloadFilter(session, batch);
    using lease = new WriteLease(this.#store, `hd edit ${this.#options.paths.id}`);
    const ingested = this.#ingest(session.ingest, batch);
    // What was shown of it before, and is otherwise now, has to be shown again, even if all is as it was.
    const { first = session.ingested.projected } = session;
    session.first = undefined;
    const toShow = [...diffTrees(this.#store, first, ingested.projected)];
    // Of a file that was changed and changed back meanwhile, the time is another one.
    if (ingested.source === session.ingested.source && (first !== session.ingested.projected || ingested.projected === first)) {
      if (toShow.length > 0) this.#showEdits(session, toShow);
      session.ingested = ingested;
      return;
    }
    const edits = [...diffTrees(this.#store, session.ingested.source, ingested.source)];
    const shown = [...diffTrees(this.#store, session.ingested.projected, ingested.projected)];
    session.ingested = ingested;
    const isNews = (path: string): boolean => !pulled.has(path);
    if (pulled.size === 0) session.syncBack?.edited();
    let built: Build;
    try {
      // Where a step has to run, the edits are put in place first: services that reload by themselves need not wait.
      built = await this.#build(session.plan, ingested, lease, { onFirstRun: () => this.#showEdits(session, toShow) });
    } catch (error) {
      this.#showEdits(session, toShow);
      this.#warn(error, 'the services go on with what was built before');
      return;
    }
    const changes = this.#show(session, session.live, built.tree);
    session.build = built;
    session.root = this.#commit(session.plan, ingested, built);
    this.#shownPin[Symbol.dispose]();
    const news = edits.filter(({ path }) => isNews(toText(path)));
    if (news.length > 0 || built.ran > 0) this.#emit({ type: 'change', changes: news.map(fileChange), summary: summarise(news, ingested.files), ms: performance.now() - started, ran: built.ran });
    if (built.ran > 0) {
      void this.#keepLimit();
      this.#syncBack('rescan');
    }
    // The edits first: the first that a service watches is named as the cause.
    const paths = [...shown.filter(isFileChange).map(({ path }) => toText(path)), ...insideWorkdir(changes.filter(isFileChange), session.plan.workdir)];
    session.services.change([...new Set(paths)].filter(isNews));
  }

  /** In the queue: edits wait for a collection there, not where they would stop everything else. */
  #keepLimit(): Promise<void> {
    return this.#enqueue(() => this.#limit.keep());
  }

  /** A readiness command, in a container of its own on the live root. */
  async #runCommand(command: string, signal: AbortSignal): Promise<boolean> {
    const { container, done } = this.#execs.run(['/bin/sh', '-c', command], this.#surroundings());
    const exit = await exitUnlessAborted(container, signal);
    done();
    return exit.code === 0;
  }

  #isSource(session: Session, path: ByteString): boolean {
    const dir = inTree(session.plan.workdir);
    if (dir !== '' && !path.startsWith(`${dir}/`)) return false;
    return lookupPath(this.#store, session.ingested.source, path.slice(dir === '' ? 0 : dir.length + 1) as ByteString) !== undefined;
  }

  #showEdits(session: Session, edits: readonly TreeChange[]): void {
    if (session.live === undefined) return;
    const tree = applyEdits(this.#store, session.live.applied, inTree(session.plan.workdir), edits);
    this.#show(session, session.live, tree);
    // No other ref is going to name it.
    this.#shownPin.hold(tree);
    this.#keeper.shows(tree);
  }

  #show(session: Session, live: LiveRoot, tree: TreeDigest): TreeChange[] {
    const { changes, clashes } = live.apply(tree, (path) => this.#isSource(session, path));
    for (const clash of clashes) this.#emitClash(clash);
    return changes;
  }

  #emitClash({ path, keptAt, inside, host }: Clash): void {
    this.#emit({ type: 'clash', path: toText(path), keptAt, inside, ...(host === undefined ? {} : { host }) });
  }

  /** True when hd.toml says something else now, and the environment was made anew by it. */
  async #reloadSpec(session: Session): Promise<boolean> {
    // What parses it is loaded only now: a start with nothing to do would wait 40 ms for it.
    const { readSpecFile } = await import('./spec-file.ts');
    const file = readSpecFile(this.#options.project);
    if (file.text === session.text) return false;
    session.text = file.text;
    if (!file.ok) {
      const [first] = file.diagnostics;
      this.#emit({ type: 'warning', code: 'SPEC_INVALID', message: `hd.toml:${first?.line ?? 1}: ${first?.message ?? 'not valid'}; the environment goes on as it was` });
      return false;
    }
    if (JSON.stringify(file.spec) === JSON.stringify(session.spec)) {
      session.madeBy = file.text;
      return false;
    }
    let next: Session;
    try {
      next = await this.#makeSession(file);
    } catch (error) {
      this.#warn(error, 'the environment goes on as it was');
      return true;
    }
    this.#emit({ type: 'warning', code: 'SPEC_CHANGED', message: 'hd.toml changed: the environment is made anew' });
    this.#phase = 'building';
    await this.#stop();
    this.#session = next;
    try {
      await this.#prepare(next, this.#openNetwork(next.spec));
      this.#phase = 'up';
      this.#watch();
      this.#syncBack('rescan');
      next.services?.start(this.#abort.signal).catch((error: unknown) => this.#warn(error));
    } catch (error) {
      this.fail(error);
    }
    return true;
  }

  #emitBuilt(session: Session, previous: TreeDigest | undefined, ms: number): void {
    const { spec, ingested, build: built, root } = session;
    const edits = previous === undefined ? undefined : [...diffTrees(this.#store, previous, ingested.source)];
    this.#emit({
      type: 'built', name: spec.environment.name, root, ms, files: ingested.files, bytes: ingested.bytes, services: spec.services.map(({ name }) => name),
      ran: built.ran, cached: built.cached, discarded: built.discarded, hashed: ingested.hashed,
      ...(edits === undefined ? {} : { changes: edits.filter(isFileChange).map(fileChange), summary: summarise(edits, ingested.files) }),
    });
  }

  #openNetwork(spec: EnvSpec): Promise<EnvironmentNetwork> {
    const { home, paths, hostEnv } = this.#options;
    const opening = openNetwork({
      spec, home, paths, hostEnv, passthrough: this.#passthrough, emit: (event) => this.#emit(event),
      onDeath: (cause) => this.#failForGood(new HdError('NETWORK_DIED', `the environment has no network any more: ${describeError(cause)}`, { cause, hint: 'start again with `hd up`' })),
    });
    // Whoever awaits it sees the error; until then it is nobody's.
    opening.catch(() => {});
    return opening;
  }

  #startFuse(): void {
    const problem = fuseProblem();
    if (problem !== undefined) {
      this.#emit({ type: 'warning', code: 'NO_FUSE', message: `no FUSE: ${problem}. Files are written out to disk, and tracing is off: a step runs again whenever anything in its tree has changed` });
      return;
    }
    this.#fuse = new FuseHost(this.#hostOptions());
  }

  #hostOptions(): FuseHostOptions {
    return {
      logFd: 2, attributeFreeFile: this.#options.home.attributeFreeFile,
      onDeath: () => this.#filesLost(new HdError('FUSE_HOST_DIED', 'the process that serves the files ended unexpectedly', { hint: 'start again with `hd up`' })),
      // A step tells by itself that its trace is lost.
      onBroken: (id, error) => void (id === LIVE_MOUNT && this.#filesLost(error)),
    };
  }

  /** The process that serves the files which were left, or, where that is gone by now, a new one. */
  async #adoptHost(): Promise<void> {
    if (this.#left === undefined) return;
    try {
      this.#fuse = await FuseHost.adopt(this.#options.paths.hostSocket, this.#left.host.pid, this.#hostOptions());
    } catch (error) {
      this.#warn(error, 'the environment begins anew');
      this.#left = undefined;
      this.#startFuse();
    }
  }

  /** The root that was left, showing what was built now. Undefined: there is none that could be gone on with. */
  async #adoptRoot(session: Session): Promise<LiveRoot | undefined> {
    const left = this.#left;
    if (left === undefined || this.#fuse === undefined) return undefined;
    // Until here it could be left once more.
    this.#left = undefined;
    const { paths } = this.#options;
    await this.#endContainers((id) => !id.includes(`-${EXEC}`));
    detachBelow(paths.stepsDir);
    try {
      if (left.spec !== specDigest(session.spec)) throw new HdError('SPEC_CHANGED', 'hd.toml has changed since the environment was made');
      const options = this.#liveOptions(left.tree, session.spec);
      this.#keeper.resume(left);
      const { live, clashes } = LiveRoot.adopt({ ...this.#projector(), fuse: this.#fuse }, options, left, (path) => this.#isSource(session, path));
      for (const clash of clashes) this.#emitClash(clash);
      this.#show(session, live, session.build.tree);
      this.#livePin.hold(left.tree);
      return live;
    } catch (error) {
      this.#warn(error, 'what was written inside is given up, and the root is made anew');
      await this.#endContainers();
      await this.#fuse.close();
      this.#keeper.forget();
      this.#startFuse();
      return undefined;
    }
  }

  async #keepRoot({ live, spec }: Session): Promise<void> {
    if (this.#fuse === undefined || live === undefined) return;
    const { overlay } = spec.options;
    const { watch, profiles } = this.#options;
    await this.#keeper.keep(this.#fuse, { tree: live.mountedTree, applied: live.applied, overlay, spec: specDigest(spec), runtime: this.#runtimePath, watch, profiles });
  }

  #liveOptions(tree: TreeDigest, spec: EnvSpec): LiveRootOptions {
    const { paths } = this.#options;
    return { tree, dir: paths.liveDir, clashesDir: paths.clashesDir, overlay: spec.options.overlay, onApply: (state) => this.#keeper.applied(state) };
  }

  /** The process that serves the files has died. What runs on them is of no use any more. */
  #filesLost(error: HdError): void {
    const nowMs = Date.now();
    this.#hostDeathsMs.push(nowMs);
    if (this.#phase !== 'up' || this.#hostDeathsMs.filter((atMs) => nowMs - atMs < DEATHS_WITHIN_MS).length >= MAX_DEATHS) return this.#failForGood(error);
    this.#files.abort(error);
    this.#warn(error, 'files are mounted anew, with what was written inside, and services start again');
    this.#mending = this.#enqueue(() => this.#mountAnew()).catch((cause: unknown) => this.#failForGood(cause));
  }

  async #mountAnew(): Promise<void> {
    const session = this.#session;
    if (this.#phase !== 'up' || session?.live === undefined || session.network === undefined) return;
    session.services?.kill();
    await session.services?.stop();
    await this.#endContainers();
    await this.#fuse?.close();
    this.#files = new AbortController();
    this.#startFuse();
    session.syncBack?.close();
    await session.live.mountAnew(this.#projector());
    session.syncBack = this.#makeSyncBack(session, session.live);
    await this.#keepRoot(session);
    // An edit that was under way may have been lost.
    using lease = new WriteLease(this.#store, `hd up ${this.#options.paths.id}`);
    session.build = await this.#build(session.plan, session.ingested, lease);
    this.#show(session, session.live, session.build.tree);
    session.root = this.#commit(session.plan, session.ingested, session.build);
    session.services = this.#makeServices(session, session.network, { keepLogs: true });
    session.services.start(this.#abort.signal).catch((error: unknown) => this.#warn(error));
  }

  /** Of this environment, whoever made them. */
  #endContainers(which?: (id: string) => boolean): Promise<void> {
    return endContainers(this.#options.paths, this.#runtimePath, which);
  }

  /** A step that runs on files that nobody serves any more is not waited for. */
  #failForGood(error: unknown): void {
    this.fail(error);
    this.#abort.abort(error);
  }

  get #secretHost(): SecretHost {
    return { env: this.#options.hostEnv, projectDir: this.#options.project.dir };
  }

  #projector() {
    return { store: this.#store, storeDir: this.#options.home.storeDir, fuse: this.#fuse, materializedDir: this.#options.home.materializedDir };
  }

  #stepContext(plan: Plan): StepContext {
    return { ...this.#projector(), hostEnv: this.#options.hostEnv, runtime: this.#runtime, stepsDir: this.#options.paths.stepsDir, containerPrefix: this.#options.paths.containerPrefix, passthrough: this.#passthrough, user: plan.user, limits: plan.spec.build.limits, signal: AbortSignal.any([this.#abort.signal, this.#files.signal]) };
  }

  #baseContainer(id: string, plan: Plan): Pick<ContainerSpec, 'id' | 'rootfs' | 'hostname' | 'mounts' | 'network'> {
    const { live, network } = this.#live().session;
    return { id, rootfs: live?.merged ?? '', hostname: plan.spec.environment.name, ...(network?.container ?? { mounts: [], network: 'none' }) };
  }

  /** @throws HdError USER_NOT_FOUND */
  #serviceContainer({ plan, network, build: built }: Session, { name, user: named, limits, privileged, volumes }: ServiceSpec, generation: number): Omit<ContainerSpec, 'args'> {
    const user = named === undefined ? plan.user : userOf(this.#store, built.tree, named);
    const base = this.#baseContainer(this.#containerId(`${name}-${generation}`), plan);
    const mounts = [...base.mounts, ...serviceMounts(this.#volumeHost, volumes, built.tree, user)];
    return { ...base, mounts, env: { ...plan.env, ...(named === undefined ? {} : { HOME: user.home }), ...network?.env }, cwd: plan.workdir, user, terminal: false, limits, privileged };
  }

  /** Nobody shall believe in a limit that nothing enforces. */
  #warnOfLimits({ build: { limits: ofSteps }, services }: EnvSpec): void {
    const without = [ofSteps, ...services.map(({ limits }) => limits)].flatMap((limits) => limitsWithoutEffect(limits, cgroupMode()));
    if (without.length > 0) this.#emit({ type: 'warning', code: 'LIMITS_WITHOUT_EFFECT', message: `${[...new Set(without)].join(', ')} in hd.toml: this machine gives hd no control groups to enforce them (see \`hd doctor\`)` });
    const privileged = services.filter((service) => service.privileged).map(({ name }) => name);
    if (privileged.length > 0 && inUserNamespace()) this.#emit({ type: 'warning', code: 'NOT_PRIVILEGED', message: `${privileged.join(', ')}: only root can run privileged services; without it they are like the others` });
  }

  /** @throws HdError NOT_READY, USER_NOT_FOUND */
  #surroundings(user?: string): ExecSurroundings {
    const { plan, spec, build: built, network } = this.#live().session;
    const container = this.#baseContainer('', plan);
    const mounts = [...container.mounts, ...serviceMounts(this.#volumeHost, allMounts(spec.services), built.tree, plan.user)];
    return { container: { ...container, mounts }, user: user === undefined ? plan.user : userOf(this.#store, built.tree, user), env: { ...plan.env, ...network?.env }, workdir: plan.workdir };
  }

  get #volumeHost(): VolumeHost {
    return { store: this.#store, paths: this.#options.paths, projectDir: this.#options.project.dir, env: this.#options.hostEnv };
  }

  #containerId(what: string): string {
    return `${this.#options.paths.containerPrefix}${process.pid}-${what}`;
  }

  #live(): { session: Session; services: ServiceSet } {
    const session = this.#session;
    if (session?.live === undefined || session.services === undefined) throw new HdError('NOT_READY', `the environment is ${this.#phase}`, { hint: 'wait for `hd up --wait`' });
    return { session, services: session.services };
  }

  #enqueue<T>(job: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(job);
    this.#queue = result.then(() => {}, () => {});
    return result;
  }

  /** The environment could not be made, or cannot be trusted any more. */
  fail(error: unknown): void {
    this.#phase = 'failed';
    const hdError = error instanceof HdError ? error : new HdError('INTERNAL', describeError(error), { cause: error, hint: `this is a bug; see ${this.#options.paths.supervisorLog}` });
    if (!(error instanceof HdError)) process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    this.#emit({ type: 'failed', error: hdError.toJSON() });
  }

  #warn(error: unknown, consequence?: string): void {
    if (this.#abort.signal.aborted) return;
    this.#emit({ type: 'warning', code: error instanceof HdError ? error.code : 'INTERNAL', message: `${describeError(error)}${consequence === undefined ? '' : `; ${consequence}`}` });
  }

  #emit(event: HdEvent): void {
    this.log.emit(event);
  }
}

function isFileChange(change: TreeChange): boolean {
  return (change.change === 'removed' ? change.before.kind : change.after.kind) !== 'dir';
}

function fileChange({ path, change }: TreeChange): FileChange {
  return { path: toText(path), change };
}

function summarise(edits: readonly TreeChange[], files: number): ChangeSummary {
  const count = (kind: TreeChange['change']): number => edits.filter((edit) => edit.change === kind && isFileChange(edit)).length;
  const [changed, added, removed] = [count('changed'), count('added'), count('removed')];
  return { changed, added, removed, unchanged: files - changed - added };
}

/** Paths relative to the working directory, for what changed below it. */
function insideWorkdir(changes: readonly TreeChange[], workdir: string): string[] {
  const prefix = `${inTree(workdir)}/`;
  return changes.flatMap(({ path }) => (path.startsWith(prefix) ? [toText(path).slice(prefix.length)] : []));
}
