import type { BigIntStats } from 'node:fs';
import { readdirSync, readlinkSync } from 'node:fs';
import { DatabaseSync } from 'node:sqlite';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, fromBuffer, hostPath, isErrno, joinBytes, lstatIfAny, toText } from '@hyperdocker/base';
import type { Meta, Store, TreeEntry } from '@hyperdocker/cas';
import { FIXED_MTIME_NS } from '@hyperdocker/mount';
import type { Filter } from '@hyperdocker/watch';

/** A project's files as they are now. */
export interface Ingested {
  /** The identity: contents, kinds, exec bits and link targets. Owners, umasks and times change nothing here. */
  source: TreeDigest;
  /** The same files with an owner and a time each, for those who look at them in the environment. */
  projected: TreeDigest;
  files: number;
  bytes: number;
  /** How many files were read. The others were known by their stat. */
  hashed: number;
}

interface Known { ino: bigint; size: bigint; mtimeNs: bigint; ctimeNs: bigint; digest: BlobDigest; shownMtimeNs: bigint; trusted: boolean }

/**
 * The file clock may stand still for some milliseconds, so a file written again right after it was hashed can look the
 * same. As git does: what was young when it was hashed is hashed again.
 */
const RACY_NS = 20_000_000n;

export interface IngestOptions {
  store: Store;
  projectDir: string;
  filter: Filter;
  /** SQLite file: (path, inode, size, times) → digest. A cache: may be deleted. */
  statCacheFile: string;
  owner: { uid: number; gid: number };
}

export class Ingest implements Disposable {
  readonly #options: IngestOptions;
  readonly #db: DatabaseSync;
  readonly #known = new Map<ByteString, Known>();

  constructor(options: IngestOptions) {
    this.#options = options;
    this.#db = new DatabaseSync(options.statCacheFile, { readBigInts: true });
    this.#db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;
      CREATE TABLE IF NOT EXISTS stat (path BLOB PRIMARY KEY, ino INTEGER, size INTEGER, mtime_ns INTEGER, ctime_ns INTEGER,
        digest TEXT, shown_mtime_ns INTEGER, trusted INTEGER) WITHOUT ROWID`);
    for (const row of this.#db.prepare('SELECT * FROM stat').iterate() as Iterable<unknown> as Iterable<StatRow>) {
      this.#known.set(fromBuffer(row.path), {
        ino: row.ino, size: row.size, mtimeNs: row.mtime_ns, ctimeNs: row.ctime_ns, digest: row.digest as BlobDigest,
        shownMtimeNs: row.shown_mtime_ns, trusted: row.trusted === 1n,
      });
    }
  }

  /** Looks at every file; reads those whose stat is not known. @throws HdError PROJECT_UNREADABLE */
  scan(): Ingested {
    const scan = new Scan(this.#options, this.#known);
    const { source, projected } = scan.directory('' as ByteString);
    this.#save(scan);
    return { source, projected, files: scan.files, bytes: scan.bytes, hashed: scan.hashed };
  }

  #save(scan: Scan): void {
    const gone = [...this.#known.keys()].filter((path) => !scan.seen.has(path));
    if (scan.updated.size === 0 && gone.length === 0) return;
    const put = this.#db.prepare('INSERT OR REPLACE INTO stat VALUES (?, ?, ?, ?, ?, ?, ?, ?)');
    const remove = this.#db.prepare('DELETE FROM stat WHERE path = ?');
    this.#db.exec('BEGIN');
    for (const [path, k] of scan.updated) {
      put.run(Buffer.from(path, 'latin1'), k.ino, k.size, k.mtimeNs, k.ctimeNs, k.digest, k.shownMtimeNs, k.trusted ? 1 : 0);
      this.#known.set(path, k);
    }
    for (const path of gone) {
      remove.run(Buffer.from(path, 'latin1'));
      this.#known.delete(path);
    }
    this.#db.exec('COMMIT');
  }

  [Symbol.dispose](): void {
    this.#db.close();
  }
}

interface StatRow { path: Uint8Array; ino: bigint; size: bigint; mtime_ns: bigint; ctime_ns: bigint; digest: string; shown_mtime_ns: bigint; trusted: bigint }

class Scan {
  readonly #options: IngestOptions;
  readonly #known: ReadonlyMap<ByteString, Known>;
  readonly seen = new Set<ByteString>();
  readonly updated = new Map<ByteString, Known>();
  files = 0;
  bytes = 0;
  hashed = 0;

  constructor(options: IngestOptions, known: ReadonlyMap<ByteString, Known>) {
    this.#options = options;
    this.#known = known;
  }

  directory(path: ByteString): { source: TreeDigest; projected: TreeDigest; empty: boolean } {
    const source: TreeEntry[] = [];
    const projected: TreeEntry[] = [];
    for (const name of this.#names(path)) {
      const child = joinBytes(path, name);
      const pair = this.#entry(child, name);
      if (pair === undefined) continue;
      source.push(pair.source);
      projected.push(pair.projected);
    }
    const { store } = this.#options;
    return { source: store.putTree(source), projected: store.putTree(projected), empty: source.length === 0 };
  }

  #names(path: ByteString): ByteString[] {
    try {
      return readdirSync(hostPath(this.#options.projectDir, path), { encoding: 'buffer' }).map(fromBuffer);
    } catch (cause) {
      if (isErrno(cause, 'ENOENT', 'ENOTDIR') && path !== '') return [];
      throw new HdError('PROJECT_UNREADABLE', `cannot list ${toText(path) || this.#options.projectDir}`, { cause, hint: 'exclude it with [files] exclude, or fix its permissions' });
    }
  }

  /** Undefined: not part of the project, or gone while we looked. */
  #entry(path: ByteString, name: ByteString): { source: TreeEntry; projected: TreeEntry } | undefined {
    const host = hostPath(this.#options.projectDir, path);
    const stats = lstatIfAny(host);
    if (stats === undefined) return undefined;
    const { filter, owner } = this.#options;
    const meta = (mtimeNs: bigint): Meta => ({ ...owner, mtimeNs, xattrs: [], linkGroup: 0, links: 1 });
    if (stats.isDirectory()) {
      const included = filter.decide(toText(path), true).included;
      if (!included && !filter.mayContain(toText(path))) return undefined;
      const { source, projected, empty } = this.directory(path);
      if (!included && empty) return undefined;
      const dir = { kind: 'dir' as const, name, mode: 0o755 };
      // A directory's own time would change with every file in it; a fixed one keeps equal directories equal.
      return { source: { ...dir, digest: source }, projected: { ...dir, digest: projected, meta: meta(FIXED_MTIME_NS) } };
    }
    if (!filter.decide(toText(path), false).included) return undefined;
    if (stats.isSymbolicLink()) {
      const link = { kind: 'symlink' as const, name, mode: 0o777, target: fromBuffer(readlinkSync(host, { encoding: 'buffer' })) };
      return { source: link, projected: { ...link, meta: meta(FIXED_MTIME_NS) } };
    }
    if (!stats.isFile()) return undefined; // sockets, pipes and devices of the host mean nothing elsewhere
    const known = this.#file(path, host, stats);
    const file = { kind: 'file' as const, name, mode: (stats.mode & 0o111n) === 0n ? 0o644 : 0o755, digest: known.digest, size: Number(known.size) };
    this.files++;
    this.bytes += file.size;
    return { source: file, projected: { ...file, meta: meta(known.shownMtimeNs) } };
  }

  #file(path: ByteString, host: string | Buffer, stats: BigIntStats): Known {
    this.seen.add(path);
    const before = this.#known.get(path);
    if (before?.trusted === true && before.ino === stats.ino && before.size === stats.size && before.mtimeNs === stats.mtimeNs && before.ctimeNs === stats.ctimeNs) {
      return before;
    }
    const startedNs = BigInt(Date.now()) * 1_000_000n;
    const { digest, size } = this.#read(path, host);
    this.hashed++;
    const youngest = stats.mtimeNs > stats.ctimeNs ? stats.mtimeNs : stats.ctimeNs;
    const known: Known = {
      ino: stats.ino, size: BigInt(size), mtimeNs: stats.mtimeNs, ctimeNs: stats.ctimeNs, digest,
      shownMtimeNs: shownMtime(before, digest, stats.mtimeNs, startedNs),
      trusted: BigInt(size) === stats.size && youngest + RACY_NS < startedNs,
    };
    this.updated.set(path, known);
    return known;
  }

  #read(path: ByteString, host: string | Buffer): { digest: BlobDigest; size: number } {
    for (let attempt = 1; ; attempt++) {
      try {
        return this.#options.store.putFile(host);
      } catch (cause) {
        if (attempt < 3 && cause instanceof HdError && cause.code === 'FILE_CHANGED') continue;
        if (cause instanceof HdError) throw cause;
        throw new HdError('PROJECT_UNREADABLE', `cannot read ${toText(path)}`, { cause, hint: 'exclude it with [files] exclude, or fix its permissions' });
      }
    }
  }
}

/**
 * The time that tools inside see. It changes when the content does, always forwards (so that `make` and `cargo` rebuild
 * after a return to an older version too), and stays when the content stays, whatever the host's file says.
 */
function shownMtime(before: Known | undefined, digest: BlobDigest, mtimeNs: bigint, nowNs: bigint): bigint {
  if (before === undefined) return mtimeNs;
  if (before.digest === digest) return before.shownMtimeNs;
  if (mtimeNs > before.shownMtimeNs) return mtimeNs;
  return nowNs > before.shownMtimeNs ? nowNs : before.shownMtimeNs + 1n;
}
