import { statSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import type { StatementSync } from 'node:sqlite';
import { RECORD_HEADER_BYTES, kindCode, kindOfCode } from './pack-format.ts';
import type { Codec, RecordHeader } from './pack-format.ts';
import type { ObjectKind } from './reach.ts';
import { assert } from '@hyperdocker/base';

/** Where an object lies. */
export type Location =
  | { place: 'pack'; pack: string; offset: number; storedBytes: number; rawBytes: number; codec: Codec }
  | { place: 'loose'; rawBytes: number };
export interface IndexRow {
  kind: ObjectKind;
  digest: string;
  location: Location;
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS objects (
    digest BLOB NOT NULL, kind INTEGER NOT NULL, pack INTEGER, offset INTEGER, stored INTEGER, raw INTEGER NOT NULL, codec INTEGER,
    PRIMARY KEY (digest, kind)
  ) WITHOUT ROWID;
  CREATE TABLE IF NOT EXISTS packs (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, scanned INTEGER NOT NULL);
`;
const BUSY_TIMEOUT_MS = 30_000;
/** A file with a larger part of free pages is written again. */
const MAX_FREE_SHARE = 0.25;
const PAGE_ROWS = 10_000;

interface ObjectRow {
  digest: Uint8Array;
  kind: number;
  pack: string | null;
  offset: number;
  stored: number;
  raw: number;
  codec: number;
}

/**
 * The index over packs and loose files: a cache, which can be deleted and is then made again from them. For each pack it remembers up to which byte
 * it knows the records, so that what a crash left between a pack and the index is found at the next open.
 */
export class ObjectIndex {
  readonly #db: DatabaseSync;
  readonly #find: StatementSync;
  readonly #sizeOf: StatementSync;

  /** @param path a file, `:memory:`, or a URL with options */
  constructor(path: string | URL, options: { readOnly: boolean }) {
    this.#db = new DatabaseSync(path, { readOnly: options.readOnly, timeout: BUSY_TIMEOUT_MS });
    try {
      if (!options.readOnly) this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; ${SCHEMA}`);
      this.#find = this.#db.prepare(
        'SELECT objects.digest, kind, packs.id AS pack, offset, stored, raw, codec FROM objects LEFT JOIN packs ON packs.number = objects.pack WHERE digest = ? AND kind = ?',
      );
      this.#sizeOf = this.#db.prepare('SELECT coalesce(sum(CASE WHEN pack IS NULL THEN raw ELSE stored + ? END), 0) AS bytes FROM objects WHERE digest = ? AND kind IN (?, ?)');
    } catch (error) {
      this.#db.close();
      throw error;
    }
  }

  find(kind: ObjectKind, digest: string): Location | undefined {
    const row = this.#find.get(Buffer.from(digest, 'hex'), kindCode(kind)) as ObjectRow | undefined;
    return row === undefined ? undefined : toLocation(row);
  }

  *all(): Generator<IndexRow> {
    const rows = this.#db.prepare(
      'SELECT objects.digest, kind, packs.id AS pack, offset, stored, raw, codec FROM objects LEFT JOIN packs ON packs.number = objects.pack ORDER BY objects.pack, offset, digest',
    );
    for (const row of rows.all() as unknown as ObjectRow[]) {
      const kind = kindOfCode(row.kind);
      if (kind !== undefined) yield { kind, digest: Buffer.from(row.digest).toString('hex'), location: toLocation(row) };
    }
  }

  /** Rows of some packs, in the order in which they lie there. */
  rowsIn(packs: readonly string[]): IndexRow[] {
    const numbers = packs.flatMap((pack) => (this.#db.prepare('SELECT number FROM packs WHERE id = ?').get(pack) as { number: number } | undefined)?.number ?? []);
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

  /** What an object takes where it lies, a chunked blob without its chunks; 0 where it is not. */
  storedBytes({ kind, digest }: { kind: ObjectKind; digest: string }): number {
    const key = Buffer.from(digest, 'hex');
    const row = this.#sizeOf.get(RECORD_HEADER_BYTES, key, kindCode(kind), kind === 'blob' ? 4 : 0) as { bytes: number };
    return row.bytes;
  }

  /** What its own files take. */
  fileBytes(): number {
    const path = this.#db.location();
    return path === null ? 0 : ['', '-wal', '-shm'].reduce((sum, suffix) => sum + (statSync(`${path}${suffix}`, { throwIfNoEntry: false })?.size ?? 0), 0);
  }

  /** Gives space back to the file system, as far as other processes let it. */
  compact(): void {
    const pragma = (name: string): number => Number(Object.values(this.#db.prepare(`PRAGMA ${name}`).get() ?? {})[0] ?? 0);
    if (pragma('freelist_count') > pragma('page_count') * MAX_FREE_SHARE) this.#db.exec('VACUUM');
    this.#db.exec('PRAGMA wal_checkpoint(TRUNCATE)');
  }

  /** Pack ids with the length up to which their records are in the index. */
  packs(): Map<string, number> {
    const rows = this.#db.prepare('SELECT id, scanned FROM packs').all() as { id: string; scanned: number }[];
    return new Map(rows.map(({ id, scanned }) => [id, scanned]));
  }

  totals(): { blobs: number; others: number; blobBytes: number } {
    return this.#db
      .prepare('SELECT coalesce(sum(kind = 1), 0) AS blobs, coalesce(sum(kind <> 1), 0) AS others, coalesce(sum(CASE kind WHEN 1 THEN raw END), 0) AS blobBytes FROM objects')
      .get() as { blobs: number; others: number; blobBytes: number };
  }

  /** One transaction: all of `change` or nothing. */
  update(change: (edit: IndexEdit) => void): void {
    this.#db.exec('BEGIN IMMEDIATE');
    try {
      change(new IndexEdit(this.#db));
      this.#db.exec('COMMIT');
    } catch (error) {
      if (this.#db.isTransaction) this.#db.exec('ROLLBACK');
      throw error;
    }
  }

  close(): void {
    this.#db.close();
  }
}

/** The changes that one transaction makes. */
export class IndexEdit {
  readonly #db: DatabaseSync;
  readonly #numbers = new Map<string, number>();
  #insert: StatementSync | undefined;
  #replace: StatementSync | undefined;

  constructor(db: DatabaseSync) {
    this.#db = db;
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

  remove(kind: ObjectKind, digest: string): void {
    this.#db.prepare('DELETE FROM objects WHERE digest = ? AND kind = ?').run(Buffer.from(digest, 'hex'), kindCode(kind));
  }

  setScanned(pack: string, length: number): void {
    this.#db.prepare('UPDATE packs SET scanned = ? WHERE number = ?').run(length, this.#number(pack));
  }

  /** Forgets a pack with all objects that are still said to be in it. */
  removePack(pack: string): void {
    const number = this.#number(pack);
    this.#db.prepare('DELETE FROM objects WHERE pack = ?').run(number);
    this.#db.prepare('DELETE FROM packs WHERE number = ?').run(number);
    this.#numbers.delete(pack);
  }

  clear(): void {
    this.#db.exec('DELETE FROM objects; DELETE FROM packs;');
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

/** How many bytes a record takes in its pack. */
export function recordBytes(location: Location & { place: 'pack' }): number {
  return RECORD_HEADER_BYTES + location.storedBytes;
}

export function locationOf(pack: string, offset: number, header: RecordHeader): Location {
  return { place: 'pack', pack, offset, storedBytes: header.storedBytes, rawBytes: header.rawBytes, codec: header.codec };
}

function toLocation(row: ObjectRow): Location {
  if (row.pack === null) return { place: 'loose', rawBytes: row.raw };
  return { place: 'pack', pack: row.pack, offset: row.offset, storedBytes: row.stored, rawBytes: row.raw, codec: row.codec as Codec };
}
