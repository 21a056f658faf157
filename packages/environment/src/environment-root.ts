import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, toText } from '@hyperdocker/base';
import type { Store, TreeChange } from '@hyperdocker/cas';
import { lookupPath } from '@hyperdocker/cas';
import { detachBelow } from '@hyperdocker/mount';
import type { EnvSpec } from '@hyperdocker/spec';
import { applyEdits } from './edits.ts';
import type { EnvironmentContainers } from './environment-containers.ts';
import type { Emit, Warn } from './events.ts';
import { EXEC } from './execs.ts';
import type { FileServer } from './file-server.ts';
import type { EnvPaths, Home } from './home.ts';
import { RootKeeper } from './left-root.ts';
import type { LiveRecord } from './live-record.ts';
import type { Clash, LiveRootOptions } from './live-root.ts';
import { LiveRoot } from './live-root.ts';
import type { Inhabited, Session } from './session.ts';
import { specDigest } from './spec-digest.ts';
import { inTree } from './step-runner.ts';
import { TreePin } from './tree-pin.ts';

export interface EnvironmentRootOptions {
  store: Store;
  home: Home;
  paths: EnvPaths;
  hostEnv: NodeJS.ProcessEnv;
  files: FileServer;
  /** What runs on it, also what a supervisor before has left running. */
  containers: EnvironmentContainers;
  /** With what the environment was started: a supervisor that goes on with the root does the same. */
  start: Pick<LiveRecord, 'watch' | 'profiles'>;
  emit: Emit;
  warn: Warn;
}

/**
 * The root of an environment: mounted, or gone on with where a supervisor before has left it; brought to what was built or edited; kept for a supervisor to come. Holds
 * in the store what it shows.
 */
export class EnvironmentRoot {
  readonly #options: EnvironmentRootOptions;
  readonly #keeper: RootKeeper;
  /** What it was mounted with. */
  readonly #mountedPin: TreePin;
  /** What it was brought to, where no build has come to that. */
  readonly #shownPin: TreePin;

  constructor(options: EnvironmentRootOptions) {
    this.#options = options;
    const { store, home, paths, hostEnv } = options;
    this.#keeper = new RootKeeper({ store, home, paths, env: hostEnv });
    this.#mountedPin = new TreePin(store, `the root of ${paths.id}`);
    this.#shownPin = new TreePin(store, `edits in ${paths.id}`);
  }

  /** Mounts what the session has built. `adopted`: it was mounted already, and shows that now. */
  async open(session: Session): Promise<{ live: LiveRoot; adopted: boolean }> {
    const { store, files } = this.#options;
    const { spec, build: { tree } } = session;
    // Files of this tree stay in use until the root is unmounted, whatever the environment's tree becomes meanwhile.
    this.#mountedPin.hold(tree);
    const adopted = await this.#adopt(session);
    return { live: adopted ?? (await LiveRoot.mount(files.projector(store), this.#liveOptions(tree, spec))), adopted: adopted !== undefined };
  }

  /** From now on it outlives this process. */
  async keep({ live, spec }: Pick<Inhabited, 'live' | 'spec'>): Promise<void> {
    const { files: { host }, containers: { runtimePath }, start: { watch, profiles } } = this.#options;
    if (host === undefined) return;
    await this.#keeper.keep(host, { tree: live.mountedTree, applied: live.applied, overlay: spec.options.overlay, spec: specDigest(spec), runtime: runtimePath, watch, profiles });
  }

  /** Brings it to what was built. Returns what differed. */
  show(session: Pick<Inhabited, 'live' | 'plan' | 'ingested'>, tree: TreeDigest): TreeChange[] {
    const { changes, clashes } = session.live.apply(tree, this.#sourcesOf(session));
    for (const clash of clashes) this.#emitClash(clash);
    return changes;
  }

  /** Brings it to what was edited, which no build has come to yet. */
  showEdits(session: Pick<Inhabited, 'live' | 'plan' | 'ingested'>, edits: readonly TreeChange[]): void {
    const tree = applyEdits(this.#options.store, session.live.applied, inTree(session.plan.workdir), edits);
    this.show(session, tree);
    // No other ref is going to name it.
    this.#shownPin.hold(tree);
    this.#keeper.shows(tree);
  }

  /** A build has come to what it shows. */
  forgetEdits(): void {
    this.#shownPin[Symbol.dispose]();
  }

  /** Nothing may use it. */
  async unmount(live: LiveRoot): Promise<void> {
    await this.#keeper.release(this.#options.files.host);
    await live.unmount();
  }

  /** Holds nothing in the store any more. */
  letGo(): void {
    this.#mountedPin[Symbol.dispose]();
    this.#shownPin[Symbol.dispose]();
  }

  /** The root that was left, showing what was built now. Undefined: there is none that could be gone on with. */
  async #adopt(session: Session): Promise<LiveRoot | undefined> {
    // Until here it could be left once more.
    const left = this.#options.files.takeLeft();
    if (left === undefined) return undefined;
    const { store, paths, files, containers, warn } = this.#options;
    const { record, host } = left;
    await containers.end((id) => !id.includes(`-${EXEC}`));
    detachBelow(paths.stepsDir);
    try {
      if (record.spec !== specDigest(session.spec)) throw new HdError('SPEC_CHANGED', 'hd.toml has changed since the environment was made');
      this.#keeper.resume(record);
      const { live, clashes } = LiveRoot.adopt({ ...files.projector(store), fuse: host }, this.#liveOptions(record.tree, session.spec), record, this.#sourcesOf(session));
      for (const clash of clashes) this.#emitClash(clash);
      this.show({ ...session, live }, session.build.tree);
      this.#mountedPin.hold(record.tree);
      return live;
    } catch (error) {
      warn(error, 'what was written inside is given up, and the root is made anew');
      await containers.end();
      await files.replace();
      this.#keeper.forget();
      return undefined;
    }
  }

  #liveOptions(tree: TreeDigest, spec: EnvSpec): LiveRootOptions {
    const { liveDir, clashesDir } = this.#options.paths;
    return { tree, dir: liveDir, clashesDir, overlay: spec.options.overlay, onApply: (state) => this.#keeper.applied(state) };
  }

  #sourcesOf({ plan, ingested }: Pick<Session, 'plan' | 'ingested'>): (path: ByteString) => boolean {
    const dir = inTree(plan.workdir);
    return (path) => {
      if (dir !== '' && !path.startsWith(`${dir}/`)) return false;
      return lookupPath(this.#options.store, ingested.source, path.slice(dir === '' ? 0 : dir.length + 1) as ByteString) !== undefined;
    };
  }

  #emitClash({ path, keptAt, inside, host }: Clash): void {
    this.#options.emit({ type: 'clash', path: toText(path), keptAt, inside, ...(host === undefined ? {} : { host }) });
  }
}
