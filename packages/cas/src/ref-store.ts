import { realpathSync } from 'node:fs';
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
/** How long refs, leases and pins wait for a collection in another process. */
const GC_WAIT_MS = 120_000;
const POLL_MS = 10;

interface RefRow {
  name: string;
  kind: RefTarget['kind'];
  digest: string;
  at_ms: number;
}

/**
 * `lease`: writes are in progress. `pack`: a pack that someone still appends to. `pin`: a target in use. `gc`: a collection is running.
 * `gc-wanted`: one waits for leases to end, and new ones wait for it.
 */
type Role = 'lease' | 'pack' | 'pin' | 'gc' | 'gc-wanted';
interface Holder {
  id: number;
  role: Role;
  pid: number;
  start_ticks: string;
  what: string;
}

/**
 * Leases and collections of this thread, by file and id. What this very thread holds cannot end while it waits: waiting would be for ever. (A worker thread has
 * a set of its own.)
 */
const ownHolders = new Set<string>();

/**
 * What may change in a store: refs with their log, and who is using it. Never derived from anything else, therefore in a file apart from the index.
 * Holders (rows of processes) are void once their process has ended.
 */
export class RefStore {
  readonly #db: DatabaseSync;
  readonly #file: string;

  /** @param options.strict a ref that was moved is on the disk, not only on its way there */
  constructor(path: string | URL, options: { readOnly: boolean; strict?: boolean }) {
    this.#db = new DatabaseSync(path, { readOnly: options.readOnly, timeout: BUSY_TIMEOUT_MS });
    try {
      if (!options.readOnly) this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${options.strict === true ? 'FULL' : 'NORMAL'}; ${SCHEMA}`);
      // Tells now, not at the first use, whether it can be read.
      this.#db.prepare('SELECT 1 FROM refs').get();
      this.#file = options.readOnly || path === ':memory:' ? '' : realpathSync(path);
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

  /**
   * Waits for a collection that runs or wants to. One that only wants to is not waited for by a process that has a lease already: it waits for that lease itself.
   * @throws HdError STORE_BUSY
   */
  takeLease(why: string): Disposable {
    const mustWait = (holders: Holder[]): Holder | undefined =>
      holders.find(({ role }) => role === 'gc') ?? (holders.some((holder) => holder.role === 'lease' && isOwn(holder)) ? undefined : holders.find(({ role }) => role === 'gc-wanted'));
    return this.#once('a lease', mustWait, () => this.#hold('lease', why));
  }

  /** `check` runs inside the transaction, once no collection is running. @throws HdError STORE_BUSY, and what `check` throws */
  pin({ kind, digest }: RefTarget, why: string, check: () => void): Disposable {
    return this.#whileNoGc('a pin', () => {
      check();
      return this.#hold('pin', `${kind} ${digest} ${why}`);
    });
  }

  /** Pins of live processes. */
  pins(): { target: RefTarget; why: string }[] {
    return this.#living('pin').map(({ what }) => {
      const [kind = '', digest = '', ...why] = what.split(' ');
      return { target: { kind: kind as RefTarget['kind'], digest }, why: why.join(' ') };
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

  /**
   * Waits for all leases to end, while new ones wait. At once for what this thread itself holds: it would not end.
   * @throws HdError STORE_BUSY with the name of a holder, after `waitMs`
   */
  startGc(waitMs: number): Disposable {
    let wanted: Disposable | undefined;
    try {
      const inTheWay = (holders: Holder[]): Holder | undefined => {
        const found = holders.find(({ role }) => role === 'lease' || role === 'gc');
        const own = holders.find((holder) => (holder.role === 'lease' || holder.role === 'gc') && ownHolders.has(this.#ownKey(holder.id)));
        if (own !== undefined) throw storeBusy(`${own.what} (this process, ${own.pid})`);
        if (found !== undefined) wanted ??= this.#hold('gc-wanted', 'garbage collection waits');
        return found;
      };
      return this.#once('the lock of gc', inTheWay, () => this.#hold('gc', 'garbage collection'), waitMs);
    } finally {
      wanted?.[Symbol.dispose]();
    }
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
    const key = this.#ownKey(Number(lastInsertRowid));
    ownHolders.add(key);
    return {
      [Symbol.dispose]: () => {
        if (!ownHolders.delete(key)) return;
        if (this.#db.isOpen) this.#db.prepare('DELETE FROM holders WHERE id = ?').run(lastInsertRowid);
      },
    };
  }

  #ownKey(id: number): string {
    return `${id} ${this.#file}`;
  }

  #holders(): Holder[] {
    return this.#db.prepare('SELECT * FROM holders').all() as unknown as Holder[];
  }

  #living(role?: Role): Holder[] {
    return this.#holders().filter((holder) => (role === undefined || holder.role === role) && isAlive({ pid: holder.pid, startTicks: holder.start_ticks }));
  }

  /** Runs in a transaction in which no collection is running, and none can start. */
  #whileNoGc<T>(what: string, change: () => T): T {
    return this.#once(what, (holders) => holders.find(({ role }) => role === 'gc'), change);
  }

  /** Runs `change` in the first transaction in which nobody alive is `inTheWay`. @throws HdError STORE_BUSY after `waitMs` */
  #once<T>(what: string, inTheWay: (holders: Holder[]) => Holder | undefined, change: () => T, waitMs = GC_WAIT_MS): T {
    const deadline = Date.now() + waitMs;
    for (;;) {
      const outcome = this.#transaction(what, () => {
        const holder = inTheWay(this.#living());
        return holder === undefined ? { done: change() } : { holder };
      });
      if ('done' in outcome) return outcome.done;
      if (Date.now() >= deadline) throw storeBusy(`${outcome.holder.what} (process ${outcome.holder.pid})`);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
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

function isOwn({ pid, start_ticks: startTicks }: Holder): boolean {
  const own = ownProcess();
  return pid === own.pid && startTicks === own.startTicks;
}

function toRef(row: RefRow): Ref {
  return { target: { kind: row.kind, digest: row.digest }, atMs: row.at_ms };
}
