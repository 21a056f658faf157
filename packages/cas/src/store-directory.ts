import { accessSync, constants, existsSync, lstatSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { HdError, isErrno } from '@hyperdocker/base';
import { sqliteCode, storeWrite } from './errors.ts';
import { ObjectIndex } from './object-index.ts';
import { RefStore } from './ref-store.ts';

const FORMAT_VERSION = 1;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/**
 * Makes what is missing of a store's directory, and checks that it is one.
 * @throws HdError STORE_FORMAT, STORE_VERSION, STORE_WRITE
 */
export function prepareDirectory(dir: string, readOnly: boolean): void {
  const formatPath = join(dir, 'format');
  if (!readOnly) {
    try {
      for (const part of ['packs', 'objects', 'tmp']) mkdirSync(join(dir, part), { recursive: true, mode: 0o755 });
      accessSync(dir, constants.W_OK);
      if (!existsSync(formatPath)) writeFormat(formatPath);
    } catch (error) {
      throw storeWrite(dir, error);
    }
  }
  checkFormat(formatPath);
}

function writeFormat(path: string): void {
  const temporary = `${path}.${randomBytes(8).toString('hex')}`;
  writeFileSync(temporary, `hd.store/${FORMAT_VERSION}\n`, { flush: true });
  renameSync(temporary, path);
}

function checkFormat(path: string): void {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw new HdError('STORE_FORMAT', `there is no store: ${path} is missing`, { hint: 'open it for writing once, which makes it' });
    throw error;
  }
  const version = /^hd\.store\/(\d+)\n$/.exec(text)?.[1];
  if (version === undefined) throw new HdError('STORE_FORMAT', `${path} does not describe a store`, { hint: 'choose another directory for the store' });
  if (Number(version) !== FORMAT_VERSION) {
    throw new HdError('STORE_VERSION', `the store has format ${version}; this program knows format ${FORMAT_VERSION}`, { hint: 'use the newer hd that wrote it, or another directory' });
  }
}

export function openRefs(dir: string, readOnly: boolean): RefStore {
  const path = join(dir, 'refs.sqlite');
  if (!readOnly) return openForWriting(path, () => new RefStore(path, { readOnly }));
  return openForReading(path, (file, options) => new RefStore(file, options));
}

/** `isNew`: there was none, or it was damaged; it knows nothing yet. */
export function openIndex(dir: string, readOnly: boolean): { index: ObjectIndex; isNew: boolean } {
  const path = join(dir, 'index.sqlite');
  const isNew = !existsSync(path);
  if (readOnly) return { index: openForReading(path, (file, options) => new ObjectIndex(file, options)), isNew };
  const open = (): ObjectIndex => openForWriting(path, () => new ObjectIndex(path, { readOnly }));
  try {
    return { index: open(), isNew };
  } catch (error) {
    const cause = error instanceof HdError ? error.cause : error;
    if (sqliteCode(cause) !== SQLITE_CORRUPT && sqliteCode(cause) !== SQLITE_NOTADB) throw error;
    // It is a cache: a damaged one is made again.
    for (const suffix of ['', '-wal', '-shm']) rmSync(`${path}${suffix}`, { force: true });
    return { index: open(), isNew: true };
  }
}

function openForWriting<T>(path: string, open: () => T): T {
  try {
    return open();
  } catch (error) {
    throw storeWrite(path, error);
  }
}

/** Without the database: an empty one in memory. On media where SQLite cannot make its shared memory: as an immutable file. */
function openForReading<T>(path: string, open: (path: string | URL, options: { readOnly: boolean }) => T): T {
  if (!existsSync(path)) return open(':memory:', { readOnly: false });
  try {
    return open(path, { readOnly: true });
  } catch (error) {
    if (sqliteCode(error) === undefined) throw error;
    const url = pathToFileURL(path);
    url.searchParams.set('immutable', '1');
    return open(url, { readOnly: true });
  }
}

/** All regular files below, with their sizes. */
export function listFiles(dir: string): { path: string; sizeBytes: number }[] {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).flatMap((path) => {
    const stats = lstatSync(join(dir, path), { throwIfNoEntry: false });
    return stats?.isFile() === true ? [{ path, sizeBytes: stats.size }] : [];
  });
}
