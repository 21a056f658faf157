import { join } from 'node:path';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, joinBytes, toByteString, toText } from '@hyperdocker/base';
import type { Store, Tree } from '@hyperdocker/cas';
import { findEntry, lookupPath } from '@hyperdocker/cas';
import type { Batch, Filter, Selection, TreeWatcher } from '@hyperdocker/watch';
import { createSelection, watchTree } from '@hyperdocker/watch';
import type { PullReply, PullRequest, PulledFile } from './api.ts';
import type { Ingested } from './ingest.ts';
import type { LiveRoot } from './live-root.ts';
import { OpenDir } from './open-dir.ts';
import type { PullOptions } from './pull.ts';
import { Puller } from './pull.ts';
import { versionOf, versionText } from './version-at.ts';

export interface SyncBackOptions {
  store: Store;
  live: LiveRoot;
  /** Where the project lies inside, as in a tree. */
  workdir: ByteString;
  projectDir: string;
  clashesDir: string;
  recordFile: string;
  /** `[files] sync_back`. */
  patterns: readonly string[];
  /** What belongs to the project at all. */
  filter: Filter;
  /** The project's files, as they were given last. */
  given: () => Pick<Ingested, 'source' | 'projected'>;
  /** What the container runtime makes for its own mounts. */
  mountTargets: () => ReadonlySet<ByteString>;
}

/** How often in a row a step may write a file anew that was brought out: each time the step runs again, if it has read it. */
const MAX_ROUNDS = 3;

/** What comes out neither by itself nor when it is asked for: it decides what runs on the host. */
const NEVER_ASKED = /(?:^|\/)\.git(?:\/|$)/;
const NEVER_BY_ITSELF = /^hd\.toml$/;

/** Brings files of a live environment to the host: those that `sync_back` names by themselves, any others when they are asked for. */
export class SyncBack {
  readonly #options: SyncBackOptions;
  readonly #puller: Puller;
  readonly #insideDir: string;
  readonly #own: Selection;
  #filter: Filter;
  /** By path: how often a step's output was brought out since the last edit on the host. */
  readonly #rounds = new Map<string, number>();
  #watcher: TreeWatcher | undefined;

  constructor(options: SyncBackOptions) {
    this.#options = options;
    this.#filter = options.filter;
    this.#insideDir = join(options.live.merged, toText(options.workdir));
    this.#puller = new Puller({ ...options, insideDir: this.#insideDir });
    const named = createSelection(options.patterns, (directory) => this.#isGiven(directory));
    this.#own = {
      takes: (path) => named.takes(path) && !NEVER_ASKED.test(path) && !NEVER_BY_ITSELF.test(path) && this.#filter.decide(path, false).included,
      mayContain: (directory) => named.mayContain(directory) && !NEVER_ASKED.test(directory) && this.#filter.mayContain(directory),
    };
  }

  get isOn(): boolean {
    return this.#options.patterns.length > 0;
  }

  /** Tells when something that `sync_back` names may have been written inside. */
  watch(onBatch: (batch: Batch) => void, onError: (error: HdError) => void): void {
    if (!this.isOn) return;
    const { takes, mayContain } = this.#own;
    const filter: Filter = { key: '', decide: (path, isDirectory) => ({ included: !isDirectory && takes(path), rule: 'sync_back' }), mayContain };
    this.#watcher = watchTree(this.#insideDir, { filter, onBatch, onError });
  }

  refilter(filter: Filter): void {
    this.#filter = filter;
  }

  close(): void {
    this.#watcher?.close();
  }

  /** An edit on the host: what follows from it is new. */
  edited(): void {
    this.#rounds.clear();
  }

  /** What `sync_back` names and has changed. @param batch where to look */
  run(batch: Batch, options: PullOptions = {}): PulledFile[] {
    const outputs = new Set(this.#outputs(this.#own));
    const paths = batch === 'rescan' ? [...new Set([...outputs, ...this.#written(this.#own)])] : [...batch].filter((path) => this.#own.takes(path)).map(toByteString);
    const before = new Map(this.#rounds);
    const isTired = (path: ByteString): boolean => outputs.has(path) && (before.get(path) ?? 0) >= MAX_ROUNDS;
    const files = this.#pull(paths.filter((path) => !isTired(path)), options);
    for (const path of files.filter(({ outcome }) => outcome === 'written').map((file) => toByteString(file.path))) {
      if (outputs.has(path)) this.#rounds.set(path, (this.#rounds.get(path) ?? 0) + 1);
    }
    return [...files, ...paths.filter(isTired).map((path): PulledFile => ({ path: toText(path), outcome: 'refused', reason: 'a step that reads it writes it anew each time' }))];
  }

  /** @throws HdError USAGE where nothing is named at all */
  pull({ paths, dryRun = false, overwrite = false }: PullRequest): PullReply {
    const options = { dryRun, overwrite };
    if (paths.length === 0 && !this.isOn) throw new HdError('USAGE', 'there is nothing that `hd pull` should bring out', { hint: 'name files or directories, or set `sync_back` in [files] of hd.toml' });
    if (paths.length === 0) return { files: this.run('rescan', options), unmatched: [] };
    const named = paths.map((text) => ({ text, selection: createSelection([`/${text}`], () => false) }));
    const all: Selection = { takes: (path) => !NEVER_ASKED.test(path) && named.some(({ selection }) => selection.takes(path)), mayContain: (directory) => named.some(({ selection }) => selection.mayContain(directory)) };
    const found = [...new Set([...this.#outputs(all), ...this.#written(all)])];
    const unmatched = named.filter(({ text, selection }) => !found.some((path) => selection.takes(toText(path))) && !this.#isInside(toByteString(text))).map(({ text }) => text);
    return { files: this.#pull(found, { ...options, asked: true }), unmatched };
  }

  #pull(paths: readonly ByteString[], options: PullOptions): PulledFile[] {
    const { given, live, workdir } = this.#options;
    return this.#puller.pull({ source: given().source, applied: live.applied, workdir }, paths.toSorted(), options);
  }

  /** Files that services and commands have written. */
  #written({ takes, mayContain }: Selection): ByteString[] {
    const { live, workdir, mountTargets } = this.#options;
    const below = `${workdir}/`;
    const wanted = (path: ByteString, isDirectory: boolean): boolean => {
      if (below.startsWith(`${path}/`)) return true;
      if (!path.startsWith(below)) return false;
      const inProject = toText(path.slice(below.length) as ByteString);
      return isDirectory ? mayContain(inProject) : takes(inProject);
    };
    return live.changes(mountTargets(), wanted).filter(({ path, change, kind }) => path.startsWith(below) && change !== 'removed' && kind !== 'dir').map(({ path }) => path.slice(below.length) as ByteString);
  }

  /** Files that steps have laid over those of the project. */
  #outputs(selection: Selection): ByteString[] {
    const { store, given, live, workdir } = this.#options;
    const shown = lookupPath(store, live.applied, workdir);
    return shown?.kind === 'dir' ? [...this.#laid('' as ByteString, shown.digest, given().projected, selection)] : [];
  }

  *#laid(path: ByteString, shown: TreeDigest, given: TreeDigest | undefined, selection: Selection): Generator<ByteString> {
    if (shown === given) return;
    const { store } = this.#options;
    const known: Tree = given === undefined ? [] : store.getTree(given);
    for (const entry of store.getTree(shown)) {
      const child = joinBytes(path, entry.name);
      const before = findEntry(known, entry.name);
      if (entry.kind === 'dir') {
        if (selection.mayContain(toText(child))) yield* this.#laid(child, entry.digest, before?.kind === 'dir' ? before.digest : undefined, selection);
      } else if (versionText(versionOf(entry)) !== versionText(versionOf(before)) && selection.takes(toText(child))) yield child;
    }
  }

  #isInside(path: ByteString): boolean {
    using dir = OpenDir.parentOf(this.#insideDir, path);
    return dir?.stat(path.slice(path.lastIndexOf('/') + 1) as ByteString) !== undefined;
  }

  #isGiven(directory: string): boolean {
    return directory === '' || lookupPath(this.#options.store, this.#options.given().source, toByteString(directory))?.kind === 'dir';
  }
}
