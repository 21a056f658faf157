import { DatabaseSync } from 'node:sqlite';
import type { StatementSync } from 'node:sqlite';
import { assert, describeError } from '@hyperdocker/base';
import { sqliteCode, storeWrite } from './errors.ts';
import { RECORD_HEADER_BYTES, kindCode, kindOfCode } from './pack-format.ts';
import type { Codec, RecordHeader, RecordKind } from './pack-format.ts';
import type { ObjectKind } from './reach.ts';

/** Where an object lies. `rawBytes` of a recipe: the size of the blob. `loose`: a blob as a file of its own, from a store of format 1. */
export type Location =
  | { place: 'pack'; pack: string; offset: number; storedBytes: number; rawBytes: number; codec: Codec }
  | { place: 'loose'; rawBytes: number };
export interface IndexRow {
  kind: RecordKind;
  digest: string;
  location: Location;
}
export interface BlobRow extends IndexRow {
  kind: 'blob' | 'recipe';
}
/** Bytes of a pack, `start` included and `stop` not. */
export interface ByteRange { start: number; stop: number }
export interface IndexTotals {
  /** Whole blobs and chunks: how many, their bytes, and those of their payloads. */
  blobs: number;
  blobBytes: number;
  blobStoredBytes: number;
  /** Blobs in chunks, and their bytes. */
  recipes: number;
  recipeBytes: number;
  /** Trees and nodes. */
  others: number;
}

/** In `user_version`, once the index holds all that the packs do. An index of another version is made again. */
const INDEX_VERSION = 2;
/** The tables are there; what they are to hold is not, yet. */
const UNFINISHED = -INDEX_VERSION;
/** Pack numbers are never used again: readers remember what they mean. */
const SCHEMA = `
  CREATE TABLE objects (
    digest BLOB NOT NULL, kind INTEGER NOT NULL, pack INTEGER, offset INTEGER, stored INTEGER, raw INTEGER NOT NULL, codec INTEGER,
    PRIMARY KEY (digest, kind)
  ) WITHOUT ROWID;
  CREATE TABLE packs (number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, scanned INTEGER NOT NULL);
`;
/** Came later, and is no reason to make an index again. */
const GAPS_SCHEMA = 'CREATE TABLE IF NOT EXISTS gaps (pack INTEGER NOT NULL, start INTEGER NOT NULL, stop INTEGER NOT NULL)';
const BUSY_TIMEOUT_MS = 30_000;
/** A file with a larger part of free pages is written again. */
const MAX_FREE_SHARE = 0.25;
const PAGE_ROWS = 10_000;
const STRANGE_ROWS = `SELECT count(*) AS strange FROM objects LEFT JOIN packs ON packs.number = objects.pack
  WHERE typeof(digest) <> 'blob' OR length(digest) <> 32 OR kind NOT BETWEEN 1 AND 4 OR typeof(raw) <> 'integer' OR NOT CASE WHEN pack IS NULL
    THEN kind = 1 ELSE packs.id IS NOT NULL AND typeof(offset) = 'integer' AND typeof(stored) = 'integer' AND codec BETWEEN 0 AND 1 END`;
/** Read by memory map: with it, and rows as arrays without a join, a look-up takes 4 µs instead of 8. */
const MMAP_BYTES = 256 << 20;

type Place = [pack: number | null, offset: number, stored: number, raw: number, codec: number];

/**
 * The index over packs and loose files: a cache, which can be deleted and is then made again from them. For each pack it remembers up to which byte
 * it knows the records, so that what a crash left between a pack and the index is found at the next open.
 */
export class ObjectIndex {
  readonly #db: DatabaseSync;
  /** The rows of a digest; of a blob that is there whole and in chunks, the whole one comes first. */
  readonly #findFirst: StatementSync;
  readonly #findKind: StatementSync;
  readonly #findPack: StatementSync;
  readonly #packIds = new Map<number, string>();

  /** @param path a file, `:memory:`, or a URL with options */
  constructor(path: string | URL, options: { readOnly: boolean }) {
    this.#db = new DatabaseSync(path, { readOnly: options.readOnly, timeout: BUSY_TIMEOUT_MS });
    try {
      if (!options.readOnly) {
        this.#db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL');
        this.#makeTables();
      }
      this.#db.exec(`PRAGMA mmap_size = ${MMAP_BYTES}`);
      this.#findFirst = this.#prepareArrays('SELECT kind, pack, offset, stored, raw, codec FROM objects WHERE digest = ? ORDER BY kind');
      this.#findKind = this.#prepareArrays('SELECT pack, offset, stored, raw, codec FROM objects WHERE digest = ? AND kind = ?');
      this.#findPack = this.#db.prepare('SELECT id FROM packs WHERE number = ?');
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  /** Does it hold what the packs do, up to what `packs` tells? */
  get isComplete(): boolean {
    return this.#version() === INDEX_VERSION;
  }

  get isEmpty(): boolean {
    return this.#db.prepare('SELECT 1 FROM objects LIMIT 1').get() === undefined;
  }

  find(kind: RecordKind, digest: string): Location | undefined {
    const place = this.#findKind.get(Buffer.from(digest, 'hex'), kindCode(kind)) as Place | undefined;
    return place === undefined ? undefined : this.#toLocation(place);
  }

  /** A blob, whole or as a recipe. */
  findBlob(digest: string): BlobRow | undefined {
    const first = this.#findFirst.get(Buffer.from(digest, 'hex')) as [kind: number, ...Place] | undefined;
    if (first === undefined) return undefined;
    const [code, ...place] = first;
    const kind = kindOfCode(code);
    if (kind === 'blob' || kind === 'recipe') return { kind, digest, location: this.#toLocation(place) };
    // A tree or node of the same bytes stands in between.
    const location = this.find('recipe', digest);
    return location === undefined ? undefined : { kind: 'recipe', digest, location };
  }

  /** All rows, pack by pack in order of their offsets, without holding them all. The index may be read meanwhile, not changed. */
  *all(): Generator<IndexRow> {
    yield* this.#rows('ORDER BY pack, offset, digest');
  }

  /** Rows of one kind. As `all`, but in no order. */
  *ofKind(kind: RecordKind): Generator<IndexRow> {
    yield* this.#rows(`WHERE kind = ${kindCode(kind)}`);
  }

  /** Rows of some packs, in the order in which they lie there. */
  rowsIn(packs: readonly string[]): IndexRow[] {
    const number = this.#db.prepare('SELECT number FROM packs WHERE id = ?');
    const numbers = packs.flatMap((pack) => (number.get(pack) as { number: number } | undefined)?.number ?? []);
    return [...this.#rows(`WHERE pack IN (${numbers.join()}) ORDER BY pack, offset`)];
  }

  /** Removes rows, some thousand in one transaction. */
  removeWhere(isGone: (row: IndexRow) => boolean): void {
    let after: IndexRow | undefined;
    do {
      const from = after === undefined ? '' : `WHERE (digest, kind) > (x'${after.digest}', ${kindCode(after.kind)})`;
      const page = [...this.#rows(`${from} ORDER BY digest, kind LIMIT ${PAGE_ROWS}`)];
      const gone = page.filter(isGone);
      if (gone.length > 0) this.update((edit) => gone.forEach(({ kind, digest }) => edit.remove(kind, digest)));
      after = page.at(-1);
    } while (after !== undefined);
  }

  /** What an object takes where it lies, a blob in chunks without these; 0 where it is not. */
  storedBytes(kind: ObjectKind, digest: string): number {
    const row = kind === 'blob' ? this.findBlob(digest) : undefined;
    const location = kind === 'blob' ? row?.location : this.find(kind, digest);
    return location === undefined ? 0 : storedBytesAt(location);
  }

  /** Gives space back to the file system, as far as other processes let it. @throws HdError STORE_WRITE */
  compact(): void {
    this.#writing(() => {
      if (this.#pragma('freelist_count') > this.#pragma('page_count') * MAX_FREE_SHARE) this.#db.exec('VACUUM');
      this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
    });
  }

  /** What is wrong with the file, or with rows that no writer can have made; undefined where nothing is. */
  damage(): string | undefined {
    try {
      const [first] = this.#db.prepare('PRAGMA integrity_check(1)').all() as { integrity_check: string }[];
      if (first?.integrity_check !== 'ok') return first?.integrity_check ?? 'it cannot be read';
      const { strange } = this.#db.prepare(STRANGE_ROWS).get() as { strange: number };
      return strange === 0 ? undefined : `${strange} rows of it make no sense`;
    } catch (error) {
      if (sqliteCode(error) === undefined) throw error;
      return describeError(error);
    }
  }

  /** Pack ids with the length up to which their records are in the index. */
  packs(): Map<string, number> {
    const rows = this.#db.prepare('SELECT id, scanned FROM packs').all() as { id: string; scanned: number }[];
    return new Map(rows.map(({ id, scanned }) => [id, scanned]));
  }

  /** Parts of a pack between records that were no whole record when it was scanned. */
  gaps(pack: string): ByteRange[] {
    if (!this.#hasGaps()) return [];
    return this.#db.prepare('SELECT start, stop FROM gaps JOIN packs ON packs.number = gaps.pack WHERE id = ?').all(pack) as unknown as ByteRange[];
  }

  totals(): IndexTotals {
    const sums = this.#db
      .prepare('SELECT kind, count(*) AS count, sum(raw) AS raw, sum(coalesce(stored, raw)) AS stored FROM objects GROUP BY kind')
      .all() as { kind: number; count: number; raw: number; stored: number }[];
    const totals: IndexTotals = { blobs: 0, blobBytes: 0, blobStoredBytes: 0, recipes: 0, recipeBytes: 0, others: 0 };
    for (const { kind, count, raw, stored } of sums) {
      if (kind === kindCode('blob')) Object.assign(totals, { blobs: count, blobBytes: raw, blobStoredBytes: stored });
      else if (kind === kindCode('recipe')) Object.assign(totals, { recipes: count, recipeBytes: raw });
      else totals.others += count;
    }
    return totals;
  }

  /** One transaction: all of `change` or nothing. @throws HdError STORE_WRITE */
  update(change: (edit: IndexEdit) => void): void {
    this.#writing(() => this.#transaction(() => change(new IndexEdit(this.#db))));
  }

  close(): void {
    this.#db.close();
  }

  *#rows(clause: string): Generator<IndexRow> {
    const statement = this.#prepareArrays(`SELECT digest, kind, pack, offset, stored, raw, codec FROM objects ${clause}`);
    for (const row of statement.iterate()) {
      const [digest, code, ...place] = row as unknown as [Uint8Array, number, ...Place];
      const kind = kindOfCode(code);
      if (kind !== undefined) yield { kind, digest: Buffer.from(digest).toString('hex'), location: this.#toLocation(place) };
    }
  }

  #toLocation([number, offset, storedBytes, rawBytes, codec]: Place): Location {
    if (number === null) return { place: 'loose', rawBytes };
    return { place: 'pack', pack: this.#packIds.get(number) ?? this.#packId(number), offset, storedBytes, rawBytes, codec: codec as Codec };
  }

  #packId(number: number): string {
    const row = this.#findPack.get(number) as { id: string } | undefined;
    // No pack is called so: whoever looks into it finds that it is gone.
    if (row === undefined) return '';
    this.#packIds.set(number, row.id);
    return row.id;
  }

  #prepareArrays(sql: string): StatementSync {
    const statement = this.#db.prepare(sql);
    statement.setReturnArrays(true);
    return statement;
  }

  #version(): number {
    return this.#pragma('user_version');
  }

  #pragma(name: string): number {
    return Number(Object.values(this.#db.prepare(`PRAGMA ${name}`).get() ?? {})[0]);
  }

  /** Where there are none, or those of another version. Other processes may have the index open. */
  #makeTables(): void {
    if ([INDEX_VERSION, UNFINISHED].includes(this.#version())) {
      if (!this.#hasGaps()) this.#db.exec(GAPS_SCHEMA);
      return;
    }
    this.#transaction(() => {
      if ([INDEX_VERSION, UNFINISHED].includes(this.#version())) return;
      this.#db.exec(`DROP TABLE IF EXISTS objects; DROP TABLE IF EXISTS packs; DROP TABLE IF EXISTS gaps; ${SCHEMA} ${GAPS_SCHEMA}; PRAGMA user_version = ${UNFINISHED}`);
    });
  }

  #hasGaps(): boolean {
    return this.#db.prepare("SELECT 1 FROM sqlite_master WHERE name = 'gaps'").get() !== undefined;
  }

  #transaction(change: () => void): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      change();
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  #writing(change: () => void): void {
    try {
      change();
    } catch (error) {
      throw sqliteCode(error) === undefined ? error : storeWrite(this.#db.location() ?? 'the index', error);
    }
  }
}

/** The changes that one transaction makes. */
export class IndexEdit {
  readonly #db: DatabaseSync;
  readonly #numbers = new Map<string, number>();
  #insert: StatementSync | undefined;
  #replace: StatementSync | undefined;
  #delete: StatementSync | undefined;

  constructor(db: DatabaseSync) {
    this.#db = db;
  }

  /** All that packs and loose files hold is in the index now. */
  setComplete(): void {
    this.#db.exec(`PRAGMA user_version = ${INDEX_VERSION}`);
  }

  /** Keeps the location that is there already. @returns was it new? */
  add(row: IndexRow): boolean {
    this.#insert ??= this.#db.prepare('INSERT OR IGNORE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)');
    return this.#insert.run(...this.#values(row)).changes === 1;
  }

  replace(row: IndexRow): void {
    this.#replace ??= this.#db.prepare('INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)');
    this.#replace.run(...this.#values(row));
  }

  remove(kind: RecordKind, digest: string): void {
    this.#delete ??= this.#db.prepare('DELETE FROM objects WHERE digest = ? AND kind = ?');
    this.#delete.run(Buffer.from(digest, 'hex'), kindCode(kind));
  }

  setScanned(pack: string, length: number): void {
    this.#db.prepare('UPDATE packs SET scanned = ? WHERE number = ?').run(length, this.#number(pack));
  }

  /** See `ObjectIndex.gaps`. */
  addGap(pack: string, { start, stop }: ByteRange): void {
    this.#db.prepare('INSERT INTO gaps VALUES (?, ?, ?)').run(this.#number(pack), start, stop);
  }

  /** Forgets a pack with all objects that are still said to be in it. */
  removePack(pack: string): void {
    const number = this.#number(pack);
    this.#db.prepare('DELETE FROM gaps WHERE pack = ?').run(number);
    this.#db.prepare('DELETE FROM objects WHERE pack = ?').run(number);
    this.#db.prepare('DELETE FROM packs WHERE number = ?').run(number);
    this.#numbers.delete(pack);
  }

  /** Forgets what lies beyond the `length` that the pack has. */
  cutPack(pack: string, length: number): void {
    this.#db.prepare('DELETE FROM objects WHERE pack = ? AND offset + stored + ? > ?').run(this.#number(pack), RECORD_HEADER_BYTES, length);
    this.setScanned(pack, length);
  }

  /** Forgets everything; it is not complete then. */
  clear(): void {
    this.#db.exec(`DELETE FROM objects; DELETE FROM packs; DELETE FROM gaps; PRAGMA user_version = ${UNFINISHED}`);
    this.#numbers.clear();
  }

  #values({ kind, digest, location }: IndexRow): [Buffer, number, number | null, number | null, number | null, number, number | null] {
    const key = Buffer.from(digest, 'hex');
    if (location.place === 'loose') return [key, kindCode(kind), null, null, null, location.rawBytes, null];
    return [key, kindCode(kind), this.#number(location.pack), location.offset, location.storedBytes, location.rawBytes, location.codec];
  }

  #number(pack: string): number {
    let number = this.#numbers.get(pack);
    if (number === undefined) {
      this.#db.prepare('INSERT OR IGNORE INTO packs (id, scanned) VALUES (?, 0)').run(pack);
      const row = this.#db.prepare('SELECT number FROM packs WHERE id = ?').get(pack) as { number: number } | undefined;
      assert(row !== undefined, 'the pack was just inserted');
      this.#numbers.set(pack, (number = row.number));
    }
    return number;
  }
}

/** What an object takes in its pack, or as a file. */
export function storedBytesAt(location: Location): number {
  return location.place === 'pack' ? recordBytes(location) : location.rawBytes;
}

/** How many bytes a record takes in its pack. */
export function recordBytes(location: Location & { place: 'pack' }): number {
  return RECORD_HEADER_BYTES + location.storedBytes;
}

/** `blobBytes`: of a recipe, the size of the blob. */
export function locationOf(pack: string, offset: number, header: RecordHeader, blobBytes?: number): Location & { place: 'pack' } {
  return { place: 'pack', pack, offset, storedBytes: header.storedBytes, rawBytes: blobBytes ?? header.rawBytes, codec: header.codec };
}
