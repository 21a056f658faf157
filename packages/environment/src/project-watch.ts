import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { HdError } from '@hyperdocker/base';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Batch, Filter, TreeWatcher } from '@hyperdocker/watch';
import { watchTree } from '@hyperdocker/watch';
import type { Home, Project } from './home.ts';
import { projectFilter } from './project-filter.ts';

const LONG_MS = 1_000;

export interface ProjectWatchOptions {
  home: Home;
  project: Project;
  hostEnv: NodeJS.ProcessEnv;
  /** Files may have changed. */
  onBatch: (batch: Batch) => void;
  /** The first of a batch to come. */
  onFirst: (paths: ReadonlySet<string>) => void;
  onError: (error: HdError) => void;
}

/** Sees edits of a project's files, as far as these belong to its environment. */
export class ProjectWatch {
  readonly #options: ProjectWatchOptions;
  #watcher: TreeWatcher | undefined;

  constructor(options: ProjectWatchOptions) {
    this.#options = options;
  }

  /** Which files belong to the environment, by the ignore files as they are now. */
  filter(spec: EnvSpec, include?: string[]): Filter {
    const { home, project, hostEnv } = this.#options;
    return projectFilter({ home, project, env: hostEnv }, spec, include);
  }

  /**
   * From now on, in the place of what was watched before.
   * @param after somebody waits for it, and what has to be looked at once more lets it go first, unless it takes long
   */
  start(spec: EnvSpec, { after }: { after?: Promise<unknown> | undefined } = {}): void {
    const { project, onBatch, onFirst, onError } = this.#options;
    // hd.toml counts even where [files] leaves it out, and so do files that say what counts.
    const filter = this.filter(spec, spec.files.include.length === 0 ? undefined : [...spec.files.include, 'hd.toml', ...spec.files.ignoreFiles.map((name) => `**/${name}`)]);
    this.close();
    const { debounceMs, debounceMaxMs } = spec.options;
    this.#watcher = watchTree(project.dir, { filter, debounceMs, maxWaitMs: debounceMaxMs, onBatch, onFirst, onError });
    // What was edited between the scan and the first watch has sent no event.
    const done = Promise.resolve(after).catch(() => {});
    void Promise.all([this.#watcher.ready, Promise.race([done, delay(LONG_MS, undefined, { ref: false })])]).then(() => onBatch('rescan'));
  }

  /** By other rules, where anything is watched at all. */
  restart(spec: EnvSpec): void {
    if (this.#watcher !== undefined) this.start(spec);
  }

  close(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
  }
}

/** One of these files says which files belong to the environment. */
export function namesIgnoreFile({ files: { ignoreFiles } }: EnvSpec, paths: ReadonlySet<string>): boolean {
  return [...paths].some((path) => ignoreFiles.includes(basename(path)));
}
