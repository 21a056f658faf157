import { readFileSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { BlobDigest } from '@hyperdocker/base';
import { HdError, hasher, isErrno } from '@hyperdocker/base';
import type { FsckOptions, FsckProblem, FsckResult, NodeLinks, ObjectName, PutFile, RefTarget } from './contract.ts';
import { storeWrite } from './errors.ts';
import { hashFile, readAt, withFile } from './files.ts';
import type { IndexRow, ObjectIndex } from './object-index.ts';
import { findNames } from './object-names.ts';
import type { NamedRoot } from './object-names.ts';
import type { RecordKind } from './pack-format.ts';
import { checkPack } from './pack-check.ts';
import type { PackedRecord } from './pack-check.ts';
import type { PromotedFiles } from './promoted-files.ts';
import { keyOfRow, lenient, markReachable, objectKey } from './reach.ts';
import type { ObjectKey, Reachable } from './reach.ts';
import type { Recipe } from './recipe.ts';
import type { RefStore } from './ref-store.ts';

export interface FsckSpace {
  packsDir: string;
  index: ObjectIndex;
  refs: RefStore;
  files: PromotedFiles;
  /** Reads past all caches. */
  reachable: Reachable;
  nodeLinks: NodeLinks | undefined;
  /** @throws HdError OBJECT_MISSING, OBJECT_CORRUPT */
  verify(row: IndexRow): void;
  readRecipe(row: IndexRow): Recipe;
  putFile(path: string | Buffer): PutFile;
  putBlob(bytes: Uint8Array): BlobDigest;
  /** What was put becomes durable, and this process appends to no pack any more. */
  settle(): void;
  copyRecords(rows: readonly IndexRow[]): { rows: IndexRow[]; packs: Map<string, number> };
  forgetPack(pack: string): void;
  /** What is remembered of objects may be wrong. */
  dropCaches(): void;
  /** What was wrong with the file of the index; for a repair, before it was made again. */
  indexDamage: string | undefined;
}

/** An object of which the bytes, or the place in the index, are not right. */
interface Damaged {
  kind: RecordKind;
  digest: string;
  /** Of the object, as far as the index knew. */
  sizeBytes: number;
  problem: FsckProblem;
}

/**
 * Reads packs from end to end, not only what the index names, and everything else that the store keeps. The caller keeps collections away, and for a repair all writers too.
 */
export function checkStore(space: FsckSpace, options: FsckOptions): FsckResult {
  const check = new Check(space, options);
  check.run();
  return { objectsChecked: check.objectsChecked, problems: check.problems };
}

class Check {
  readonly #space: FsckSpace;
  readonly #options: FsckOptions;
  readonly #isRepair: boolean;
  readonly problems: FsckProblem[] = [];
  objectsChecked = 0;
  readonly #damaged: Damaged[] = [];
  /** Records that the index calls something else. */
  readonly #misplaced: { problem: FsckProblem; pack: string; record: PackedRecord }[] = [];
  /** Packs that are to be written again without what is damaged in them, with the problems that this puts right. */
  readonly #badPacks = new Map<string, FsckProblem[]>();

  constructor(space: FsckSpace, options: FsckOptions) {
    this.#space = space;
    this.#options = options;
    this.#isRepair = options.repair === true;
  }

  run(): void {
    for (const { digest, problem, repaired } of this.#space.refs.check(this.#isRepair)) this.problems.push({ kind: 'ref', digest, problem, names: [], repaired });
    const { indexDamage } = this.#space;
    if (indexDamage !== undefined) {
      this.problems.push({ kind: 'pack', digest: 'index.sqlite', problem: `the index is damaged: ${indexDamage}`, names: [], repaired: this.#isRepair });
      // Nothing that it says could be relied on.
      if (!this.#isRepair) return;
    }
    this.#checkPacks();
    this.#checkFiles();
    const lost = this.#lostFromRefs();
    this.#tellNames(lost);
    if (this.#isRepair && this.#damaged.length + this.#badPacks.size + lost.length > 0) lost.push(...this.#repair(lost));
    this.#reportLost(lost);
  }

  #checkPacks(): void {
    const { packsDir, index, refs } = this.#space;
    // Files first: a pack that is seen and not held afterwards is in the index.
    const files = new Set(readdirSync(packsDir).flatMap((name) => (name.endsWith('.pack') ? [name.slice(0, -'.pack'.length)] : [])));
    const held = refs.heldPacks();
    const sample = this.#options.sample ?? 1;
    for (const [pack, rows] of rowsByPack(index)) {
      if (pack === undefined) {
        this.#checkLooseRows(rows);
        continue;
      }
      files.delete(pack);
      const chosen = sample >= 1 ? rows : rows.filter(() => Math.random() < sample);
      this.objectsChecked += chosen.length;
      if (sample < 1 && chosen.every((row) => problemOf(() => this.#space.verify(row)) === undefined)) continue;
      this.#checkPack(pack, rows);
    }
    // Without a row in the index.
    for (const pack of files) if (sample >= 1 && !held.has(pack)) this.#checkPack(pack, []);
  }

  #checkPack(pack: string, rows: readonly IndexRow[]): void {
    const path = join(this.#space.packsDir, `${pack}.pack`);
    let bytes: Buffer;
    try {
      bytes = readFileSync(path);
    } catch (error) {
      if (!isErrno(error, 'ENOENT')) throw error;
      for (const row of rows) this.#addDamaged(row, 'its pack is gone');
      return;
    }
    const found = checkPack(bytes, rows, this.#space.index.gaps(pack));
    const fixes: FsckProblem[] = [];
    for (const { row, problem } of found.damaged) fixes.push(this.#addDamaged(row, `${problem} in pack ${pack}`));
    for (const { row, record } of found.wrong) {
      const problem = this.#addDamaged(row, `the index says that it is in pack ${pack} at ${record.place.offset}, where ${record.kind} ${record.digest} is`);
      this.#misplaced.push({ problem, pack, record });
    }
    for (const problem of found.stray) {
      fixes.push({ kind: 'pack', digest: pack, problem, names: [], repaired: false });
      this.problems.push(fixes.at(-1)!);
    }
    if (found.hasGap && fixes.length > 0) this.#badPacks.set(pack, fixes.filter(({ kind }) => kind === 'pack'));
  }

  /** Blobs of stores of the first version, which are files of their own. */
  #checkLooseRows(rows: readonly IndexRow[]): void {
    for (const row of rows) {
      this.objectsChecked++;
      const problem = problemOf(() => this.#space.verify(row));
      if (problem !== undefined) this.#addDamaged(row, problem);
    }
  }

  /** Promoted copies: none is the only place of its blob. */
  #checkFiles(): void {
    const { files, index } = this.#space;
    const sample = this.#options.sample ?? 1;
    for (const { digest } of files.list()) {
      if (index.find('blob', digest)?.place === 'loose' || (sample < 1 && Math.random() >= sample)) continue;
      const problem = problemOf(() => files.verify(digest, { again: true }));
      if (problem === undefined) continue;
      const repaired = this.#isRepair;
      if (repaired) files.remove(digest);
      this.problems.push({ kind: 'blob', digest, problem: `its copy in objects is damaged`, names: [], repaired });
    }
  }

  #addDamaged(row: IndexRow, problem: string): FsckProblem {
    const report: FsckProblem = { kind: row.kind === 'recipe' ? 'blob' : row.kind, digest: row.digest, problem, names: [], repaired: false };
    this.#damaged.push({ kind: row.kind, digest: row.digest, sizeBytes: row.location.rawBytes, problem: report });
    this.problems.push(report);
    return report;
  }

  #roots(): NamedRoot[] {
    const { refs } = this.#space;
    return [...refs.list('').map(({ name, ref }) => ({ name, target: ref.target })), ...refs.pins().map(({ kind, digest, why }) => ({ name: why, target: { kind, digest } }))];
  }

  /** What refs need and the store does not have. What it has and cannot read was told before. */
  #lostFromRefs(): RefTarget[] {
    this.#space.dropCaches();
    return markReachable(lenient(this.#space.reachable), this.#roots().map(({ target }) => target), this.#space.nodeLinks, new Set()).missing;
  }

  #tellNames(lost: readonly RefTarget[]): void {
    if (this.#damaged.length + lost.length === 0) return;
    const names = this.#namesOf([...this.#damaged.map(keyOfRow), ...lost.map(({ kind, digest }) => objectKey(kind, digest))]);
    for (const row of this.#damaged) row.problem.names = names.get(keyOfRow(row)) ?? [];
  }

  #namesOf(keys: readonly ObjectKey[]): Map<ObjectKey, ObjectName[]> {
    return findNames(lenient(this.#space.reachable), this.#roots(), this.#space.nodeLinks, new Set(keys));
  }

  /** One problem for each ref and object. */
  #reportLost(before: readonly RefTarget[]): void {
    if (before.length === 0) return;
    const still = new Set((this.#isRepair ? this.#lostFromRefs() : before).map(({ kind, digest }) => objectKey(kind, digest)));
    const names = this.#namesOf(before.map(({ kind, digest }) => objectKey(kind, digest)));
    const targets = new Map(this.#roots().map(({ name, target }) => [name, target.digest]));
    for (const { kind, digest } of before) {
      const key = objectKey(kind, digest);
      const byRef = Map.groupBy(names.get(key) ?? [], ({ ref }) => ref);
      for (const [ref, found] of byRef) {
        this.problems.push({ kind: 'ref', digest: targets.get(ref) ?? '', problem: `ref ${ref}: ${kind} ${digest} is missing`, names: found, repaired: !still.has(key) });
      }
    }
  }

  /**
   * Takes what is damaged out of the index, and looks for the same bytes elsewhere: in other packs, in promoted copies, in what `source` gives.
   * @returns what turned out to be lost as well
   */
  #repair(lostBefore: readonly RefTarget[]): RefTarget[] {
    const { index } = this.#space;
    const owners = this.#ownersOfChunks();
    index.update((edit) => {
      for (const { kind, digest } of this.#damaged) edit.remove(kind, digest);
      for (const { pack, record } of this.#misplaced) edit.add(rowOf(pack, record));
    });
    this.#space.dropCaches();
    const damaged = new Set(this.#damaged.map(keyOfRow));
    const lost = this.#findCopies(lostBefore).filter(({ kind, digest }) => !damaged.has(objectKey(kind, digest)));
    for (const { kind, digest, sizeBytes, problem } of this.#damaged) {
      problem.repaired = this.#isWhole(kind, digest) || (problem.kind === 'blob' && this.#restoreBlob(digest, sizeBytes, problem.names, owners.get(digest) ?? []));
    }
    // An object that never was has lost nothing.
    for (const { problem } of this.#misplaced) problem.repaired ||= problem.names.length === 0;
    const names = this.#namesOf(lost.map(({ kind, digest }) => objectKey(kind, digest)));
    for (const { kind, digest } of lost) if (kind === 'blob') this.#restoreBlob(digest, undefined, names.get(objectKey(kind, digest)) ?? [], owners.get(digest) ?? []);
    this.#space.settle();
    // Without its index, or the way to it, a record can only be found in its pack: none goes while anything may still be looked for.
    const isWhole = this.#lostFromRefs().length === 0;
    for (const [pack, problems] of this.#badPacks) {
      const repaired = isWhole && this.#rewritePack(pack);
      for (const problem of problems) problem.repaired = repaired;
    }
    const told = new Set(lostBefore.map(({ kind, digest }) => objectKey(kind, digest)));
    return lost.filter(({ kind, digest }) => !told.has(objectKey(kind, digest)));
  }

  #isWhole(kind: RecordKind, digest: string): boolean {
    const location = this.#space.index.find(kind, digest);
    return location !== undefined && problemOf(() => this.#space.verify({ kind, digest, location })) === undefined;
  }

  /** Which blobs the damaged chunks are parts of, and where in them. */
  #ownersOfChunks(): Map<string, ChunkOwner[]> {
    const owners = new Map<string, ChunkOwner[]>();
    const wanted = new Set(this.#damaged.flatMap(({ kind, digest }) => (kind === 'blob' ? [digest] : [])));
    if (wanted.size === 0) return owners;
    for (const row of this.#space.index.ofKind('recipe')) {
      let recipe: Recipe;
      try {
        recipe = this.#space.readRecipe(row);
      } catch (error) {
        if (error instanceof HdError) continue;
        throw error;
      }
      for (const { digest, offset, sizeBytes } of recipe.chunks()) {
        if (wanted.has(digest)) owners.set(digest, [...(owners.get(digest) ?? []), { blob: row.digest as BlobDigest, blobBytes: recipe.sizeBytes, offset, sizeBytes }]);
      }
    }
    return owners;
  }

  /**
   * Whole records of what is damaged or lost, anywhere in the packs, go into the index. What comes to light with a tree or a recipe may be out of the index as well.
   * @returns what refs need and no pack has
   */
  #findCopies(lostBefore: readonly RefTarget[]): RefTarget[] {
    const { index } = this.#space;
    const spare = this.#spareRecords();
    let wanted: readonly { kind: RecordKind; digest: string }[] = [...this.#damaged, ...lostBefore];
    for (;;) {
      const found = wanted.flatMap(({ kind, digest }) => (kind === 'blob' ? (['blob', 'recipe'] as const) : [kind]).flatMap((of) => spare.get(`${of}:${digest}`) ?? []));
      if (found.length === 0) return this.#lostFromRefs();
      index.update((edit) => found.forEach((row) => edit.add(row)));
      for (const { kind, digest } of found) spare.delete(`${kind}:${digest}`);
      wanted = this.#lostFromRefs();
    }
  }

  /** Whole records that the index does not name. */
  #spareRecords(): Map<string, IndexRow> {
    const { packsDir, index } = this.#space;
    const spare = new Map<string, IndexRow>();
    for (const name of readdirSync(packsDir)) {
      if (!name.endsWith('.pack')) continue;
      const pack = name.slice(0, -'.pack'.length);
      for (const record of checkPack(readFileSync(join(packsDir, name)), []).records) {
        if (index.find(record.kind, record.digest) === undefined) spare.set(`${record.kind}:${record.digest}`, rowOf(pack, record));
      }
    }
    return spare;
  }

  #restoreBlob(digest: string, sizeBytes: number | undefined, names: readonly ObjectName[], owners: readonly ChunkOwner[]): boolean {
    for (const path of this.#candidates(digest, sizeBytes, names)) {
      if (digestOfFile(path) !== digest) continue;
      if (ifReadable(() => this.#space.putFile(path))?.digest === digest) return true;
    }
    for (const { blob, blobBytes, offset, sizeBytes } of owners) {
      for (const path of this.#candidates(blob, blobBytes, this.#namesOf([objectKey('blob', blob)]).get(objectKey('blob', blob)) ?? [])) {
        const part = ifReadable(() => withFile(path, (fd) => readAt(fd, offset, sizeBytes)));
        if (part !== undefined && hasher.hash(part) === digest) return this.#space.putBlob(part) === digest;
      }
    }
    return false;
  }

  /** Files that may hold a blob: its promoted copy first. */
  *#candidates(digest: string, size: number | undefined, names: readonly ObjectName[]): Generator<string | Buffer> {
    const copy = this.#space.files.path(digest);
    if (statSync(copy, { throwIfNoEntry: false }) !== undefined) yield copy;
    yield* this.#options.source?.({ digest: digest as BlobDigest, size, names }) ?? [];
  }

  /** Copies what the index has of it, and removes it. */
  #rewritePack(pack: string): boolean {
    const { index, refs, packsDir } = this.#space;
    if (refs.heldPacks().has(pack)) return false;
    const copied = this.#space.copyRecords(index.rowsIn([pack]));
    index.update((edit) => {
      for (const row of copied.rows) edit.replace(row);
      for (const [id, length] of copied.packs) edit.setScanned(id, length);
      edit.removePack(pack);
    });
    this.#space.settle();
    this.#space.forgetPack(pack);
    removePack(join(packsDir, `${pack}.pack`));
    return true;
  }
}

function rowOf(pack: string, { kind, digest, place }: PackedRecord): IndexRow {
  return { kind, digest, location: { place: 'pack', pack, ...place } };
}

interface ChunkOwner {
  blob: BlobDigest;
  blobBytes: number;
  offset: number;
  sizeBytes: number;
}

function* rowsByPack(index: ObjectIndex): Generator<[pack: string | undefined, rows: IndexRow[]]> {
  let pack: string | undefined;
  let rows: IndexRow[] = [];
  for (const row of index.all()) {
    const next = row.location.place === 'pack' ? row.location.pack : undefined;
    if (next !== pack) {
      if (rows.length > 0) yield [pack, rows];
      [pack, rows] = [next, []];
    }
    rows.push(row);
  }
  if (rows.length > 0) yield [pack, rows];
}

function removePack(path: string): void {
  try {
    rmSync(path, { force: true });
  } catch (error) {
    throw storeWrite(path, error);
  }
}

function digestOfFile(path: string | Buffer): string | undefined {
  return ifReadable(() => withFile(path, (fd) => hashFile(fd, statSync(path).size)));
}

/** What others offer may be gone, or be no file. */
function ifReadable<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'EPERM', 'EISDIR', 'ELOOP') || (error instanceof HdError && error.code === 'FILE_CHANGED')) return undefined;
    throw error;
  }
}

function problemOf(check: () => void): string | undefined {
  try {
    check();
    return undefined;
  } catch (error) {
    if (error instanceof HdError) return error.message;
    throw error;
  }
}
