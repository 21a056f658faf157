import { DatabaseSync } from 'node:sqlite';
import type { TreeDigest } from '@hyperdocker/base';

/** One result of one definition, as it is kept. All but the times are digests. */
export interface RunRow { definition: string; content: string; paths: string; input: string; result: string; used_ms: number; askers: string | null }
/** What names a row. */
export type RunName = Pick<RunRow, 'definition' | 'content'>;

const TABLES = `PRAGMA busy_timeout = 10000; PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL;
  CREATE TABLE IF NOT EXISTS runs (
    definition TEXT NOT NULL, content TEXT NOT NULL, paths TEXT NOT NULL, input TEXT NOT NULL, result TEXT NOT NULL,
    used_ms INTEGER NOT NULL, PRIMARY KEY (definition, content)) WITHOUT ROWID;
  CREATE INDEX IF NOT EXISTS runs_by_use ON runs (definition, used_ms DESC);
  CREATE TABLE IF NOT EXISTS exact (
    definition TEXT NOT NULL, input TEXT NOT NULL, content TEXT NOT NULL, used_ms INTEGER NOT NULL,
    PRIMARY KEY (definition, input)) WITHOUT ROWID;`;
const NEWEST_FIRST = 'SELECT * FROM runs WHERE definition = ? ORDER BY used_ms DESC';
/** Inputs whose result is forgotten. */
const FORGET_EXACT = 'DELETE FROM exact WHERE NOT EXISTS (SELECT 1 FROM runs WHERE runs.definition = exact.definition AND runs.content = exact.content)';

/** The tables of the action cache, which any number of processes may have open: `runs`, and `exact` from whole inputs to them. Knows nothing of what the digests stand for. */
export class ActionRows implements Disposable {
  readonly #db: DatabaseSync;
  readonly #statements: ReturnType<typeof prepared>;

  constructor(file: string) {
    this.#db = new DatabaseSync(file);
    this.#db.exec(TABLES);
    addColumn(this.#db, 'runs', 'askers'); // null in rows from before it
    this.#statements = prepared(this.#db);
  }

  byInput(definition: string, input: string): RunRow | undefined {
    return this.#statements.byInput.get(definition, input) as RunRow | undefined;
  }

  /** Those used last first. */
  byDefinition(definition: string): RunRow[] {
    return this.#statements.byDefinition.all(definition) as unknown as RunRow[];
  }

  newest(definition: string): RunRow | undefined {
    return this.#statements.byDefinition.get(definition) as RunRow | undefined;
  }

  byContent(definition: string, content: string): RunRow | undefined {
    return this.#statements.byContent.get(definition, content) as RunRow | undefined;
  }

  /** Those used last first. */
  since(usedMs: number): RunRow[] {
    return this.#statements.since.all(usedMs) as unknown as RunRow[];
  }

  /** In place of one of the same name. */
  put({ definition, content, paths, input, result, used_ms: usedMs, askers }: RunRow): void {
    this.#statements.put.run(definition, content, paths, input, result, usedMs, askers);
  }

  putExact({ definition, content }: RunName, input: string, usedMs: number): void {
    this.#statements.putExact.run(definition, input, content, usedMs);
  }

  /** @param input a tree in which all that it asked is answered alike. The next one is compared with it: what lies between them is little. */
  touch({ definition, content }: RunName, usedMs: number, input: TreeDigest): void {
    this.#statements.touch.run(usedMs, input, definition, content);
  }

  removeBefore(usedMs: number): void {
    this.#statements.removeBefore.run(usedMs);
    this.#db.exec(FORGET_EXACT);
  }

  remove(names: Iterable<RunName>): void {
    for (const { definition, content } of names) this.#statements.remove.run(definition, content);
    this.#db.exec(FORGET_EXACT);
  }

  [Symbol.dispose](): void {
    if (this.#db.isOpen) this.#db.close();
  }
}

function prepared(db: DatabaseSync) {
  return {
    byInput: db.prepare('SELECT runs.* FROM exact JOIN runs USING (definition, content) WHERE exact.definition = ? AND exact.input = ?'),
    byDefinition: db.prepare(NEWEST_FIRST),
    byContent: db.prepare('SELECT * FROM runs WHERE definition = ? AND content = ?'),
    since: db.prepare('SELECT * FROM runs WHERE used_ms >= ? ORDER BY used_ms DESC'),
    put: db.prepare(`INSERT INTO runs (definition, content, paths, input, result, used_ms, askers) VALUES (?, ?, ?, ?, ?, ?, ?)
      ON CONFLICT DO UPDATE SET input = excluded.input, paths = excluded.paths, result = excluded.result, used_ms = excluded.used_ms, askers = excluded.askers`),
    putExact: db.prepare('INSERT INTO exact VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET content = excluded.content, used_ms = excluded.used_ms'),
    touch: db.prepare('UPDATE runs SET used_ms = ?, input = ? WHERE definition = ? AND content = ?'),
    removeBefore: db.prepare('DELETE FROM runs WHERE used_ms < ?'),
    remove: db.prepare('DELETE FROM runs WHERE definition = ? AND content = ?'),
  };
}

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
