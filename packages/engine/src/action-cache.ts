import { DatabaseSync } from 'node:sqlite';
import type { ActionDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { RefTarget, Store } from '@hyperdocker/cas';
import type { ActionResult } from './action.ts';
import { decodeResult, encodeResult } from './action.ts';
import type { PathSet, Trace } from './facts.ts';
import { askerOf, contentKey, decodeAskers, decodePathSet, encodeAskers, encodePathSet, firstDifference, sameFacts } from './facts.ts';

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
  const db = new DatabaseSync(file);
  db.exec(`PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS runs (
      definition TEXT NOT NULL, content TEXT NOT NULL, paths TEXT NOT NULL, input TEXT NOT NULL, result TEXT NOT NULL,
      used_ms INTEGER NOT NULL, PRIMARY KEY (definition, content)) WITHOUT ROWID;
    CREATE INDEX IF NOT EXISTS runs_by_use ON runs (definition, used_ms DESC);
    CREATE TABLE IF NOT EXISTS exact (
      definition TEXT NOT NULL, input TEXT NOT NULL, content TEXT NOT NULL, used_ms INTEGER NOT NULL,
      PRIMARY KEY (definition, input)) WITHOUT ROWID;`);
  addColumn(db, 'runs', 'askers'); // null in rows from before it
  const decoded = new Map<string, PathSet>();
  const byInput = db.prepare('SELECT runs.* FROM exact JOIN runs USING (definition, content) WHERE exact.definition = ? AND exact.input = ?');
  const byDefinition = db.prepare('SELECT * FROM runs WHERE definition = ? ORDER BY used_ms DESC');
  const byContent = db.prepare('SELECT * FROM runs WHERE definition = ? AND content = ?');
  const putRun = db.prepare('INSERT INTO runs (definition, content, paths, input, result, used_ms, askers) VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET input = excluded.input, paths = excluded.paths, result = excluded.result, used_ms = excluded.used_ms, askers = excluded.askers');
  const putExact = db.prepare('INSERT INTO exact VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET content = excluded.content, used_ms = excluded.used_ms');
  const touch = db.prepare('UPDATE runs SET used_ms = ? WHERE definition = ? AND content = ?');

  function load(row: RunRow): ActionResult | undefined {
    if (!store.hasNode(row.result as NodeDigest)) return undefined;
    const result = decodeResult(store.getNode(row.result as NodeDigest));
    return store.hasTree(result.delta) ? result : undefined;
  }

  /** The newest path set is tried first against the tree that it was recorded on: where little differs, little is read. */
  function nearestRun([row]: RunRow[], input: TreeDigest): FoundRun | undefined {
    if (row === undefined || !store.hasTree(row.input as TreeDigest) || !store.hasNode(row.paths as NodeDigest)) return undefined;
    const paths = pathSet(row.paths);
    if (!sameFacts(store, paths, row.input as TreeDigest, input)) return undefined;
    const result = load(row);
    return result === undefined ? undefined : { content: row.content, result, facts: paths.size };
  }

  function runOfSameContent(rows: RunRow[], definition: ActionDigest, input: TreeDigest): FoundRun | undefined {
    const tried = new Set<string>();
    for (const row of rows) {
      if (tried.has(row.paths)) continue;
      if (tried.add(row.paths).size > MAX_PATH_SETS) break;
      if (!store.hasNode(row.paths as NodeDigest)) continue;
      const paths = pathSet(row.paths);
      const content = contentKey(store, definition, paths, input);
      const found = byContent.get(definition, content) as RunRow | undefined;
      const result = found === undefined ? undefined : load(found);
      if (result !== undefined) return { content, result, facts: paths.size };
    }
    return undefined;
  }

  /** Decoded once: a supervisor asks with every edit. */
  function pathSet(digest: string): PathSet {
    let paths = decoded.get(digest);
    if (paths === undefined) {
      if (decoded.size >= MAX_DECODED) decoded.clear();
      decoded.set(digest, (paths = decodePathSet(store.getNode(digest as NodeDigest))));
    }
    return paths;
  }

  function toRecorded(row: RunRow | undefined): RecordedRun | undefined {
    const result = row === undefined ? undefined : load(row);
    if (row === undefined || result === undefined || !store.hasNode(row.paths as NodeDigest)) return undefined;
    const paths = pathSet(row.paths);
    const known = row.askers !== null && store.hasNode(row.askers as NodeDigest);
    return { paths, askers: known ? decodeAskers(store.getNode(row.askers as NodeDigest), paths) : new Map(), input: row.input as TreeDigest, result, usedMs: row.used_ms };
  }

  function explain(definition: ActionDigest, input: TreeDigest): MissReason {
    const last = byDefinition.get(definition) as RunRow | undefined;
    if (last === undefined) return { why: 'never-ran' };
    if (!store.hasNode(last.paths as NodeDigest)) return { why: 'results-gone' };
    if (!store.hasTree(last.input as TreeDigest)) return { why: 'changed-unknown' };
    const paths = pathSet(last.paths);
    const difference = firstDifference(store, paths, last.input as TreeDigest, input);
    if (difference === undefined) return { why: 'results-gone' };
    const { path, changed, before, after } = difference;
    const known = last.askers !== null && store.hasNode(last.askers as NodeDigest);
    const by = known ? askerOf(decodeAskers(store.getNode(last.askers as NodeDigest), paths), path, changed) : undefined;
    return { why: 'changed', path, asked: changed, before: describe(before), after: describe(after), ...(by === undefined ? {} : { by }) };
  }

  return {
    find(definition, input) {
      const now = Date.now();
      const exact = byInput.get(definition, input) as RunRow | undefined;
      const same = exact === undefined ? undefined : load(exact);
      if (exact !== undefined && same !== undefined) {
        touch.run(now, definition, exact.content);
        return { kind: 'hit', result: same, facts: 0 };
      }
      const rows = byDefinition.all(definition) as unknown as RunRow[];
      const found = nearestRun(rows, input) ?? runOfSameContent(rows, definition, input);
      if (found === undefined) return { kind: 'miss', reason: explain(definition, input) };
      touch.run(now, definition, found.content);
      putExact.run(definition, input, found.content, now);
      return { kind: 'hit', result: found.result, facts: found.facts };
    },
    recorded: (definition, input) => toRecorded(byInput.get(definition, input) as RunRow | undefined),
    newest: (definition) => toRecorded(byDefinition.get(definition) as RunRow | undefined),
    record(definition, input, trace, result) {
      const { paths } = trace;
      const pathsNode = store.putNode(encodePathSet(paths));
      const askersNode = store.putNode(encodeAskers(trace));
      const resultNode = store.putNode(encodeResult(result));
      const content = contentKey(store, definition, paths, input);
      store.flush();
      const now = Date.now();
      putRun.run(definition, content, pathsNode, input, resultNode, now, askersNode);
      putExact.run(definition, input, content, now);
    },
    roots(sinceMs) {
      const rows = db.prepare('SELECT paths, result, askers FROM runs WHERE used_ms >= ?').all(sinceMs) as unknown as RunRow[];
      return rows.flatMap(rootsOf);
    },
    prune(sinceMs) {
      db.prepare('DELETE FROM runs WHERE used_ms < ?').run(sinceMs);
      db.exec(FORGET_EXACT);
    },
    results(sinceMs) {
      const rows = db.prepare('SELECT * FROM runs WHERE used_ms >= ? ORDER BY used_ms DESC').all(sinceMs) as unknown as RunRow[];
      return rows.map((row) => ({ definition: row.definition, content: row.content, roots: rootsOf(row), usedMs: row.used_ms }));
    },
    forget(results) {
      const remove = db.prepare('DELETE FROM runs WHERE definition = ? AND content = ?');
      for (const { definition, content } of results) remove.run(definition, content);
      db.exec(FORGET_EXACT);
    },
    [Symbol.dispose]() {
      if (db.isOpen) db.close();
    },
  };
}

/** Inputs whose result is forgotten. */
const FORGET_EXACT = 'DELETE FROM exact WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.definition = exact.definition AND runs.content = exact.content)';

function rootsOf({ paths, result, askers }: Pick<RunRow, 'paths' | 'result' | 'askers'>): RefTarget[] {
  return [paths, result, askers].filter((digest) => digest !== null).map((digest) => ({ kind: 'node', digest }));
}

interface FoundRun { content: string; result: ActionResult; facts: number }
interface RunRow { definition: string; content: string; paths: string; input: string; result: string; used_ms: number; askers: string | null }

/** Two processes may open a file without the column at the same time: one of them finds it made meanwhile. */
function addColumn(db: DatabaseSync, table: string, column: string): void {
  const there = (): boolean => db.prepare(`SELECT 1 FROM pragma_table_info('${table}') WHERE name = ?`).get(column) !== undefined;
  if (there()) return;
  try {
    db.exec(`ALTER TABLE ${table} ADD COLUMN ${column} TEXT`);
  } catch (error) {
    if (!there()) throw error;
  }
}

function describe(entry: { kind: string; digest?: string; mode: number } | undefined): string {
  if (entry === undefined) return 'absent';
  return entry.digest === undefined ? entry.kind : `${entry.kind} ${entry.digest.slice(0, 12)}`;
}
