import { mkdirSync, rmSync } from 'node:fs';
import { HdError, describeError, sha256Hex, toText } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { OciRuntime, findRuntime } from '@hyperdocker/sandbox';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Batch } from '@hyperdocker/watch';
import type { ChangedPath, DetachedReply, ExecReply, ExecRequest, Phase, PullReply, PullRequest, PulledFile, ResetReply, StatusReply } from './api.ts';
import { OTHER_BUILD, claimBuild } from './claim.ts';
import type { LaunchOptions } from './client.ts';
import { removeDeadBuilds } from './dead-builds.ts';
import { EnvironmentBuilds } from './environment-builds.ts';
import { EnvironmentContainers, mountPoints } from './environment-containers.ts';
import type { EnvironmentNetwork } from './environment-network.ts';
import { openNetwork } from './environment-network.ts';
import { EnvironmentRoot } from './environment-root.ts';
import { EventLog } from './event-log.ts';
import type { HdEvent } from './events.ts';
import { FileServer } from './file-server.ts';
import { noteUse } from './known-environments.ts';
import { leftToUs } from './left-root.ts';
import type { LiveRoot } from './live-root.ts';
import { MemoryRelease } from './memory-release.ts';
import type { Passthrough } from './passthrough.ts';
import { hostPassthrough } from './passthrough.ts';
import { ProjectEdits } from './project-edits.ts';
import { ProjectWatch } from './project-watch.ts';
import { PullReporter } from './pull-events.ts';
import { requireServices } from './service-names.ts';
import type { ServiceSet } from './service-set.ts';
import type { LiveSession, Session } from './session.ts';
import { isLive } from './session.ts';
import type { SpecText } from './spec-text.ts';
import { readSpecText } from './spec-text.ts';
import { inTree } from './step-runner.ts';
import { StoreLimit } from './store-limit.ts';
import { SyncBack } from './sync-back.ts';
import { WriteLease } from './write-lease.ts';

export interface SupervisorOptions extends LaunchOptions {
  hostEnv: NodeJS.ProcessEnv;
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
  readonly #runtime: OciRuntime;
  readonly #passthrough: Passthrough;
  readonly #abort = new AbortController();
  readonly #limit: StoreLimit;
  readonly #files: FileServer;
  readonly #builds: EnvironmentBuilds;
  readonly #containers: EnvironmentContainers;
  readonly #root: EnvironmentRoot;
  readonly #watch: ProjectWatch;
  readonly #edits: ProjectEdits;
  readonly #reporter = new PullReporter((event) => this.#emit(event));
  #mending: Promise<void> | undefined;
  #phase: Phase = 'building';
  #session: Session | undefined;
  #queue: Promise<void> = Promise.resolve();
  readonly #memory = new MemoryRelease({ before: () => this.#store.clearCaches() });
  #ending: Promise<void> | undefined;

  /** @throws HdError RUNTIME_NOT_FOUND, and those of opening the store */
  constructor(options: SupervisorOptions) {
    this.#options = options;
    const { home, paths, hostEnv, project, watch, profiles, refreshImage } = options;
    const emit = (event: HdEvent): void => this.#emit(event);
    const warn = (error: unknown, consequence?: string): void => this.#warn(error, consequence);
    for (const dir of [paths.stepsDir, paths.logsDir, paths.runtimeRoot, paths.bundlesDir]) mkdirSync(dir, { recursive: true, mode: 0o700 });
    // First of all: its process starts beside everything else.
    this.#files = new FileServer({ home, paths, left: leftToUs(paths), emit, warn, onLost: (error, often) => this.#filesLost(error, often) });
    const runtimePath = findRuntime({ configured: hostEnv['HD_RUNTIME'] });
    this.#store = openStore(home.storeDir, { nodeLinks });
    this.#actions = openActionCache(home.actionsFile, this.#store);
    this.#runtime = new OciRuntime({ path: runtimePath, root: paths.runtimeRoot });
    this.#passthrough = hostPassthrough(hostEnv);
    const [store, runtime, files, signal] = [this.#store, this.#runtime, this.#files, this.#abort.signal];
    this.#builds = new EnvironmentBuilds({ store, actions: this.#actions, runtime, files, home, project, paths, hostEnv, passthrough: this.#passthrough, refreshImage, emit, signal });
    this.#containers = new EnvironmentContainers({ store, runtime, runtimePath, project, paths, hostEnv, profiles, emit });
    this.#root = new EnvironmentRoot({ store, home, paths, hostEnv, files, containers: this.#containers, start: { watch, profiles }, emit, warn });
    this.#watch = new ProjectWatch({
      home, project, hostEnv, onError: warn,
      onBatch: (batch) => this.#enqueue(() => this.#applyBatch(batch)).catch(warn),
      // What goes wrong here goes wrong with the batch, which comes in any case.
      onFirst: (paths) => void this.#enqueue(async () => this.#showFirst(paths)).catch(() => {}),
    });
    this.#edits = new ProjectEdits({ store, paths, watch: this.#watch, builds: this.#builds, root: this.#root, emit, warn });
    this.#limit = new StoreLimit({ home, env: hostEnv, emit, signal });
  }

  get runtimePath(): string {
    return this.#containers.runtimePath;
  }

  /** Builds and starts everything. Emits `failed` and throws when it cannot. */
  async up(): Promise<void> {
    const started = performance.now();
    await this.#enqueue(async () => {
      let network: Promise<EnvironmentNetwork> | undefined;
      try {
        await this.#files.adopt();
        const { home, file } = this.#options;
        await this.#claimBuild();
        await removeDeadBuilds(home, this.runtimePath);
        // It takes a while to come up, and the build does not need it.
        network = this.#openNetwork(file.spec);
        this.#session = await this.#makeSession(file);
        await this.#prepare(this.#session, network);
      } catch (error) {
        if (this.#session?.network === undefined) await network?.then((opened) => opened[Symbol.asyncDispose](), () => {});
        this.fail(error);
        throw error;
      }
      this.#phase = 'up';
    });
    // Outside the queue: while a service keeps crashing, edits must still come through.
    const starting = this.#session?.services?.start(this.#abort.signal);
    if (this.#options.watch) this.#watch.start(this.#live().spec, { after: starting });
    this.#syncBack('rescan');
    void this.#keepLimit();
    try {
      const failed = (await starting) ?? [];
      if (!this.#abort.signal.aborted) this.#emit({ type: 'up', ms: performance.now() - started, failed });
    } catch (error) {
      this.fail(error);
      throw error;
    }
  }

  /** Nobody else builds it, until this process ends. */
  async #claimBuild(): Promise<void> {
    await claimBuild(this.#options.paths, {
      signal: this.#abort.signal, besideSupervisor: 'wait',
      onWait: () => this.#emit({ type: 'warning', code: 'BUILD_WAITS', message: OTHER_BUILD }),
    });
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
      tracing: this.#files.host !== undefined,
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
    return this.#containers.exec(this.#live(), request);
  }

  /** What services and commands have written over the environment's root. */
  changes(): Promise<ChangedPath[]> {
    return this.#enqueue(async () => changesIn(this.#live()));
  }

  /** Brings files that were written inside to the host. */
  pull(request: PullRequest): Promise<PullReply> {
    return this.#enqueue(async () => {
      const reply = this.#live().syncBack.pull(request);
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
    this.#reporter.tell(files);
    const paths = files.filter(({ outcome }) => outcome === 'written').map(({ path }) => path);
    if (paths.length > 0) await this.#applyBatch(new Set(paths), new Set(paths));
  }

  /** Drops that: everything stops, and starts on the root as it was built. Resolves once the services run, or cannot. */
  async reset(): Promise<ResetReply> {
    const dropped = await this.#enqueue(async () => {
      const session = this.#live();
      this.#phase = 'building';
      await this.#halt(session);
      const lost = changesIn(session);
      try {
        await this.#root.unmount(session.live);
        await this.#prepare(session, session.network);
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
    this.#watch.close();
    if (options.kill) this.#session?.services?.kill();
    this.#ending ??= this.#enqueue(() => this.#end());
    return this.#ending;
  }

  /** After an error of its own: what runs is ended, and the files are left to the next supervisor. */
  abandon(): Promise<void> {
    if (this.#session?.live === undefined || this.#files.host === undefined) return this.down({ kill: true });
    this.#abort.abort(new HdError('STOPPED', 'it has failed'));
    this.#watch.close();
    this.#ending ??= (async () => {
      this.#session?.services?.kill();
      await this.#session?.services?.stop();
      this.#files.release();
    })();
    return this.#ending;
  }

  async #end(): Promise<void> {
    await this.#stop();
    noteUse(this.#options.paths, { project: this.#options.project.dir });
    await this.#files.close();
    this.#runtime.close();
    this.#actions[Symbol.dispose]();
    this.#store[Symbol.dispose]();
    for (const dir of [this.#options.paths.stepsDir, this.#options.paths.networkDir]) rmSync(dir, { recursive: true, force: true });
    if (!this.#files.isLeft) rmSync(this.#options.paths.bundlesDir, { recursive: true, force: true });
    this.#emit({ type: 'stopped' });
  }

  #makeSession(file: SpecText): Promise<Session> {
    return this.#builds.make(file, { noCache: this.#options.noCache && this.#session === undefined && this.#phase === 'building' });
  }

  /** Mounts the root and makes the services, not yet started. */
  async #prepare(session: Session, opening: EnvironmentNetwork | Promise<EnvironmentNetwork>): Promise<void> {
    session.first = undefined;
    const network = (session.network = await opening);
    const { live, adopted } = await this.#root.open(session);
    session.live = live;
    const inhabited = Object.assign(session, { network, live });
    await this.#root.keep(inhabited);
    session.syncBack = this.#makeSyncBack(session, live);
    session.services = this.#containers.services(inhabited, { keepLogs: adopted });
    if (adopted) this.#emit({ type: 'adopted', services: session.services.names });
  }

  #makeSyncBack(session: Session, live: LiveRoot): SyncBack {
    const { paths, project } = this.#options;
    const made = new SyncBack({
      store: this.#store, live, workdir: inTree(session.plan.workdir), projectDir: project.dir, clashesDir: paths.clashesDir, recordFile: paths.pulled, patterns: session.spec.files.syncBack,
      filter: session.filter, given: () => session.ingested, mountTargets: () => mountPoints(session),
    });
    made.watch((batch) => this.#syncBack(batch), (error) => this.#warn(error));
    return made;
  }

  async #stop(): Promise<void> {
    const session = this.#session;
    if (session !== undefined) {
      await this.#halt(session);
      if (session.live !== undefined) await this.#root.unmount(session.live);
    }
    await session?.network?.[Symbol.asyncDispose]();
    this.#session = undefined;
    this.#root.letGo();
  }

  /** Afterwards nothing uses the root. */
  async #halt({ services, live, syncBack }: Session): Promise<void> {
    await services?.stop();
    if (live === undefined) return;
    // A command of a client's that runs on would hold it, and so would what another supervisor's guard has not ended.
    this.#containers.forgetExecs();
    await this.#containers.end();
    syncBack?.close();
    // What they wrote last is still to come out; the next build takes it in.
    if (syncBack?.isOn === true) this.#reporter.tell(syncBack.run('rescan'));
  }

  async #applyBatch(batch: Batch, pulled: ReadonlySet<string> = new Set()): Promise<void> {
    const session = this.#session;
    if (this.#phase !== 'up' || !isLive(session)) return;
    if (await this.#reloadSpec(session)) return;
    const { ran } = await this.#edits.apply(session, batch, pulled);
    if (ran === 0) return;
    void this.#keepLimit();
    this.#syncBack('rescan');
  }

  #showFirst(paths: ReadonlySet<string>): void {
    const session = this.#session;
    if (this.#phase === 'up' && isLive(session)) this.#edits.showFirst(session, paths);
  }

  /** In the queue: edits wait for a collection there, not where they would stop everything else. */
  #keepLimit(): Promise<void> {
    return this.#enqueue(() => this.#limit.keep());
  }

  /** True when hd.toml says something else now, and the environment was made anew by it. */
  async #reloadSpec(session: Session): Promise<boolean> {
    if (readSpecText(this.#options.project) === session.text) return false;
    const { readSpecFile } = await import('./spec-file.ts');
    const file = readSpecFile(this.#options.project);
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
      this.#watch.restart(next.spec);
      this.#syncBack('rescan');
      next.services?.start(this.#abort.signal).catch((error: unknown) => this.#warn(error));
    } catch (error) {
      this.fail(error);
    }
    return true;
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

  /** What runs on them ends, and everything is put on new ones. */
  #filesLost(error: HdError, often: boolean): void {
    if (this.#phase !== 'up' || often) return this.#failForGood(error);
    this.#warn(error, 'files are mounted anew, with what was written inside, and services start again');
    this.#mending = this.#enqueue(() => this.#mountAnew()).catch((cause: unknown) => this.#failForGood(cause));
  }

  async #mountAnew(): Promise<void> {
    const session = this.#session;
    if (this.#phase !== 'up' || !isLive(session)) return;
    session.services.kill();
    await session.services.stop();
    await this.#containers.end();
    await this.#files.replace();
    session.syncBack.close();
    await session.live.mountAnew(this.#files.projector(this.#store));
    session.syncBack = this.#makeSyncBack(session, session.live);
    await this.#root.keep(session);
    // An edit that was under way may have been lost.
    using lease = new WriteLease(this.#store, `hd up ${this.#options.paths.id}`);
    session.build = await this.#builds.build(session.plan, session.ingested, lease);
    this.#root.show(session, session.build.tree);
    session.root = this.#builds.commit(session.plan, session.ingested, session.build);
    session.services = this.#containers.services(session, { keepLogs: true });
    session.services.start(this.#abort.signal).catch((error: unknown) => this.#warn(error));
  }

  /** A step that runs on files that nobody serves any more is not waited for. */
  #failForGood(error: unknown): void {
    this.fail(error);
    this.#abort.abort(error);
  }

  /** @throws HdError NOT_READY */
  #live(): LiveSession {
    const session = this.#session;
    if (!isLive(session)) throw new HdError('NOT_READY', `the environment is ${this.#phase}`, { hint: 'wait for `hd up --wait`' });
    return session;
  }

  #enqueue<T>(job: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(job);
    this.#queue = result.then(() => this.#memory.worked(), () => {});
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

/** What services and commands have written over the root. */
function changesIn(session: LiveSession): ChangedPath[] {
  return session.live.changes(mountPoints(session)).map((change) => ({ ...change, path: `/${toText(change.path)}` }));
}
