import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '@hyperdocker/base';
import type { RefTarget } from './contract.ts';
import type { LooseFiles } from './loose-files.ts';
import { locationOf } from './object-index.ts';
import type { ObjectIndex } from './object-index.ts';
import { PACK_HEADER, scanRecords } from './pack-format.ts';

interface RecoverySpace {
  packsDir: string;
  index: ObjectIndex;
  loose: LooseFiles;
  heldPacks(): Set<string>;
  /** Keeps gc away meanwhile. */
  lease(): Disposable | undefined;
  hasLinks(target: RefTarget): boolean;
}

/**
 * Brings the index up to what packs and loose files hold: after a crash between a pack and the index, or (`everything`) when the index is new.
 * Found trees and nodes of which a part was lost are left out, so that what the store has, it has whole.
 */
export function recoverIndex(space: RecoverySpace, everything: boolean): void {
  if (!everything && !differs(space)) return;
  using _lease = space.lease();
  const found = scanPacks(space, everything);
  addLoose(space);
  pruneIncomplete(space, found);
}

function differs(space: RecoverySpace): boolean {
  const { lost, grown } = comparePacks(space, false);
  return lost.length > 0 || grown.length > 0;
}

/** `lost`: in the index, but no file. `grown`: longer than the index knows. Packs that a live process writes are its own business. */
function comparePacks(space: RecoverySpace, everything: boolean): { lost: string[]; grown: { pack: string; from: number }[] } {
  const scanned = space.index.packs();
  const held = everything ? new Set() : space.heldPacks();
  const lengths = packLengths(space.packsDir);
  const lost = [...scanned.keys()].filter((pack) => !lengths.has(pack));
  const grown = [...lengths].flatMap(([pack, length]) => {
    const from = Math.max(scanned.get(pack) ?? 0, PACK_HEADER.length);
    return length > from && !held.has(pack) ? [{ pack, from }] : [];
  });
  return { lost, grown };
}

function scanPacks(space: RecoverySpace, everything: boolean): RefTarget[] {
  const { lost, grown } = comparePacks(space, everything);
  const found: RefTarget[] = [];
  if (lost.length > 0) space.index.update((edit) => lost.forEach((pack) => edit.removePack(pack)));
  for (const { pack, from } of grown) {
    const bytes = readFileSync(join(space.packsDir, `${pack}.pack`));
    space.index.update((edit) => {
      if (bytes.compare(PACK_HEADER, 0, PACK_HEADER.length, 0, PACK_HEADER.length) === 0) {
        for (const { offset, header } of scanRecords(bytes, from)) {
          const isNew = edit.add({ kind: header.kind, digest: header.digest, location: locationOf(pack, offset, header) });
          if (isNew && header.kind !== 'blob') found.push({ kind: header.kind, digest: header.digest });
        }
      }
      edit.setScanned(pack, bytes.length);
    });
  }
  return found;
}

function addLoose({ index, loose }: RecoverySpace): void {
  index.update((edit) => {
    for (const { digest, sizeBytes } of loose.list()) edit.add({ kind: 'blob', digest, location: { place: 'loose', rawBytes: sizeBytes } });
  });
}

/** Repeats until nothing goes: a tree is incomplete if its subtree is. Mostly one pass, since children are written before parents. */
function pruneIncomplete({ index, hasLinks }: RecoverySpace, found: RefTarget[]): void {
  for (let left = found; ; ) {
    const complete: RefTarget[] = [];
    let removed = 0;
    for (const target of left) {
      if (hasLinks(target)) complete.push(target);
      else {
        index.update((edit) => edit.remove(target.kind, target.digest));
        removed++;
      }
    }
    if (removed === 0) return;
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
