import { toText } from '@hyperdocker/base';
import type { Store, TreeChange } from '@hyperdocker/cas';
import { diffTrees } from '@hyperdocker/cas';
import type { Batch } from '@hyperdocker/watch';
import type { Build } from './build.ts';
import { changeEvent, watchedPaths } from './change-events.ts';
import type { EnvironmentBuilds } from './environment-builds.ts';
import type { EnvironmentRoot } from './environment-root.ts';
import type { Emit, Warn } from './events.ts';
import type { EnvPaths } from './home.ts';
import type { ProjectWatch } from './project-watch.ts';
import { namesIgnoreFile } from './project-watch.ts';
import type { LiveSession } from './session.ts';
import { WriteLease } from './write-lease.ts';

export interface ProjectEditsOptions {
  store: Store;
  paths: EnvPaths;
  watch: ProjectWatch;
  builds: EnvironmentBuilds;
  root: EnvironmentRoot;
  emit: Emit;
  warn: Warn;
}

/** Takes edits of a project's files into its live environment: into the store, through the steps that they call for, into the root, and to the services that watch them. */
export class ProjectEdits {
  readonly #options: ProjectEditsOptions;

  constructor(options: ProjectEditsOptions) {
    this.#options = options;
  }

  /**
   * Shows a save inside before the batch is complete that it begins: who watches files there need not wait for those who start processes. It builds nothing, and for the batch
   * it is as if it had not been.
   */
  showFirst(session: LiveSession, paths: ReadonlySet<string>): void {
    if (paths.has('hd.toml') || namesIgnoreFile(session.spec, paths)) return;
    const { store, paths: { id }, builds, root } = this.#options;
    using _lease = store.lease(`hd edit ${id}`);
    const ingested = builds.ingest(session.ingest, paths);
    const from = session.first ?? session.ingested.projected;
    if (ingested.projected === from) return;
    session.syncBack.edited();
    session.first = ingested.projected;
    root.showEdits(session, [...diffTrees(store, from, ingested.projected)]);
  }

  /**
   * What is in a batch is a hint: its files are compared with what is known of them, so a touch does nothing. What no batch told is found by the next rescan.
   * @param pulled files that came from inside: no edits for those who are there
   * @returns how many steps ran; none also where the build has failed
   */
  async apply(session: LiveSession, batch: Batch, pulled: ReadonlySet<string>): Promise<{ ran: number }> {
    const { store, paths: { id }, builds, root, emit } = this.#options;
    const started = performance.now();
    this.#reloadFilter(session, batch);
    using lease = new WriteLease(store, `hd edit ${id}`);
    const ingested = builds.ingest(session.ingest, batch);
    // What was shown of it before, and is otherwise now, has to be shown again, even if all is as it was.
    const { first = session.ingested.projected } = session;
    session.first = undefined;
    const toShow = [...diffTrees(store, first, ingested.projected)];
    // Of a file that was changed and changed back meanwhile, the time is another one.
    if (ingested.source === session.ingested.source && (first !== session.ingested.projected || ingested.projected === first)) {
      if (toShow.length > 0) root.showEdits(session, toShow);
      session.ingested = ingested;
      return { ran: 0 };
    }
    const edits = [...diffTrees(store, session.ingested.source, ingested.source)];
    const projected = [...diffTrees(store, session.ingested.projected, ingested.projected)];
    session.ingested = ingested;
    const isNews = (path: string): boolean => !pulled.has(path);
    if (pulled.size === 0) session.syncBack.edited();
    const built = await this.#build(session, lease, toShow);
    if (built === undefined) return { ran: 0 };
    const shown = root.show(session, built.tree);
    session.build = built;
    session.root = builds.commit(session.plan, ingested, built);
    root.forgetEdits();
    const news = edits.filter(({ path }) => isNews(toText(path)));
    if (news.length > 0 || built.ran > 0) emit(changeEvent(news, ingested.files, { ms: performance.now() - started, ran: built.ran }));
    session.services.change(watchedPaths(projected, shown, session.plan.workdir).filter(isNews));
    return { ran: built.ran };
  }

  /** Undefined: it has failed, and what was edited is shown all the same. */
  async #build(session: LiveSession, lease: WriteLease, toShow: readonly TreeChange[]): Promise<Build | undefined> {
    const { builds, root, warn } = this.#options;
    try {
      // Where a step has to run, the edits are put in place first: services that reload by themselves need not wait.
      return await builds.build(session.plan, session.ingested, lease, { onFirstRun: () => root.showEdits(session, toShow) });
    } catch (error) {
      root.showEdits(session, toShow);
      warn(error, 'the services go on with what was built before');
      return undefined;
    }
  }

  /** Where an ignore file has changed, other files belong to the environment. */
  #reloadFilter(session: LiveSession, batch: Batch): void {
    const { watch, builds } = this.#options;
    const { spec } = session;
    if (spec.files.ignoreFiles.length === 0 || (batch !== 'rescan' && !namesIgnoreFile(spec, batch))) return;
    const filter = watch.filter(spec);
    if (filter.key === session.filter.key) return;
    session.filter = filter;
    session.ingest = builds.intake(filter, session.plan);
    session.syncBack.refilter(filter);
    watch.restart(spec);
  }
}
