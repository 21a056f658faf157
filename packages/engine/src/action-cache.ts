import { DatabaseSync } from 'node:sqlite';
import type { ActionDigest, NodeDigest, TreeDigest } from '@hyperdocker/base';
import type { RefTarget, Store } from '@hyperdocker/cas';
import type { ActionResult } from './action.ts';
import { decodeResult, encodeResult } from './action.ts';
import type { Askers, PathSet } from './facts.ts';
import { askerOf, contentKey, decodeAskers, decodePathSet, encodeAskers, encodePathSet, firstDifference } from './facts.ts';

/**
 * Definition key → recorded path sets → content key → result (BuildXL's two-phase look-up). Rows point at nodes of the
 * store; a row whose nodes are gone is a miss. Losing the whole cache costs time, never correctness.
 */
export interface ActionCache extends Disposable {
  find(definition: ActionDigest, input: TreeDigest): Hit | Miss;
  /** @param askers who asked what the path set says: for explanations */
  record(definition: ActionDigest, input: TreeDigest, paths: PathSet, result: ActionResult, askers?: Askers): void;
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

export interface Hit { kind: 'hit'; result: ActionResult; /** How many facts were compared; 0 when the whole tree was the same. */ facts: number }
export type MissReason =
  | { why: 'never-ran' }
  /** `by`: the program that looked at the path first, where that is known. */
  | { why: 'changed'; path: string; asked: number; before: string; after: string; by?: string }
  | { why: 'results-gone' }
  /** Something that it looked at: what it saw then is no longer in the store to compare. */
  | { why: 'changed-unknown' };
export interface Miss { kind: 'miss'; reason: MissReason }

/** Newest path sets tried per definition; older ones stay but are not looked at. */
const MAX_PATH_SETS = 16;

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

  function explain(definition: ActionDigest, input: TreeDigest): MissReason {
    const last = byDefinition.get(definition) as RunRow | undefined;
    if (last === undefined) return { why: 'never-ran' };
    if (!store.hasNode(last.paths as NodeDigest)) return { why: 'results-gone' };
    if (!store.hasTree(last.input as TreeDigest)) return { why: 'changed-unknown' };
    const paths = decodePathSet(store.getNode(last.paths as NodeDigest));
    const difference = firstDifference(store, paths, last.input as TreeDigest, input);
    if (difference === undefined) return { why: 'results-gone' };
    const { path, asked, changed, before, after } = difference;
    const known = last.askers !== null && store.hasNode(last.askers as NodeDigest);
    const by = known ? askerOf(decodeAskers(store.getNode(last.askers as NodeDigest), paths), path, changed) : undefined;
    return { why: 'changed', path, asked, before: describe(before), after: describe(after), ...(by === undefined ? {} : { by }) };
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
      const tried = new Set<string>();
      for (const row of byDefinition.iterate(definition) as Iterable<unknown> as Iterable<RunRow>) {
        if (tried.has(row.paths)) continue;
        if (tried.add(row.paths).size > MAX_PATH_SETS) break;
        if (!store.hasNode(row.paths as NodeDigest)) continue;
        const paths = decodePathSet(store.getNode(row.paths as NodeDigest));
        const content = contentKey(store, definition, paths, input);
        const found = byContent.get(definition, content) as RunRow | undefined;
        const result = found === undefined ? undefined : load(found);
        if (result === undefined) continue;
        touch.run(now, definition, content);
        putExact.run(definition, input, content, now);
        return { kind: 'hit', result, facts: paths.size };
      }
      return { kind: 'miss', reason: explain(definition, input) };
    },
    record(definition, input, paths, result, askers) {
      const pathsNode = store.putNode(encodePathSet(paths));
      const askersNode = askers === undefined ? null : store.putNode(encodeAskers({ paths, askers }));
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

function rootsOf(row: Pick<RunRow, 'paths' | 'result' | 'askers'>): RefTarget[] {
  return [row.paths, row.result, row.askers].filter((digest) => digest !== null).map((digest) => ({ kind: 'node', digest }));
}

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
