import { chmodSync, mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { assert, hasher } from '@hyperdocker/base';
import { ROOT_INO } from './memory-disk.ts';
import type { Operation } from './operation.ts';
import { randomNumbers } from '../random-numbers.ts';

/**
 * What a power cut can leave of the operations in a log:
 *
 * - A write or truncation of a file is safe once a later sync of that file has succeeded; a new, removed or changed name once a later sync of its
 *   directory has. Syncing a file does not save its name, nor syncing a directory what its files hold.
 * - What is not safe survives or not, each piece by itself, whatever came before or after it. A write can be torn: any of its 512-byte sectors may
 *   survive. A surviving sector holds what the page cache held after that write. What was never written reads as zeros. Half of the random images
 *   choose each piece by itself; in the others each file and each directory has a moment of its own, up to which everything survives.
 * - A name points at its old or its new file, never at nothing in between. A rename within a directory happens or does not; one between directories may
 *   leave the file under both names, but never under neither.
 * - What was written before a sync that failed never arrives, unless the cut shows everything.
 * - Modes are those of the moment of the cut.
 */
export type Survival = { kind: 'none' } | { kind: 'all' } | { kind: 'random'; seed: number };

/** Path below the root of the disk → what is there. Directories come before what is in them. */
export type Image = Map<string, { type: 'dir' } | { type: 'file'; mode: number; bytes: Uint8Array } | { type: 'symlink'; target: string }>;

const SECTOR_BYTES = 512;

type DataChange = { offset: number; bytes: Uint8Array } | { sizeBytes: number };
interface FileState {
  type: 'file' | 'dir' | 'symlink';
  mode: number;
  target: string;
  safe: Buffer;
  pending: { change: DataChange; isLost: boolean }[];
  /** Of a directory. */
  safeNames: Map<string, number>;
  pendingNames: NameChange[];
}
interface NameChange {
  dir: number;
  name: string;
  /** undefined: removed */
  ino: number | undefined;
  /** The other half of a rename: without it, this one does not survive. */
  needs: NameChange | undefined;
}

/** Goes through a log, operation by operation; after each, `image` shows what a cut at that moment could leave. Starts with an empty disk. */
export class PowerCuts {
  readonly #log: readonly Operation[];
  readonly #files = new Map<number, FileState>([[ROOT_INO, newState('dir', 0o755, '')]]);
  #position = 0;

  constructor(log: readonly Operation[]) {
    this.#log = log;
  }

  /** How many operations are behind. */
  get position(): number {
    return this.#position;
  }

  /** @returns the operation that was done, undefined at the end */
  next(): Operation | undefined {
    const operation = this.#log[this.#position];
    if (operation === undefined) return undefined;
    this.#position++;
    this.#apply(operation);
    return operation;
  }

  image(survival: Survival): Image {
    const luck = luckOf(survival);
    const names = this.#surviveNames(luck);
    // A file with two names is one file.
    const contents = new Map<number, Buffer>();
    const bytesOf = (ino: number, state: FileState): Buffer => {
      const bytes = contents.get(ino) ?? surviveData(state, luck(ino, state.pending.length));
      contents.set(ino, bytes);
      return bytes;
    };
    const image: Image = new Map();
    const visit = (dir: number, path: string): void => {
      for (const [name, ino] of names.get(dir) ?? []) {
        const state = this.#file(ino);
        const below = path === '' ? name : `${path}/${name}`;
        if (state.type === 'symlink') image.set(below, { type: 'symlink', target: state.target });
        else if (state.type === 'file') image.set(below, { type: 'file', mode: state.mode, bytes: bytesOf(ino, state) });
        else {
          image.set(below, { type: 'dir' });
          visit(ino, below);
        }
      }
    };
    visit(ROOT_INO, '');
    return image;
  }

  #apply(operation: Operation): void {
    switch (operation.kind) {
      case 'create':
        this.#files.set(operation.ino, newState(operation.type, operation.mode, operation.target));
        this.#rename(operation.dir, operation.name, operation.ino);
        return;
      case 'link':
        this.#rename(operation.dir, operation.name, operation.ino);
        return;
      case 'unlink':
        this.#rename(operation.dir, operation.name, undefined);
        return;
      case 'rename': {
        const added = this.#rename(operation.toDir, operation.toName, operation.ino);
        this.#rename(operation.dir, operation.name, undefined, added);
        return;
      }
      case 'write':
        this.#file(operation.ino).pending.push({ change: { offset: operation.offset, bytes: operation.bytes }, isLost: false });
        return;
      case 'truncate':
        this.#file(operation.ino).pending.push({ change: { sizeBytes: operation.sizeBytes }, isLost: false });
        return;
      case 'mode':
        this.#file(operation.ino).mode = operation.mode;
        return;
      case 'sync':
        this.#sync(operation.ino);
        return;
      case 'sync-failed':
        for (const entry of this.#file(operation.ino).pending) entry.isLost = true;
        return;
      case 'mark':
        return;
    }
  }

  #rename(dir: number, name: string, ino: number | undefined, needs?: NameChange): NameChange {
    const change: NameChange = { dir, name, ino, needs };
    this.#file(dir).pendingNames.push(change);
    return change;
  }

  #sync(ino: number): void {
    const state = this.#file(ino);
    state.safe = surviveData(state, (_, isLost) => !isLost);
    state.pending = [];
    // A journal keeps the halves of a rename together: when the old name is gone for good, the new one is there for good.
    for (const { needs } of state.pendingNames) if (needs !== undefined) this.#saveName(needs);
    for (const change of state.pendingNames) setName(state.safeNames, change);
    state.pendingNames = [];
  }

  /** Makes one name safe, and forgets what happened to it before. */
  #saveName(change: NameChange): void {
    const state = this.#file(change.dir);
    const at = state.pendingNames.indexOf(change);
    if (at < 0) return;
    setName(state.safeNames, change);
    state.pendingNames = state.pendingNames.filter(({ name }, i) => i > at || name !== change.name);
  }

  #surviveNames(luck: Luck): Map<number, Map<string, number>> {
    const surviving = new Set<NameChange>();
    const isSafe = (change: NameChange): boolean => !this.#file(change.dir).pendingNames.includes(change);
    const all = [...this.#files].flatMap(([ino, { pendingNames }]) => {
      const survives = luck(ino, pendingNames.length);
      return pendingNames.map((change, i) => ({ change, isLucky: survives(i, false) !== false }));
    });
    // First what stands alone, then the second halves of renames.
    for (const { change, isLucky } of all) if (change.needs === undefined && isLucky) surviving.add(change);
    for (const { change, isLucky } of all) {
      if (change.needs === undefined) continue;
      if (!surviving.has(change.needs) && !isSafe(change.needs)) continue;
      if (change.needs.dir === change.dir || isLucky) surviving.add(change);
    }
    const names = new Map<number, Map<string, number>>();
    for (const [ino, { type, safeNames, pendingNames }] of this.#files) {
      if (type !== 'dir') continue;
      const present = new Map(safeNames);
      for (const change of pendingNames) if (surviving.has(change)) setName(present, change);
      names.set(ino, present);
    }
    return names;
  }

  #file(ino: number): FileState {
    const state = this.#files.get(ino);
    assert(state !== undefined, `the log names inode ${ino} before it was made`);
    return state;
  }
}

function newState(type: FileState['type'], mode: number, target: string): FileState {
  return { type, mode, target, safe: Buffer.alloc(0), pending: [], safeNames: new Map(), pendingNames: [] };
}

function setName(names: Map<string, number>, { name, ino }: NameChange): void {
  if (ino === undefined) names.delete(name);
  else names.set(name, ino);
}

/** Of the pending changes of one inode: does this one survive, or which sectors of it? */
type Survives = (index: number, isLost: boolean) => boolean | ((sector: number) => boolean);
/** For an inode with so many pending changes. */
type Luck = (ino: number, count: number) => Survives;

function luckOf(survival: Survival): Luck {
  if (survival.kind === 'none') return () => () => false;
  if (survival.kind === 'all') return () => () => true;
  const chance = randomNumbers(survival.seed);
  const half = (): boolean => chance() < 0.5;
  if (half()) {
    const share = [0.1, 0.5, 0.9][Math.floor(chance() * 3)] ?? 0.5;
    return () => (_, isLost) => !isLost && chance() < share && (half() || half);
  }
  return (_, count) => {
    const end = Math.floor(chance() * (count + 1));
    return (index, isLost) => !isLost && index <= end && (index < end || half);
  };
}

function surviveData({ safe, pending }: FileState, survives: Survives): Buffer {
  let cache = safe;
  let disk = safe;
  for (const [i, { change, isLost }] of pending.entries()) {
    cache = applyChange(cache, change);
    const fate = survives(i, isLost);
    if (fate === false) continue;
    if ('sizeBytes' in change) disk = resize(disk, change.sizeBytes);
    else disk = copySectors(disk, cache, change.offset, change.bytes.length, fate === true ? () => true : fate);
  }
  return disk;
}

function applyChange(bytes: Buffer, change: DataChange): Buffer {
  if ('sizeBytes' in change) return resize(bytes, change.sizeBytes);
  const result = resize(bytes, Math.max(bytes.length, change.offset + change.bytes.length));
  result.set(change.bytes, change.offset);
  return result;
}

/** Each sector of the range as the cache has it now, if it is chosen. */
function copySectors(disk: Buffer, cache: Buffer, offset: number, length: number, isChosen: (sector: number) => boolean): Buffer {
  let result = resize(disk, disk.length);
  for (let at = offset - (offset % SECTOR_BYTES); at < offset + length; at += SECTOR_BYTES) {
    if (!isChosen(at / SECTOR_BYTES)) continue;
    const sector = cache.subarray(at, Math.min(at + SECTOR_BYTES, cache.length));
    if (at + sector.length > result.length) result = resize(result, Math.max(at + sector.length, Math.min(offset + length, cache.length)));
    result.set(sector, at);
  }
  return result;
}

/** Always a copy. */
function resize(bytes: Buffer, sizeBytes: number): Buffer {
  const result = Buffer.alloc(sizeBytes);
  bytes.copy(result, 0, 0, Math.min(sizeBytes, bytes.length));
  return result;
}

/** Tells images apart. */
export function imageDigest(image: Image): string {
  const stream = hasher.stream();
  for (const [path, entry] of image) {
    stream.update(Buffer.from(`${path}\0${entry.type}\0${entry.type === 'file' ? `${entry.mode} ${entry.bytes.length}` : ''}\0`, 'latin1'));
    if (entry.type === 'file') stream.update(entry.bytes);
  }
  return stream.digest();
}

/** Writes an image out into an existing, empty directory. */
export function writeImage(image: Image, dir: string): void {
  for (const [path, entry] of image) {
    const target = join(dir, path);
    if (entry.type === 'dir') mkdirSync(target);
    else if (entry.type === 'symlink') symlinkSync(entry.target, target);
    else {
      writeFileSync(target, entry.bytes);
      if (entry.mode !== 0o644) chmodSync(target, entry.mode);
    }
  }
}
