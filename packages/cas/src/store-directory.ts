import { accessSync, constants, existsSync, mkdirSync, readFileSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { HdError, isErrno } from '@hyperdocker/base';
import { sqliteCode, storeWrite } from './errors.ts';
import { syncPath } from './files.ts';
import { ObjectIndex } from './object-index.ts';
import { ownProcess } from './process-id.ts';
import { RefStore } from './ref-store.ts';

/** Packs of format 1 are valid in format 2; docs/format/cas.md tells what changed. */
type FormatVersion = 1 | 2;
const FORMAT_VERSION: FormatVersion = 2;
/** Made before the format file: a crash may have left them alone. */
const DIRECTORIES = ['packs', 'objects', 'tmp'];
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;

/**
 * Makes what is missing of a store's directory, and checks that it is one.
 * @returns the format that it has
 * @throws HdError STORE_FORMAT, STORE_VERSION, STORE_WRITE
 */
export function prepareDirectory(dir: string, readOnly: boolean): FormatVersion {
  const path = join(dir, 'format');
  if (existsSync(path) || readOnly) checkFormat(path);
  else if (!isVacant(dir)) throw new HdError('STORE_FORMAT', `${dir} is no store, and no empty directory`, { hint: 'choose another directory for the store' });
  if (!readOnly) {
    try {
      for (const part of DIRECTORIES) mkdirSync(join(dir, part), { recursive: true, mode: 0o755 });
      accessSync(dir, constants.W_OK);
      if (!existsSync(path)) {
        // A store with a format file has a name of its own that lasts.
        syncPath(dirname(resolve(dir)));
        writeFormat(dir);
      }
    } catch (error) {
      throw storeWrite(dir, error);
    }
  }
  return checkFormat(path);
}

/** May a store be made here? */
function isVacant(dir: string): boolean {
  try {
    return readdirSync(dir).every((name) => DIRECTORIES.includes(name) || name.startsWith('format.') || name === 'lost+found');
  } catch (error) {
    return isErrno(error, 'ENOENT');
  }
}

/** After an index of today's version is there: a store of an earlier format becomes one of today's. @throws HdError STORE_WRITE */
export function setFormat(dir: string, present: FormatVersion): void {
  if (present === FORMAT_VERSION) return;
  try {
    writeFormat(dir);
  } catch (error) {
    throw storeWrite(dir, error);
  }
}

/** All or nothing, and on the disk when it returns: what comes later may rely on it. */
function writeFormat(dir: string): void {
  const { pid, startTicks } = ownProcess();
  // Where the next open removes it, should this process end half way.
  const temporary = join(dir, 'tmp', `${pid}-${startTicks}-${randomBytes(8).toString('hex')}`);
  writeFileSync(temporary, `hd.store/${FORMAT_VERSION}\n`, { flush: true });
  renameSync(temporary, join(dir, 'format'));
  syncPath(dir);
}

function checkFormat(path: string): FormatVersion {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) throw new HdError('STORE_FORMAT', `there is no store: ${path} is missing`, { hint: 'open it for writing once, which makes it' });
    throw error;
  }
  const version = Number(/^hd\.store\/(\d+)\n$/.exec(text)?.[1]);
  if (Number.isNaN(version)) throw new HdError('STORE_FORMAT', `${path} does not describe a store`, { hint: 'choose another directory for the store' });
  if (version !== 1 && version !== FORMAT_VERSION) {
    throw new HdError('STORE_VERSION', `the store has format ${version}; this program knows formats 1 and ${FORMAT_VERSION}`, { hint: 'use the newer hd that wrote it, or another directory' });
  }
  return version;
}

export function openRefs(dir: string, options: { readOnly: boolean; strict: boolean }): RefStore {
  const path = join(dir, 'refs.sqlite');
  if (!options.readOnly) return openForWriting(path, () => new RefStore(path, options));
  return openForReading(path, (file, readOnly) => new RefStore(file, { readOnly, strict: false }));
}

/** Not complete: there was none, or it was damaged, or of another version. For reading only, such a one is empty and in memory. */
export function openIndex(dir: string, readOnly: boolean): ObjectIndex {
  const path = join(dir, 'index.sqlite');
  if (readOnly) return openIndexForReading(path);
  const open = (): ObjectIndex => openForWriting(path, () => new ObjectIndex(path, { readOnly }));
  try {
    return open();
  } catch (error) {
    const cause = error instanceof HdError ? error.cause : error;
    if (sqliteCode(cause) !== SQLITE_CORRUPT && sqliteCode(cause) !== SQLITE_NOTADB) throw error;
    // It is a cache: a damaged one is made again.
    removeIndex(dir);
    return open();
  }
}

export function removeIndex(dir: string): void {
  for (const suffix of ['', '-wal', '-shm']) rmSync(join(dir, `index.sqlite${suffix}`), { force: true });
}

function openIndexForReading(path: string): ObjectIndex {
  const inMemory = (): ObjectIndex => new ObjectIndex(':memory:', { readOnly: false });
  try {
    const index = openForReading(path, (file, readOnly) => new ObjectIndex(file, { readOnly }));
    if (index.isComplete || !existsSync(path)) return index;
    index.close();
    return inMemory();
  } catch (error) {
    if (sqliteCode(error) === undefined) throw error;
    return inMemory();
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
function openForReading<T>(path: string, open: (path: string | URL, readOnly: boolean) => T): T {
  if (!existsSync(path)) return open(':memory:', false);
  try {
    return open(path, true);
  } catch (error) {
    if (sqliteCode(error) === undefined) throw error;
    const url = pathToFileURL(path);
    url.searchParams.set('immutable', '1');
    return open(url, true);
  }
}
