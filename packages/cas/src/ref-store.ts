import { DatabaseSync } from 'node:sqlite';
import type { Ref, RefName, RefTarget } from './contract.ts';
import { storeBusy, storeWrite } from './errors.ts';
import { isAlive, ownProcess } from './process-id.ts';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS refs (name TEXT PRIMARY KEY, kind TEXT NOT NULL, digest TEXT NOT NULL, at_ms INTEGER NOT NULL) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS reflog (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL, at_ms INTEGER NOT NULL);
  CREATE INDEX IF NOT EXISTS reflog_by_name ON reflog (name, id);
  CREATE TABLE IF NOT EXISTS holders (id INTEGER PRIMARY KEY AUTOINCREMENT, role TEXT NOT NULL, pid INTEGER NOT NULL, start_ticks TEXT NOT NULL, what TEXT NOT NULL);
`;
const BUSY_TIMEOUT_MS = 30_000;
/** Entries of the reflog kept for each ref. */
const REFLOG_ENTRIES = 1000;
/** How long refs and leases wait for a collection in another process. */
const GC_WAIT_MS = 30_000;
const GC_POLL_MS = 20;

interface RefRow {
  name: string;
  kind: RefTarget['kind'];
  digest: string;
  at_ms: number;
}

/** `lease`: writes are in progress. `pin`: a root. `pack`: a pack that someone still appends to. `gc`: a collection is running. */
type Role = 'lease' | 'pin' | 'pack' | 'gc';
interface Holder {
  id: number;
  pid: number;
  what: string;
}

/**
 * What may change in a store: refs with their log, and who is using it. Never derived from anything else, therefore in a file apart from the index.
 * Holders (rows of processes) are void once their process has ended.
 */
export class RefStore {
  readonly #db: DatabaseSync;

  /** `strict`: a change is on the disk when the call returns. Else a power cut may undo the last ones. */
  constructor(path: string | URL, options: { readOnly: boolean; strict?: boolean }) {
    this.#db = new DatabaseSync(path, { readOnly: options.readOnly, timeout: BUSY_TIMEOUT_MS });
    try {
      if (!options.readOnly) this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${options.strict === true ? 'FULL' : 'NORMAL'}; ${SCHEMA}`);
      // Tells now, not at the first use, whether it can be read.
      this.#db.prepare('SELECT 1 FROM refs').get();
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  get(name: RefName): Ref | undefined {
    const row = this.#db.prepare('SELECT * FROM refs WHERE name = ?').get(name) as RefRow | undefined;
    return row === undefined ? undefined : toRef(row);
  }

  /**
   * Compare and swap. `check` runs inside the transaction, once no collection is running.
   * @throws HdError STORE_BUSY, STORE_WRITE, and what `check` throws
   */
  set(name: RefName, target: RefTarget, expected: RefTarget | null | undefined, check: () => void): boolean {
    return this.#whileNoGc(`ref ${name}`, () => {
      const present = this.get(name)?.target;
      if (expected === null && present !== undefined) return false;
      if (expected && (present?.kind !== expected.kind || present.digest !== expected.digest)) return false;
      check();
      const atMs = Date.now();
      this.#db.prepare('INSERT OR REPLACE INTO refs VALUES (?, ?, ?, ?)').run(name, target.kind, target.digest, atMs);
      this.#db.prepare('INSERT INTO reflog (name, kind, digest, at_ms) VALUES (?, ?, ?, ?)').run(name, target.kind, target.digest, atMs);
      this.#db
        .prepare('DELETE FROM reflog WHERE name = ? AND id <= (SELECT id FROM reflog WHERE name = ? ORDER BY id DESC LIMIT 1 OFFSET ?)')
        .run(name, name, REFLOG_ENTRIES);
      return true;
    });
  }

  delete(name: RefName): boolean {
    return this.#transaction(`ref ${name}`, () => this.#db.prepare('DELETE FROM refs WHERE name = ?').run(name).changes === 1);
  }

  list(prefix: string): { name: RefName; ref: Ref }[] {
    const rows = this.#db.prepare('SELECT * FROM refs WHERE substr(name, 1, length(?)) = ? ORDER BY name').all(prefix, prefix) as unknown as RefRow[];
    return rows.map((row) => ({ name: row.name, ref: toRef(row) }));
  }

  reflog(name: RefName): Ref[] {
    const rows = this.#db.prepare('SELECT * FROM reflog WHERE name = ? ORDER BY id DESC').all(name) as unknown as RefRow[];
    return rows.map(toRef);
  }

  /** Waits for a collection to end. @throws HdError STORE_BUSY */
  takeLease(why: string): Disposable {
    return this.#whileNoGc('a lease', () => this.#hold('lease', why));
  }

  /** A root of `gc` for as long as this process lives, or until dispose. Waits for a collection to end. @throws HdError STORE_BUSY */
  takePin({ kind, digest }: RefTarget, why: string): Disposable {
    return this.#whileNoGc('a pin', () => this.#hold('pin', `${kind} ${digest} ${why}`));
  }

  /** What live processes have pinned. */
  pins(): RefTarget[] {
    return this.#living('pin').map(({ what }) => {
      const [kind, digest] = what.split(' ', 2) as [RefTarget['kind'], string];
      return { kind, digest };
    });
  }

  /** Tells collections that this process still appends to a pack. */
  holdPack(pack: string): Disposable {
    return this.#transaction('a pack', () => this.#hold('pack', pack));
  }

  /** Packs that live processes (this one too) still append to. */
  heldPacks(): Set<string> {
    return new Set(this.#living('pack').map(({ what }) => what));
  }

  /** @throws HdError STORE_BUSY while anybody holds a lease or collects */
  startGc(): Disposable {
    return this.#transaction('the lock of gc', () => {
      for (const holder of [...this.#living('lease'), ...this.#living('gc')]) throw storeBusy(`${holder.what} (process ${holder.pid})`);
      return this.#hold('gc', 'garbage collection');
    });
  }

  /** For a dry run, which takes no lock. @throws HdError STORE_BUSY */
  assertNoLease(): void {
    for (const holder of this.#living('lease')) throw storeBusy(`${holder.what} (process ${holder.pid})`);
  }

  /** Rows of ended processes go. */
  forgetDead(): void {
    this.#transaction('holders', () => {
      for (const { id, pid, start_ticks: startTicks } of this.#holders()) {
        if (!isAlive({ pid, startTicks })) this.#db.prepare('DELETE FROM holders WHERE id = ?').run(id);
      }
    });
  }

  close(): void {
    this.#db.close();
  }

  #hold(role: Role, what: string): Disposable {
    const { pid, startTicks } = ownProcess();
    const { lastInsertRowid } = this.#db.prepare('INSERT INTO holders (role, pid, start_ticks, what) VALUES (?, ?, ?, ?)').run(role, pid, startTicks, what);
    return {
      [Symbol.dispose]: () => {
        if (this.#db.isOpen) this.#db.prepare('DELETE FROM holders WHERE id = ?').run(lastInsertRowid);
      },
    };
  }

  #holders(): { id: number; role: string; pid: number; start_ticks: string; what: string }[] {
    return this.#db.prepare('SELECT * FROM holders').all() as { id: number; role: string; pid: number; start_ticks: string; what: string }[];
  }

  #living(role: Role): Holder[] {
    return this.#holders().filter((holder) => holder.role === role && isAlive({ pid: holder.pid, startTicks: holder.start_ticks }));
  }

  /** Runs in a transaction in which no collection is running, and none can start. */
  #whileNoGc<T>(what: string, change: () => T): T {
    const deadline = Date.now() + GC_WAIT_MS;
    for (;;) {
      const outcome = this.#transaction(what, () => {
        const gc = this.#living('gc')[0];
        return gc === undefined ? { done: change() } : { gc };
      });
      if ('done' in outcome) return outcome.done;
      if (Date.now() > deadline) throw storeBusy(`${outcome.gc.what} (process ${outcome.gc.pid})`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, GC_POLL_MS);
    }
  }

  #transaction<T>(what: string, change: () => T): T {
    try {
      this.#db.exec('BEGIN IMMEDIATE');
      const result = change();
      this.#db.exec('COMMIT');
      return result;
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error instanceof Error && 'errcode' in error ? storeWrite(what, error) : error;
    }
  }
}

function toRef(row: RefRow): Ref {
  return { target: { kind: row.kind, digest: row.digest }, atMs: row.at_ms };
}
