import { readdirSync, watch, type FSWatcher } from 'node:fs';
import { basename, join } from 'node:path';
import { HdError, isErrno, isGone, lstatIfAny } from '@hyperdocker/base';
import { debounce, IDLE, type Batch, type DebounceEvent, type DebounceState } from './debounce.ts';
import type { Filter } from './filter.ts';

export interface WatchOptions {
  readonly filter: Filter;
  /** Quiet time before a batch goes out. */
  readonly debounceMs?: number;
  /** The longest that an event waits. */
  readonly maxWaitMs?: number;
  /** How often a `rescan` goes out though nothing was seen; 0 for never. Less often where looking at everything takes so long that it would be felt. */
  readonly rescanEveryMs?: number;
  /**
   * Paths relative to the directory, sorted in no way. A path stands for itself and, where it is not there any more, for all that was below it.
   * It is a hint: it may not have changed at all. `rescan`: look at everything.
   * @returns when it has been, where that is later
   */
  readonly onBatch: (batch: Batch) => void | Promise<void>;
  /**
   * A batch so far, a moment after its first event, where that is a few paths: a save. And again, a few times, when more of them come, for a save that takes longer or is followed
   * by another. All of them, and what may follow, come in the batch as well. Not called for a burst.
   */
  readonly onFirst?: (paths: ReadonlySet<string>) => void;
  /** `WATCH_LIMIT` (events stop, rescans go on more often) and `WATCH_FAILED`. */
  readonly onError: (error: HdError) => void;
  /** The source of events of one directory; `fs.watch` where it is left out. */
  readonly watchDirectory?: WatchDirectory;
}

export type WatchDirectory = (path: string, onEvent: (kind: 'rename' | 'change', name: string | null) => void, onError: (error: Error) => void) => { close(): void };

export interface TreeWatcher {
  /** All directories are watched: what changes from now on is reported. */
  readonly ready: Promise<void>;
  close(): void;
}

/**
 * Watches a tree by one inotify watch for each directory that the filter lets in.
 *
 * Not by `fs.watch(…, { recursive: true })`: on Linux that is the same thing done in JavaScript for every file and every directory, `node_modules` and `.git` among them,
 * with the content of new directories reported or not depending on timing. Events are a hint in either case, since the kernel's queue can overflow without
 * Node telling: a burst becomes a rescan, and a slow timer asks for one whatever happens.
 */
export function watchTree(directory: string, options: WatchOptions): TreeWatcher {
  const watcher = new DirectoryTree(directory, options);
  const ready = Promise.withResolvers<void>();
  // Later than this call, so that the caller has the handle when the first error comes.
  setImmediate(() => {
    watcher.start();
    ready.resolve();
  });
  return { ready: ready.promise, close: () => watcher.close() };
}

const DEFAULT_DEBOUNCE_MS = 50;
/** An editor that saves by a new file that takes the name is done by then. */
const FIRST_MS = 4;
const FIRST_MOST = 16;
const MOST_FIRSTS = 4;
const DEFAULT_MAX_WAIT_MS = 1_000;
const DEFAULT_RESCAN_EVERY_MS = 30_000;
/** Of the time until the next rescan, the last one took at most a part in so many. */
const RESCAN_SHARE = 300;
const MOST_RESCAN_MS = 300_000;
/** Instead of events, when there are no watches left. */
const DEGRADED_RESCAN_MS = 2_000;
const MAX_EVENTS = 1_000;

interface Watched {
  /** Device, inode and birth: an inode that was used again is another directory. */
  readonly identity: string;
  readonly handle: { close(): void };
  readonly children: Set<string>;
}

class DirectoryTree {
  readonly #root: string;
  readonly #options: WatchOptions;
  readonly #watched = new Map<string, Watched>();
  #debounce: DebounceState = IDLE;
  #timer: NodeJS.Timeout | undefined;
  #firstTimer: NodeJS.Timeout | undefined;
  /** Of the batch that is collected now. */
  #firsts = 0;
  #rescanTimer: NodeJS.Timeout | undefined;
  #degraded = false;
  #closed = false;

  constructor(root: string, options: WatchOptions) {
    this.#root = root;
    this.#options = options;
  }

  start(): void {
    if (this.#closed) return;
    this.#scheduleRescan(0);
    this.#add('', false);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#firstTimer);
    clearTimeout(this.#rescanTimer);
    this.#remove('');
  }

  #onEvent(directory: string, kind: 'rename' | 'change', name: string | null): void {
    if (this.#closed) return;
    // Not a name in UTF-8: no text can say which.
    if (name === null || name.includes('\uFFFD')) return this.#send({ kind: 'rescan', nowMs: performance.now() });
    // The end of the directory itself comes under its own name, and so may a child's event: look at both.
    if (kind === 'rename' && name === basename(join(this.#root, directory))) this.#checkSelf(directory);
    this.#look(directory === '' ? name : `${directory}/${name}`, kind);
  }

  #checkSelf(directory: string): void {
    if (directoryIdentity(join(this.#root, directory)) !== this.#watched.get(directory)?.identity) this.#look(directory, 'rename');
  }

  /** Brings the watches of one path up to date and reports it. */
  #look(path: string, kind: 'rename' | 'change'): void {
    const identity = directoryIdentity(join(this.#root, path));
    const known = this.#watched.get(path);
    // A name that was given anew may hold anything, even if it is the same directory again.
    const renewed = known !== undefined && (kind === 'rename' || known.identity !== identity);
    if (renewed) this.#remove(path);
    // A directory that held what counts, and is gone, matters even if it did not count itself.
    const lost = renewed && identity === undefined;
    if (path === '') this.#send({ kind: 'rescan', nowMs: performance.now() });
    else if (lost) this.#send({ kind: 'path', path, nowMs: performance.now() });
    else this.#report(path, identity !== undefined);
    if (identity !== undefined && (known === undefined || renewed)) this.#add(path, true);
    if (path === '' && lost) this.#fail('WATCH_FAILED', `The directory ${this.#root} is gone.`, undefined);
  }

  /** Watches a directory and all below it; the watch comes before the listing, so that nothing falls between them. */
  #add(path: string, report: boolean): void {
    if (this.#closed || !this.#options.filter.mayContain(path)) return;
    const absolute = join(this.#root, path);
    const identity = directoryIdentity(absolute);
    if (identity === undefined) return;
    if (this.#watched.has(path)) this.#remove(path);
    const handle = this.#open(path, absolute);
    if (handle === undefined) return;
    const children = new Set<string>();
    this.#watched.set(path, { identity, handle, children });
    this.#parent(path)?.children.add(path);
    for (const { name, isDirectory } of this.#list(path)) {
      const child = path === '' ? name : `${path}/${name}`;
      if (report) this.#report(child, isDirectory);
      if (isDirectory) this.#add(child, report);
    }
  }

  #open(path: string, absolute: string): { close(): void } | undefined {
    if (this.#degraded) return undefined;
    try {
      return (this.#options.watchDirectory ?? watchWithNode)(
        absolute,
        (kind, name) => this.#guarded(path, () => this.#onEvent(path, kind, name)),
        (error) => this.#guarded(path, () => this.#look(path, isErrno(error, 'ENOENT', 'EPERM') ? 'rename' : 'change')),
      );
    } catch (error) {
      if (isGone(error)) return undefined;
      if (isErrno(error, 'ENOSPC', 'EMFILE')) this.#degrade(error);
      else this.#fail('WATCH_FAILED', `The directory ${absolute} cannot be watched.`, error);
      return undefined;
    }
  }

  /** What cannot be looked at for one event is found by a rescan: an event has nobody else to take an error, and would end the process with it. */
  #guarded(path: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      this.#fail('WATCH_FAILED', `What happened in ${join(this.#root, path)} cannot be seen.`, error);
      this.#send({ kind: 'rescan', nowMs: performance.now() });
    }
  }

  /** Forgets a directory and all below it. */
  #remove(path: string): void {
    const watched = this.#watched.get(path);
    if (watched === undefined) return;
    this.#watched.delete(path);
    this.#parent(path)?.children.delete(path);
    watched.handle.close();
    for (const child of watched.children) this.#remove(child);
  }

  #parent(path: string): Watched | undefined {
    return path === '' ? undefined : this.#watched.get(path.slice(0, Math.max(0, path.lastIndexOf('/'))));
  }

  #report(path: string, isDirectory: boolean): void {
    if (this.#options.filter.decide(path, isDirectory).included) this.#send({ kind: 'path', path, nowMs: performance.now() });
  }

  #send(event: DebounceEvent): void {
    const { debounceMs = DEFAULT_DEBOUNCE_MS, maxWaitMs = DEFAULT_MAX_WAIT_MS } = this.#options;
    if (event.kind === 'path') this.#prepareFirst(Math.min(FIRST_MS, debounceMs));
    const step = debounce(this.#debounce, event, { debounceMs, maxWaitMs, maxEvents: MAX_EVENTS });
    this.#debounce = step.state;
    if (step.batch !== undefined) this.#firsts = 0;
    // While a timer is under way it is left alone: a burst of events moves no timer, the timer asks again.
    if (event.kind === 'timer' || this.#timer === undefined) this.#arm(step.wakeAtMs);
    if (step.batch === 'rescan') void this.#rescan();
    else if (step.batch !== undefined) void this.#options.onBatch(step.batch);
  }

  async #rescan(): Promise<void> {
    const startedMs = performance.now();
    this.#resync();
    await this.#options.onBatch('rescan');
    if (!this.#closed) this.#scheduleRescan(performance.now() - startedMs);
  }

  #prepareFirst(afterMs: number): void {
    if (this.#options.onFirst === undefined || this.#firstTimer !== undefined || this.#firsts >= MOST_FIRSTS) return;
    this.#firsts++;
    this.#firstTimer = setTimeout(() => this.#first(), afterMs);
  }

  #first(): void {
    this.#firstTimer = undefined;
    if (this.#debounce.kind === 'collecting' && !this.#debounce.rescan && this.#debounce.paths.size <= FIRST_MOST) this.#options.onFirst?.(new Set(this.#debounce.paths));
  }

  #arm(wakeAtMs: number | undefined): void {
    clearTimeout(this.#timer);
    this.#timer =
      wakeAtMs === undefined ? undefined : setTimeout(() => this.#send({ kind: 'timer', nowMs: performance.now() }), Math.max(1, Math.ceil(wakeAtMs - performance.now())));
  }

  /** Watches of directories whose events were lost. */
  #resync(): void {
    for (const [path, { identity }] of [...this.#watched]) {
      if (directoryIdentity(join(this.#root, path)) !== identity) this.#remove(path);
    }
    this.#addMissing('');
  }

  #addMissing(path: string): void {
    if (!this.#watched.has(path)) return this.#add(path, false);
    for (const { name, isDirectory } of this.#list(path)) {
      const child = path === '' ? name : `${path}/${name}`;
      if (isDirectory && this.#options.filter.mayContain(child)) this.#addMissing(child);
    }
  }

  #list(path: string): { name: string; isDirectory: boolean }[] {
    try {
      return readdirSync(join(this.#root, path), { withFileTypes: true }).map((entry) => ({ name: entry.name, isDirectory: entry.isDirectory() }));
    } catch (error) {
      // Gone or turned into something else since: its parent tells.
      if (!isGone(error)) this.#fail('WATCH_FAILED', `The directory ${join(this.#root, path)} cannot be read.`, error);
      return [];
    }
  }

  #scheduleRescan(tookMs: number): void {
    clearTimeout(this.#rescanTimer);
    const { rescanEveryMs = DEFAULT_RESCAN_EVERY_MS } = this.#options;
    if (rescanEveryMs === 0 && !this.#degraded) return;
    const afterMs = this.#degraded ? DEGRADED_RESCAN_MS : Math.max(rescanEveryMs, Math.min(tookMs * RESCAN_SHARE, MOST_RESCAN_MS));
    this.#rescanTimer = setTimeout(() => this.#send({ kind: 'rescan', nowMs: performance.now() }), afterMs);
  }

  #degrade(cause: unknown): void {
    this.#degraded = true;
    this.#scheduleRescan(0);
    this.#fail('WATCH_LIMIT', 'The system allows no more watched directories; changes are looked for every two seconds instead.', cause);
  }

  #fail(code: string, message: string, cause: unknown): void {
    const hint = code === 'WATCH_LIMIT' ? 'Raise the limit (sysctl fs.inotify.max_user_watches=524288) or exclude large directories.' : undefined;
    this.#options.onError(new HdError(code, message, { hint, cause }));
  }
}

const watchWithNode: WatchDirectory = (path, onEvent, onError) => {
  const watcher: FSWatcher = watch(path, onEvent);
  watcher.on('error', onError);
  return watcher;
};

/** `undefined` for what is not a directory; a symbolic link is none. */
function directoryIdentity(path: string): string | undefined {
  const stat = lstatIfAny(path);
  return stat?.isDirectory() === true ? `${stat.dev}:${stat.ino}:${stat.birthtimeNs}` : undefined;
}
