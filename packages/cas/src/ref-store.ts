import { realpathSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import { threadId } from 'node:worker_threads';
import { crc32 } from 'node:zlib';
import { describeError } from '@hyperdocker/base';
import type { Ref, RefName, RefTarget } from './contract.ts';
import { sqliteCode, sqliteExtendedCode, storeBusy, storeWrite } from './errors.ts';
import { isAlive, ownProcess } from './process-id.ts';

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS refs (name TEXT PRIMARY KEY, kind TEXT NOT NULL, digest TEXT NOT NULL, at_ms INTEGER NOT NULL, crc INTEGER) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS reflog (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, kind TEXT NOT NULL, digest TEXT NOT NULL, at_ms INTEGER NOT NULL, crc INTEGER);
  CREATE INDEX IF NOT EXISTS reflog_by_name ON reflog (name, id);
  CREATE TABLE IF NOT EXISTS holders (id INTEGER PRIMARY KEY AUTOINCREMENT, role TEXT NOT NULL, pid INTEGER NOT NULL, start_ticks TEXT NOT NULL, what TEXT NOT NULL, thread INTEGER);
`;
/** Which files of earlier versions lack. */
const ADDED_COLUMNS = [['refs', 'crc'], ['reflog', 'crc'], ['holders', 'thread']] as const;
const BUSY_TIMEOUT_MS = 30_000;
/** `SQLITE_IOERR`, with 4 in the byte above it. */
const SQLITE_IOERR_FSYNC = 10 | (4 << 8);
/** Entries of the reflog kept for each ref. */
const REFLOG_ENTRIES = 1000;
/** How long refs, leases and pins wait for a collection in another process. */
const GC_WAIT_MS = 120_000;
/** How long a collection waits for leases, where it is not told. */
const LEASE_WAIT_MS = 30_000;
const POLL_MS = 10;

interface RefRow {
  name: string;
  kind: RefTarget['kind'];
  digest: string;
  at_ms: number;
  /** Of the rest. Null in rows of the first version. */
  crc?: number | null;
}

export interface Pin extends RefTarget { why: string }

/** A row whose bytes are not those that were written. */
export interface DamagedRef { name: string; digest: string; problem: string; repaired: boolean }

/**
 * `lease`: writes are in progress. `pack`: a pack that someone still appends to. `pin`: a target in use. `gc`: a collection is running.
 * `gc-wanted` and `waiting`: a collection waits for leases, or a lease, pin or ref for a collection. Who came first is first: neither can starve the other.
 */
type Role = 'lease' | 'pack' | 'pin' | 'gc' | 'gc-wanted' | 'waiting';
interface Holder {
  id: number;
  role: Role;
  pid: number;
  start_ticks: string;
  what: string;
  /** Its number in the process. Null in rows of the first version. */
  thread?: number | null;
}
interface Held extends Disposable { id: number }

/**
 * All that this thread holds, by file and id. Of its own rows this is the truth, not the table: on a bad disk a row may outlive what it stands for. And what this very
 * thread holds cannot end while it waits: waiting would be for ever. (A worker thread has a set of its own.)
 */
const ownHolders = new Set<string>();

/**
 * What may change in a store: refs with their log, and who is using it. Never derived from anything else, therefore in a file apart from the index.
 * Holders (rows of processes) are void once their process has ended.
 */
export class RefStore {
  readonly #db: DatabaseSync;
  readonly #synchronous: 'FULL' | 'NORMAL';
  /** A sync of the write-ahead log has failed. */
  #logIsLost = false;
  readonly #file: string;
  readonly #held = new Set<Held>();
  /** Of the transaction that is running: void if it fails. */
  #unsure: Held[] = [];
  /** Rows of what this store no longer holds, and could not remove. */
  readonly #ended = new Set<number>();

  /** @param options.strict a ref that was moved is on the disk, not only on its way there */
  constructor(path: string | URL, options: { readOnly: boolean; strict?: boolean }) {
    this.#db = new DatabaseSync(path, { readOnly: options.readOnly, timeout: BUSY_TIMEOUT_MS });
    this.#synchronous = options.strict === true ? 'FULL' : 'NORMAL';
    try {
      if (!options.readOnly) this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${this.#synchronous}; ${SCHEMA}`);
      if (!options.readOnly) this.#addColumns();
      // Tells now, not at the first use, whether it can be read.
      this.#db.prepare('SELECT 1 FROM refs').get();
      this.#file = path === ':memory:' ? '' : realpathSync(path);
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
      const row: RefRow = { name, kind: target.kind, digest: target.digest, at_ms: atMs };
      this.#putRow(row);
      this.#db.prepare('INSERT INTO reflog (name, kind, digest, at_ms, crc) VALUES (?, ?, ?, ?, ?)').run(name, row.kind, row.digest, atMs, checksumOf(row));
      this.#db
        .prepare('DELETE FROM reflog WHERE name = ? AND id <= (SELECT id FROM reflog WHERE name = ? ORDER BY id DESC LIMIT 1 OFFSET ?)')
        .run(name, name, REFLOG_ENTRIES);
      return true;
    });
  }

  /** Waits for a collection to end, as `set` does: until then a power cut could bring the ref back. @throws HdError STORE_BUSY, STORE_WRITE */
  delete(name: RefName): boolean {
    return this.#whileNoGc(`ref ${name}`, () => this.#db.prepare('DELETE FROM refs WHERE name = ?').run(name).changes === 1);
  }

  /** All of them, onto the disk, for a collection that is about to remove what they name. @throws HdError STORE_WRITE */
  drop(names: readonly RefName[]): void {
    if (names.length === 0) return;
    this.#durably(() =>
      this.#transaction('refs', () => {
        const remove = this.#db.prepare('DELETE FROM refs WHERE name = ?');
        for (const name of names) remove.run(name);
      }),
    );
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
    const inTheWay = (holders: Holder[], ticket: number): Holder | undefined =>
      this.#gcOfOthers(holders) ?? (holders.some((holder) => holder.role === 'lease' && isOwn(holder)) ? undefined : holders.find(({ id, role }) => role === 'gc-wanted' && id < ticket));
    return this.#once('a lease', 'waiting', inTheWay, () => this.#hold('lease', why));
  }

  /** `check` runs inside the transaction, once no collection is running. @throws HdError STORE_BUSY, and what `check` throws */
  takePin({ kind, digest }: RefTarget, why: string, check: () => void): Disposable {
    return this.#whileNoGc('a pin', () => {
      check();
      return this.#hold('pin', `${kind} ${digest} ${why}`);
    });
  }

  /** Pins of live processes. */
  pins(): Pin[] {
    return this.#living('pin').map(({ what }) => {
      const [kind = '', digest = '', ...why] = what.split(' ');
      return { kind: kind as RefTarget['kind'], digest, why: why.join(' ') };
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
   * Waits for all leases to end, while new ones wait. At once for what this thread itself holds: it would not end. Brings all moves of refs so far onto
   * the disk: were one undone after the collection, it would name what is gone.
   * @throws HdError STORE_BUSY with the name of a holder, after `waitMs`
   */
  startGc(waitMs = LEASE_WAIT_MS): Disposable {
    const inTheWay = (holders: Holder[], ticket: number): Holder | undefined => {
      const found = holders.filter(({ role }) => role === 'lease' || role === 'gc');
      const own = found.find(({ id }) => ownHolders.has(this.#ownKey(id)));
      if (own !== undefined) throw storeBusy(`${own.what} (this process, ${own.pid})`);
      return found[0] ?? holders.find(({ id, role }) => (role === 'waiting' || role === 'gc-wanted') && id < ticket);
    };
    return this.#durably(() => this.#once('garbage collection', 'gc-wanted', inTheWay, () => this.#hold('gc', 'garbage collection'), waitMs));
  }

  /** Rows of ended processes go, and those that this thread could not remove when it should have. */
  forgetDead(): void {
    this.#transaction('holders', () => {
      for (const holder of this.#holders()) if (!this.#isHeld(holder)) this.#db.prepare('DELETE FROM holders WHERE id = ?').run(holder.id);
    });
  }

  /** What this store still holds ends with it. */
  close(): void {
    for (const held of this.#held) held[Symbol.dispose]();
    this.#db.close();
  }

  /** Checks the file and every row. `repair`: a ref whose row is damaged comes back from the log, where that has it. */
  check(repair: boolean): DamagedRef[] {
    const found = this.#checkFile(repair);
    const log = this.#rows('SELECT * FROM reflog ORDER BY id DESC');
    const refs = this.#rows('SELECT * FROM refs');
    const names = new Set(refs.filter(isWhole).map(({ name }) => name));
    for (const row of refs.filter((candidate) => !isWhole(candidate))) {
      const logged = log.find((entry) => isWhole(entry) && entry.name === row.name) ?? log.find((entry) => isWhole(entry) && !names.has(entry.name) && entry.digest === row.digest && entry.at_ms === row.at_ms);
      if (repair) {
        this.#transaction('refs', () => {
          this.#db.prepare('DELETE FROM refs WHERE name = ?').run(row.name);
          if (logged !== undefined) this.#putRow(logged);
        });
      }
      found.push({ name: logged?.name ?? row.name, digest: logged?.digest ?? row.digest, problem: `the row of ref ${row.name} is damaged`, repaired: repair && logged !== undefined });
    }
    for (const row of log.filter((candidate) => !isWhole(candidate))) {
      if (repair) this.#transaction('refs', () => this.#db.prepare('DELETE FROM reflog WHERE id = ?').run((row as RefRow & { id: number }).id));
      found.push({ name: row.name, digest: row.digest, problem: `an entry of the log of ref ${row.name} is damaged`, repaired: repair });
    }
    return found;
  }

  /** In a transaction; void if that fails. */
  #hold(role: Role, what: string): Held {
    const { pid, startTicks } = ownProcess();
    const { lastInsertRowid } = this.#db.prepare('INSERT INTO holders (role, pid, start_ticks, what, thread) VALUES (?, ?, ?, ?, ?)').run(role, pid, startTicks, what, threadId);
    const held: Held = {
      id: Number(lastInsertRowid),
      [Symbol.dispose]: () => {
        if (!this.#forget(held)) return;
        this.#ended.add(held.id);
        this.#removeEnded();
      },
    };
    this.#held.add(held);
    this.#unsure.push(held);
    ownHolders.add(this.#ownKey(held.id));
    return held;
  }

  /** @returns was it held? */
  #forget(held: Held): boolean {
    if (!this.#held.delete(held)) return false;
    return ownHolders.delete(this.#ownKey(held.id));
  }

  /** The end of a claim is no place to fail: a row that cannot be removed now goes before the next change, or with the process. */
  #removeEnded(): void {
    if (this.#db.isTransaction) return;
    try {
      for (const id of this.#ended) {
        this.#db.prepare('DELETE FROM holders WHERE id = ?').run(id);
        this.#ended.delete(id);
      }
    } catch (error) {
      if (sqliteCode(error) === undefined) throw error;
    }
  }

  #putRow(row: RefRow): void {
    this.#db.prepare('INSERT OR REPLACE INTO refs (name, kind, digest, at_ms, crc) VALUES (?, ?, ?, ?, ?)').run(row.name, row.kind, row.digest, row.at_ms, checksumOf(row));
  }

  #addColumns(): void {
    if (this.#missingColumns().length === 0) return;
    this.#transaction('refs', () => {
      for (const [table, column] of this.#missingColumns()) this.#db.exec(`ALTER TABLE ${table} ADD COLUMN ${column} INTEGER`);
    });
  }

  #missingColumns(): (typeof ADDED_COLUMNS)[number][] {
    return ADDED_COLUMNS.filter(([table, column]) => this.#db.prepare('SELECT 1 FROM pragma_table_info(?) WHERE name = ?').get(table, column) === undefined);
  }

  #rows(query: string): RefRow[] {
    try {
      return this.#db.prepare(query).all() as unknown as RefRow[];
    } catch (error) {
      // `#checkFile` has told.
      if (sqliteCode(error) === undefined) throw error;
      return [];
    }
  }

  /** The database's own check of its pages and indexes. */
  #checkFile(repair: boolean): DamagedRef[] {
    const before = this.#integrity();
    if (before === undefined) return [];
    if (repair) {
      try {
        this.#db.exec('REINDEX; VACUUM;');
      } catch (error) {
        if (sqliteCode(error) === undefined) throw error;
      }
    }
    return [{ name: '', digest: '', problem: `refs.sqlite is damaged: ${before}`, repaired: repair && this.#integrity() === undefined }];
  }

  /** What is wrong with the file; undefined where nothing is. */
  #integrity(): string | undefined {
    try {
      const [first] = this.#db.prepare('PRAGMA integrity_check(1)').all() as { integrity_check: string }[];
      return first?.integrity_check === 'ok' ? undefined : (first?.integrity_check ?? 'it cannot be read');
    } catch (error) {
      if (sqliteCode(error) === undefined) throw error;
      return describeError(error);
    }
  }

  #ownKey(id: number): string {
    return `${id} ${this.#file}`;
  }

  #holders(): Holder[] {
    return this.#db.prepare('SELECT * FROM holders').all() as unknown as Holder[];
  }

  #living(role?: Role): Holder[] {
    return this.#holders().filter((holder) => (role === undefined || holder.role === role) && this.#isHeld(holder));
  }

  #isHeld(holder: Holder): boolean {
    if (isOwn(holder) && holder.thread === threadId) return ownHolders.has(this.#ownKey(holder.id));
    return isAlive({ pid: holder.pid, startTicks: holder.start_ticks });
  }

  /** Who collects, or repairs, may write. */
  #gcOfOthers(holders: Holder[]): Holder | undefined {
    return holders.find(({ id, role }) => role === 'gc' && !ownHolders.has(this.#ownKey(id)));
  }

  /** Runs in a transaction in which no collection is running, and none can start. */
  #whileNoGc<T>(what: string, change: () => T): T {
    return this.#once(what, 'waiting', (holders) => this.#gcOfOthers(holders), change);
  }

  /**
   * Runs `change` in the first transaction in which nobody alive is `inTheWay`, and stands in line meanwhile.
   * @throws HdError STORE_BUSY after `waitMs`
   */
  #once<T>(what: string, role: 'waiting' | 'gc-wanted', inTheWay: (holders: Holder[], ticket: number) => Holder | undefined, change: () => T, waitMs = GC_WAIT_MS): T {
    const deadline = Date.now() + waitMs;
    let ticket: Held | undefined;
    try {
      for (;;) {
        const outcome = this.#transaction(what, () => {
          const holder = inTheWay(this.#living(), ticket?.id ?? Infinity);
          if (holder === undefined) return { done: change() };
          ticket ??= this.#hold(role, what);
          return { holder };
        });
        if ('done' in outcome) return outcome.done;
        do {
          if (Date.now() >= deadline) throw storeBusy(`${outcome.holder.what} (process ${outcome.holder.pid})`);
          Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, POLL_MS);
        } while (inTheWay(this.#living(), ticket?.id ?? Infinity) !== undefined);
      }
    } finally {
      ticket?.[Symbol.dispose]();
    }
  }

  /** What is committed, and was before, is on the disk when it returns. */
  #durably<T>(change: () => T): T {
    this.#db.exec('PRAGMA synchronous = FULL');
    try {
      return change();
    } finally {
      this.#db.exec(`PRAGMA synchronous = ${this.#synchronous}`);
    }
  }

  /**
   * What a failed sync was to save is never saved by a later one: in the middle of the write-ahead log stand commits that only memory has, and recovery would stop there.
   * So all of it goes into the database file itself, and the log begins anew.
   */
  #leaveLog(): void {
    const { busy } = this.#db.prepare('PRAGMA wal_checkpoint(TRUNCATE)').get() as { busy: number };
    if (busy !== 0) throw storeBusy('somebody who reads the refs, after a failed write');
    this.#logIsLost = false;
  }

  #transaction<T>(what: string, change: () => T): T {
    this.#removeEnded();
    this.#unsure = [];
    try {
      if (this.#logIsLost) this.#leaveLog();
      this.#db.exec('BEGIN IMMEDIATE');
      const result = change();
      this.#db.exec('COMMIT');
      return result;
    } catch (error) {
      // Others may be given their numbers now.
      for (const held of this.#unsure) this.#forget(held);
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      this.#logIsLost ||= sqliteExtendedCode(error) === SQLITE_IOERR_FSYNC;
      throw error instanceof Error && 'errcode' in error ? storeWrite(what, error) : error;
    }
  }
}

function checksumOf({ name, kind, digest, at_ms: atMs }: RefRow): number {
  return crc32(JSON.stringify([name, kind, digest, atMs]));
}

function isWhole(row: RefRow): boolean {
  return typeof row.crc !== 'number' || row.crc === checksumOf(row);
}

function isOwn({ pid, start_ticks: startTicks }: Holder): boolean {
  const own = ownProcess();
  return pid === own.pid && startTicks === own.startTicks;
}

function toRef(row: RefRow): Ref {
  return { target: { kind: row.kind, digest: row.digest }, atMs: row.at_ms };
}
