import { readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HdError, isErrno } from '@hyperdocker/base';
import { storeWrite } from './errors.ts';
import { readAt, syncPath, withFile } from './files.ts';
import { locationOf } from './object-index.ts';
import type { IndexRow, ObjectIndex } from './object-index.ts';
import { PACK_HEADER, RECORD_HEADER_BYTES, scanRecords } from './pack-format.ts';
import type { RecordHeader } from './pack-format.ts';
import type { PromotedFiles } from './promoted-files.ts';
import { decodeRecipe } from './recipe.ts';

interface RecoverySpace {
  packsDir: string;
  index: ObjectIndex;
  files: PromotedFiles;
  /** In a store of format 1, a file is the only copy of its blob, and was synced before it got its name. */
  filesArePrimary: boolean;
  readOnly: boolean;
  heldPacks(): Set<string>;
  /** Keeps gc away meanwhile. */
  lease(): Disposable | undefined;
  /** Does the store have what the object refers to? */
  hasLinks(row: IndexRow): boolean;
}

/** What a writer calls its packs. */
const PACK_ID = /^[0-9a-f]{12}-[0-9a-f]{16}$/;

interface Difference {
  /** In the index, and there is no such file. */
  lost: string[];
  /** Shorter than the index knows it: a power cut took what was not synced, or somebody cut it off. */
  shrunk: { pack: string; length: number }[];
  /** Longer than the index knows it. */
  grown: { pack: string; from: number }[];
}

/**
 * Brings the index up to what packs and files hold: after a crash between a pack and the index, after a loss, or when the index is new.
 * Found recipes, trees and nodes of which a part was lost are left out, so that what the store has, it has whole.
 */
export function recoverIndex(space: RecoverySpace): void {
  if (!space.readOnly) removeEmptyPacks(space);
  const isNew = !space.index.isComplete;
  const { lost, shrunk, grown } = comparePacks(space, isNew);
  const lostAny = lost.length > 0 || shrunk.length > 0;
  if (!isNew && !lostAny && grown.length === 0) return;
  using _lease = space.lease();
  if (lostAny) {
    space.index.update((edit) => {
      for (const pack of lost) edit.removePack(pack);
      for (const { pack, length } of shrunk) edit.cutPack(pack, length);
    });
  }
  const found = scanPacks(space, grown);
  if (isNew || lostAny) addFiles(space);
  // A recipe that lost a chunk would keep its blob from being put again.
  if (lostAny) found.push(...space.index.ofKind('recipe'));
  pruneIncomplete(space, found);
  if (isNew) space.index.update((edit) => edit.setComplete());
}

/** Packs that a live process writes are its own business, but for a new index, which has to hold all of them. */
function comparePacks({ index, packsDir, heldPacks }: RecoverySpace, isNew: boolean): Difference {
  const scanned = index.packs();
  const held = isNew ? new Set<string>() : heldPacks();
  const lengths = packLengths(packsDir);
  const difference: Difference = { lost: [...scanned.keys()].filter((pack) => !lengths.has(pack)), shrunk: [], grown: [] };
  for (const [pack, length] of lengths) {
    const known = scanned.get(pack);
    const from = Math.max(known ?? 0, PACK_HEADER.length);
    if (known !== undefined && length < known) difference.shrunk.push({ pack, length });
    else if (length > from && !held.has(pack) && isPack(join(packsDir, `${pack}.pack`))) difference.grown.push({ pack, from });
  }
  return difference;
}

/** What a writer that was killed made, and never wrote to. */
function removeEmptyPacks({ packsDir, index, heldPacks }: RecoverySpace): void {
  const known = index.packs();
  const empty = [...packLengths(packsDir)].flatMap(([pack, length]) => (length <= PACK_HEADER.length && PACK_ID.test(pack) && !known.has(pack) ? [pack] : []));
  if (empty.length === 0) return;
  // Its writer holds a pack before it makes the file, and until the last byte: what is not held and still empty stays so.
  const held = heldPacks();
  for (const pack of empty) {
    const path = join(packsDir, `${pack}.pack`);
    if (held.has(pack) || (statSync(path, { throwIfNoEntry: false })?.size ?? Infinity) > PACK_HEADER.length) continue;
    try {
      rmSync(path, { force: true });
    } catch (error) {
      throw storeWrite(path, error);
    }
  }
}

/** What is no pack, or one of a later version, is left alone. */
function isPack(path: string): boolean {
  return withFile(path, (fd) => readAt(fd, 0, PACK_HEADER.length)).equals(PACK_HEADER);
}

/** @returns the new rows of what refers to something else */
function scanPacks({ packsDir, index, readOnly }: RecoverySpace, grown: Difference['grown']): IndexRow[] {
  const found: IndexRow[] = [];
  for (const { pack, from } of grown) {
    const path = join(packsDir, `${pack}.pack`);
    // What a killed writer left is perhaps not on the disk yet, and a row in the index is to outlive no record.
    if (!readOnly) syncPath(path);
    const bytes = readFileSync(path);
    index.update((edit) => {
      let end = from;
      for (const { offset, header } of scanRecords(bytes, from)) {
        // A write that a crash cut short, with a part of it that arrived behind: nobody was promised what is missing.
        if (offset > end) edit.addGap(pack, { start: end, stop: offset });
        end = offset + RECORD_HEADER_BYTES + header.storedBytes;
        const row = rowOf(pack, bytes, offset, header);
        if (row !== undefined && edit.add(row) && row.kind !== 'blob') found.push(row);
      }
      edit.setScanned(pack, bytes.length);
    });
  }
  if (grown.length > 0 && !readOnly) syncPath(packsDir);
  return found;
}

/** Undefined: a recipe that is none. */
function rowOf(pack: string, bytes: Buffer, offset: number, header: RecordHeader): IndexRow | undefined {
  const { kind, digest, storedBytes } = header;
  if (kind !== 'recipe') return { kind, digest, location: locationOf(pack, offset, header) };
  const start = offset + RECORD_HEADER_BYTES;
  const recipe = decodeRecipe(digest, bytes.subarray(start, start + storedBytes));
  return recipe === undefined ? undefined : { kind, digest, location: locationOf(pack, offset, header, recipe.sizeBytes) };
}

/** Files that hold what no pack does: those of a store of format 1, and copies that have outlived their pack. */
function addFiles({ index, files, filesArePrimary }: RecoverySpace): void {
  const only = [...files.list()].filter(({ digest }) => index.findBlob(digest) === undefined && (filesArePrimary || isRight(files, digest)));
  index.update((edit) => {
    for (const { digest, sizeBytes } of only) edit.add({ kind: 'blob', digest, location: { place: 'loose', rawBytes: sizeBytes } });
  });
}

function isRight(files: PromotedFiles, digest: string): boolean {
  try {
    files.verify(digest);
    return true;
  } catch (error) {
    if (error instanceof HdError) return false;
    throw error;
  }
}

/** Repeats until nothing goes: a tree is incomplete if its subtree is. Mostly one pass, since children are written before parents. */
function pruneIncomplete({ index, hasLinks }: RecoverySpace, found: IndexRow[]): void {
  for (let left = found; ; ) {
    const complete: IndexRow[] = [];
    const incomplete: IndexRow[] = [];
    for (const row of left) {
      if (hasLinks(row)) complete.push(row);
      else {
        // At once: the next one may refer to it.
        index.update((edit) => edit.remove(row.kind, row.digest));
        incomplete.push(row);
      }
    }
    if (incomplete.length === 0) return;
    left = complete;
  }
}

function packLengths(packsDir: string): Map<string, number> {
  const lengths = new Map<string, number>();
  for (const name of readdirSync(packsDir)) {
    if (!name.endsWith('.pack')) continue;
    try {
      lengths.set(name.slice(0, -'.pack'.length), statSync(join(packsDir, name)).size);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
    }
  }
  return lengths;
}
