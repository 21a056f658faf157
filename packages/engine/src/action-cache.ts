import type { ActionDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { RefTarget, Store } from '@hyperdocker/cas';
import type { ActionResult } from './action.ts';
import { decodeResult, encodeResult } from './action.ts';
import type { RunRow } from './action-rows.ts';
import { ActionRows } from './action-rows.ts';
import type { Askers, PathSet, Trace } from './facts.ts';
import { StoredPathSet, askerOf, contentKey, decodeAskers, decodePathSet, encodeAskers, encodePathSet, firstDifference, sameFacts } from './facts.ts';

/**
 * Definition key → recorded path sets → content key → result (BuildXL's two-phase look-up). Rows point at nodes of the
 * store; a row whose nodes are gone is a miss. Losing the whole cache costs time, never correctness.
 */
export interface ActionCache extends Disposable {
  find(definition: ActionDigest, input: TreeDigest): Hit | Miss;
  record(definition: ActionDigest, input: TreeDigest, trace: Trace, result: ActionResult): void;
  /** The newest run of this definition that answers for `input`, whole: what `find` takes its hit from. */
  recorded(definition: ActionDigest, input: TreeDigest): RecordedRun | undefined;
  /** The newest run of this definition on whatever input. */
  newest(definition: ActionDigest): RecordedRun | undefined;
  /** The runs of this definition whose facts a look-up compares, those used last first. Lazy. */
  runs(definition: ActionDigest): Iterable<RecordedRun>;
  /** Nodes that GC must keep for rows used since `sinceMs`. */
  roots(sinceMs: number): RefTarget[];
  /** Forgets rows not used since `sinceMs`. */
  prune(sinceMs: number): void;
  /** One for each result used since `sinceMs`, those used last first. */
  results(sinceMs: number): CachedResult[];
  /** Forgets single results: their next look-up is a miss. */
  forget(results: Iterable<Pick<CachedResult, 'definition' | 'content'>>): void;
}

/** A row of the cache: what GC must keep for it. */
export interface CachedResult {
  definition: string;
  content: string;
  roots: RefTarget[];
  usedMs: number;
}

/** One run that the cache knows: on which tree, what it looked at there, and what it left. */
export interface RecordedRun extends Trace { input: TreeDigest; result: ActionResult; usedMs: number }

export interface Hit { kind: 'hit'; result: ActionResult; /** How many facts were compared; 0 when the whole tree was the same. */ facts: number }
export type MissReason =
  | { why: 'never-ran' }
  /** `asked`: the questions that are answered otherwise. `by`: the program that looked at the path first, where that is known. */
  | { why: 'changed'; path: string; asked: number; before: string; after: string; by?: string }
  | { why: 'results-gone' }
  /** Something that it looked at: what it saw then is no longer in the store to compare. */
  | { why: 'changed-unknown' };
export interface Miss { kind: 'miss'; reason: MissReason }

/** Newest path sets tried per definition; older ones stay but are not looked at. */
const MAX_PATH_SETS = 16;
/** Decoded path sets kept, of some thousand paths each. */
const MAX_DECODED = 64;

export function openActionCache(file: string, store: Store): ActionCache {
  return new StoredActionCache(new ActionRows(file), store);
}

class StoredActionCache implements ActionCache {
  readonly #rows: ActionRows;
  readonly #store: Store;
  /** Decoded once: a supervisor asks with every edit. */
  readonly #decoded = new Map<string, PathSet>();
  readonly #stored = new Map<string, StoredPathSet>();

  constructor(rows: ActionRows, store: Store) {
    this.#rows = rows;
    this.#store = store;
  }

  find(definition: ActionDigest, input: TreeDigest): Hit | Miss {
    const now = Date.now();
    const exact = this.#rows.byInput(definition, input);
    const same = exact === undefined ? undefined : this.#load(exact);
    if (exact !== undefined && same !== undefined) {
      this.#rows.touch(exact, now, input);
      return { kind: 'hit', result: same, facts: 0 };
    }
    const rows = this.#rows.byDefinition(definition);
    const found = this.#nearestRun(rows, input) ?? this.#runOfSameContent(rows, definition, input);
    if (found === undefined) return { kind: 'miss', reason: this.#explain(rows[0], input) };
    this.#rows.touch(found.row, now, input);
    this.#rows.putExact(found.row, input, now);
    return { kind: 'hit', result: found.result, facts: found.facts };
  }

  record(definition: ActionDigest, input: TreeDigest, trace: Trace, result: ActionResult): void {
    const store = this.#store;
    const nodes = { paths: store.putNode(encodePathSet(trace.paths)), askers: store.putNode(encodeAskers(trace)), result: store.putNode(encodeResult(result)) };
    const content = contentKey(store, definition, trace.paths, input);
    store.flush();
    const row = { definition, content, input, ...nodes, used_ms: Date.now() };
    this.#rows.put(row);
    this.#rows.putExact(row, input, row.used_ms);
  }

  recorded(definition: ActionDigest, input: TreeDigest): RecordedRun | undefined {
    return this.#toRecorded(this.#rows.byInput(definition, input));
  }

  newest(definition: ActionDigest): RecordedRun | undefined {
    return this.#toRecorded(this.#rows.newest(definition));
  }

  *runs(definition: ActionDigest): Generator<RecordedRun, void> {
    const pathSets = new Set<string>();
    for (const row of this.#rows.byDefinition(definition)) {
      if (pathSets.add(row.paths).size > MAX_PATH_SETS) return;
      const run = this.#toRecorded(row);
      if (run !== undefined) yield run;
    }
  }

  roots(sinceMs: number): RefTarget[] {
    return this.#rows.since(sinceMs).flatMap(rootsOf);
  }

  prune(sinceMs: number): void {
    this.#rows.removeBefore(sinceMs);
  }

  results(sinceMs: number): CachedResult[] {
    return this.#rows.since(sinceMs).map((row) => ({ definition: row.definition, content: row.content, roots: rootsOf(row), usedMs: row.used_ms }));
  }

  forget(results: Iterable<Pick<CachedResult, 'definition' | 'content'>>): void {
    this.#rows.remove(results);
  }

  [Symbol.dispose](): void {
    this.#rows[Symbol.dispose]();
  }

  #load(row: RunRow): ActionResult | undefined {
    const store = this.#store;
    if (!store.hasNode(row.result as NodeDigest)) return undefined;
    const result = decodeResult(store.getNode(row.result as NodeDigest));
    return store.hasTree(result.delta) ? result : undefined;
  }

  /** The newest path set is tried first against the tree that it was recorded on: where little differs, little is read. */
  #nearestRun([row]: RunRow[], input: TreeDigest): FoundRun | undefined {
    if (row === undefined || !this.#store.hasTree(row.input as TreeDigest) || !this.#store.hasNode(row.paths as NodeDigest)) return undefined;
    const paths = kept(this.#stored, row.paths, () => new StoredPathSet(this.#store.getNode(row.paths as NodeDigest)));
    if (!sameFacts(this.#store, paths, row.input as TreeDigest, input)) return undefined;
    const result = this.#load(row);
    return result === undefined ? undefined : { row, result, facts: paths.size };
  }

  #runOfSameContent(rows: RunRow[], definition: ActionDigest, input: TreeDigest): FoundRun | undefined {
    const tried = new Set<string>();
    for (const row of rows) {
      if (tried.has(row.paths)) continue;
      if (tried.add(row.paths).size > MAX_PATH_SETS) break;
      if (!this.#store.hasNode(row.paths as NodeDigest)) continue;
      const paths = this.#pathSet(row);
      const found = this.#rows.byContent(definition, contentKey(this.#store, definition, paths, input));
      const result = found === undefined ? undefined : this.#load(found);
      if (found !== undefined && result !== undefined) return { row: found, result, facts: paths.size };
    }
    return undefined;
  }

  #pathSet({ paths: digest }: RunRow): PathSet {
    return kept(this.#decoded, digest, () => decodePathSet(this.#store.getNode(digest as NodeDigest)));
  }

  #askers({ askers }: RunRow, paths: PathSet): Askers {
    return askers !== null && this.#store.hasNode(askers as NodeDigest) ? decodeAskers(this.#store.getNode(askers as NodeDigest), paths) : new Map();
  }

  #toRecorded(row: RunRow | undefined): RecordedRun | undefined {
    const result = row === undefined ? undefined : this.#load(row);
    if (row === undefined || result === undefined || !this.#store.hasNode(row.paths as NodeDigest)) return undefined;
    const paths = this.#pathSet(row);
    return { paths, askers: this.#askers(row, paths), input: row.input as TreeDigest, result, usedMs: row.used_ms };
  }

  #explain(last: RunRow | undefined, input: TreeDigest): MissReason {
    if (last === undefined) return { why: 'never-ran' };
    if (!this.#store.hasNode(last.paths as NodeDigest)) return { why: 'results-gone' };
    if (!this.#store.hasTree(last.input as TreeDigest)) return { why: 'changed-unknown' };
    const paths = this.#pathSet(last);
    const difference = firstDifference(this.#store, paths, last.input as TreeDigest, input);
    if (difference === undefined) return { why: 'results-gone' };
    const { path, changed, before, after } = difference;
    const by = askerOf(this.#askers(last, paths), path, changed);
    return { why: 'changed', path, asked: changed, before: describe(before), after: describe(after), ...(by === undefined ? {} : { by }) };
  }
}

interface FoundRun { row: RunRow; result: ActionResult; facts: number }

function kept<T>(cache: Map<string, T>, digest: string, decode: () => T): T {
  const known = cache.get(digest);
  if (known !== undefined) return known;
  if (cache.size >= MAX_DECODED) cache.clear();
  const value = decode();
  cache.set(digest, value);
  return value;
}

function rootsOf({ paths, result, askers }: RunRow): RefTarget[] {
  return [paths, result, askers].filter((digest) => digest !== null).map((digest) => ({ kind: 'node', digest }));
}

function describe(entry: { kind: string; digest?: string; mode: number } | undefined): string {
  if (entry === undefined) return 'absent';
  return entry.digest === undefined ? entry.kind : `${entry.kind} ${entry.digest.slice(0, 12)}`;
}
