import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { GcOptions, GcResult, RefTarget, RootGroup } from './contract.ts';
import { diskUsage } from './disk-usage.ts';
import { storeWrite } from './errors.ts';
import { markKept } from './gc-roots.ts';
import type { GcRoots, Mark } from './gc-roots.ts';
import { storedBytesAt } from './object-index.ts';
import type { IndexRow, ObjectIndex } from './object-index.ts';
import { PACK_HEADER } from './pack-format.ts';
import type { PromotedFile, PromotedFiles } from './promoted-files.ts';
import { keyOfRow, targetOfKey } from './reach.ts';
import type { ObjectKey } from './reach.ts';
import type { RefStore } from './ref-store.ts';

/** Packs with a smaller part of live bytes are written again without the dead. */
const MIN_LIVE_SHARE = 0.5;
/** The same while the store would be above its cap, those with the most dead bytes first. */
const MIN_LIVE_SHARE_ABOVE_CAP = 0.95;
/** A file in `objects` that the index does not know may be one that a process is just publishing. */
const UNKNOWN_FILE_GRACE_MS = 3_600_000;
const DEMOTE_AFTER_MS = 7 * 24 * 3_600_000;
/** About so much is copied before the index learns of it and the packs go that it came from. */
const COPY_BATCH_BYTES = 256 << 20;
const COPY_BATCH_ROWS = 100_000;

interface GcSpace {
  dir: string;
  packsDir: string;
  index: ObjectIndex;
  refs: RefStore;
  files: PromotedFiles;
  mark: Mark;
  copyRecords(rows: IndexRow[]): { rows: IndexRow[]; packs: Map<string, number> };
  /** Packs that were copied into are full enough. */
  closePacks(): void;
  /** The pack's file is about to go. */
  forgetPack(pack: string): void;
}

interface PackState {
  sizeBytes: number;
  /** Stays as it is: somebody appends to it. */
  held: boolean;
  /** What it holds is young, and therefore a root. */
  young: boolean;
  liveBytes: number;
  live: number;
}

interface Plan {
  marked: ReadonlySet<ObjectKey>;
  evicted: RootGroup[];
  /** Rows that go: trees and nodes, blobs and chunks, and recipes. */
  dead: number;
  manifests: number;
  chunks: number;
  emptyPacks: string[];
  thinPacks: (PackState & { id: string })[];
  deadFiles: PromotedFile[];
  demoted: PromotedFile[];
  /** By what the files shrink. */
  freedBytes: number;
}

/**
 * Mark and sweep. The caller holds the lock of gc, so that no lease is held and no ref moves. New packs are synced before the index names them, the index forgets before
 * files go, and each step leaves a whole store. Of the rows of the index, only those of one batch of packs are in memory at once.
 */
export function collectGarbage(space: GcSpace, options: GcOptions): GcResult {
  const before = diskUsage(space.dir);
  const plan = makePlan(space, options, before);
  const result = { manifestsRemoved: plan.manifests, chunksRemoved: plan.chunks, demoted: plan.demoted.length, evicted: plan.evicted.map(({ name }) => name) };
  if (options.dryRun === true) return { ...result, bytesFreed: plan.freedBytes, storedBytes: before - plan.freedBytes };
  const gone = [...(options.dropRefs ?? []), ...plan.evicted.flatMap(({ refs = [] }) => refs)];
  const isIdle = gone.length === 0 && plan.dead + plan.emptyPacks.length + plan.deadFiles.length + plan.demoted.length === 0;
  if (isIdle) return { ...result, bytesFreed: 0, storedBytes: before };
  space.refs.drop(gone);
  sweep(space, plan);
  space.index.compact();
  const storedBytes = diskUsage(space.dir);
  return { ...result, bytesFreed: Math.max(0, before - storedBytes), storedBytes };
}

function makePlan(space: GcSpace, options: GcOptions, diskBytes: number): Plan {
  const { index, refs, mark } = space;
  const packs = lookAtPacks(space, options);
  const files = [...space.files.list()];
  let otherBytes = diskBytes;
  for (const { sizeBytes } of [...packs.values(), ...files]) otherBytes -= sizeBytes;
  const marked = new Set<ObjectKey>();
  // Copies of what is pinned are in use, however long ago they were asked for.
  let inUse: ReadonlySet<string> = new Set();
  const roots: GcRoots = {
    mark,
    pins: refs.pins().map(({ kind, digest, why }) => ({ name: why, target: { kind, digest } })),
    refs: refs.list(''),
    others: () => otherRoots(space, options, packs),
    sizeOf: (key) => sizeOfKey(index, key),
    usedBytes: () => usedBytes(space, marked, otherBytes),
  };
  const evicted = markKept(roots, options, marked, () => {
    inUse = new Set(files.flatMap(({ digest }) => (marked.has(`blob:${digest}`) ? [digest] : [])));
  });
  const isAboveCap = diskBytes > (options.cap?.maxBytes ?? Infinity);

  const plan: Plan = { marked, evicted, dead: 0, manifests: 0, chunks: 0, emptyPacks: [], thinPacks: [], deadFiles: [], demoted: [], freedBytes: 0 };
  const primary = countRows(space, plan, packs);
  planFiles(space, plan, files, primary, inUse, options.graceMs ?? 0, isAboveCap ? 0 : (options.demoteAfterMs ?? DEMOTE_AFTER_MS));
  planPacks(plan, packs, diskBytes - (options.cap?.maxBytes ?? Infinity));
  return plan;
}

function lookAtPacks({ index, packsDir, refs }: GcSpace, { graceMs = 0 }: GcOptions): Map<string, PackState> {
  const held = refs.heldPacks();
  const packs = new Map<string, PackState>();
  for (const id of index.packs().keys()) {
    const stats = statSync(join(packsDir, `${id}.pack`), { throwIfNoEntry: false });
    packs.set(id, { sizeBytes: stats?.size ?? 0, held: held.has(id), young: isYoung(stats?.mtimeMs ?? 0, graceMs), liveBytes: 0, live: 0 });
  }
  return packs;
}

/** File times are finer than the clock: without grace, nothing at all is young. */
function isYoung(mtimeMs: number, graceMs: number): boolean {
  return graceMs > 0 && mtimeMs > Date.now() - graceMs;
}

function* otherRoots({ index, files }: GcSpace, options: GcOptions, packs: ReadonlyMap<string, PackState>): Generator<RefTarget> {
  yield* options.extraRoots ?? [];
  if ([...packs.values()].some(({ young }) => young)) {
    for (const row of index.all()) if (row.location.place === 'pack' && packs.get(row.location.pack)?.young === true) yield targetOfKey(keyOfRow(row));
  }
  for (const { digest, mtimeMs } of files.list()) if (isYoung(mtimeMs, options.graceMs ?? 0)) yield { kind: 'blob', digest };
}

/** What is no object, such as the databases, counts as it is. */
function usedBytes({ index }: GcSpace, marked: ReadonlySet<ObjectKey>, otherBytes: number): number {
  let bytes = otherBytes;
  for (const row of index.all()) if (isMarked(index, marked, row)) bytes += storedBytesAt(row.location);
  return bytes;
}

function sizeOfKey(index: ObjectIndex, key: ObjectKey): number {
  const { kind, digest } = targetOfKey(key);
  return index.storedBytes(kind, digest);
}

/** Of a blob that is there whole as well, the recipe and its chunks are not needed. */
function isMarked(index: ObjectIndex, marked: ReadonlySet<ObjectKey>, row: IndexRow): boolean {
  return marked.has(keyOfRow(row)) && (row.kind !== 'recipe' || index.findBlob(row.digest)?.kind === 'recipe');
}

/** @returns the loose files that are the only place of their blob: those of stores of the first version */
function countRows({ index }: GcSpace, plan: Plan, packs: ReadonlyMap<string, PackState>): Set<string> {
  const primary = new Set<string>();
  for (const row of index.all()) {
    const { location } = row;
    const isLive = isMarked(index, plan.marked, row);
    if (!isLive) {
      plan.dead++;
      if (row.kind === 'blob') plan.chunks++;
      else if (row.kind !== 'recipe') plan.manifests++;
    }
    if (location.place === 'loose') primary.add(row.digest);
    const pack = location.place === 'pack' ? packs.get(location.pack) : undefined;
    if (!isLive || pack === undefined) continue;
    pack.live++;
    pack.liveBytes += storedBytesAt(row.location);
  }
  return primary;
}

/** @param excessBytes by how much the store has to shrink: copying what lives costs time, so no more is copied than that takes. */
function planPacks(plan: Plan, packs: ReadonlyMap<string, PackState>, excessBytes: number): void {
  const mixed: { id: string; pack: PackState; liveShare: number }[] = [];
  for (const [id, pack] of packs) {
    if (pack.held) continue;
    if (pack.live > 0) mixed.push({ id, pack, liveShare: pack.liveBytes / (pack.sizeBytes - PACK_HEADER.length) });
    else {
      plan.emptyPacks.push(id);
      plan.freedBytes += pack.sizeBytes;
    }
  }
  for (const { id, pack, liveShare } of mixed.sort((a, b) => a.liveShare - b.liveShare)) {
    if (liveShare >= (plan.freedBytes < excessBytes ? MIN_LIVE_SHARE_ABOVE_CAP : MIN_LIVE_SHARE)) break;
    plan.thinPacks.push({ ...pack, id });
    plan.freedBytes += pack.sizeBytes - PACK_HEADER.length - pack.liveBytes;
  }
}

/** Files in `objects` are promoted copies, but for the primary ones. */
function planFiles({ index }: GcSpace, plan: Plan, files: readonly PromotedFile[], primary: ReadonlySet<string>, inUse: ReadonlySet<string>, graceMs: number, demoteAfterMs: number): void {
  const now = Date.now();
  for (const file of files) {
    const isKnown = primary.has(file.digest) || index.findBlob(file.digest) !== undefined;
    if (!plan.marked.has(`blob:${file.digest}`)) {
      if (isKnown || file.mtimeMs < now - Math.max(graceMs, UNKNOWN_FILE_GRACE_MS)) plan.deadFiles.push(file);
    } else if (!primary.has(file.digest) && isKnown && !inUse.has(file.digest) && file.usedMs <= now - demoteAfterMs) plan.demoted.push(file);
  }
  for (const { sizeBytes } of [...plan.deadFiles, ...plan.demoted]) plan.freedBytes += sizeBytes;
}

function sweep(space: GcSpace, plan: Plan): void {
  const { index, files } = space;
  index.update((edit) => {
    for (const pack of plan.emptyPacks) edit.removePack(pack);
  });
  index.removeWhere((row) => !isMarked(index, plan.marked, row));
  try {
    removePacks(space, plan.emptyPacks);
    for (const { digest } of [...plan.deadFiles, ...plan.demoted]) files.remove(digest);
    for (const packs of batches(plan.thinPacks)) rewrite(space, packs);
  } catch (error) {
    throw error instanceof HdError ? error : storeWrite(space.packsDir, error);
  }
}

/** So many packs at a time as make a batch. */
function* batches(packs: Plan['thinPacks']): Generator<string[]> {
  let batch: string[] = [];
  let bytes = 0;
  let rows = 0;
  for (const { id, liveBytes, live } of packs) {
    batch.push(id);
    bytes += liveBytes;
    rows += live;
    if (bytes < COPY_BATCH_BYTES && rows < COPY_BATCH_ROWS) continue;
    yield batch;
    [batch, bytes, rows] = [[], 0, 0];
  }
  if (batch.length > 0) yield batch;
}

/** Their dead rows are gone from the index: what it has of them is copied. */
function rewrite(space: GcSpace, packs: string[]): void {
  const copied = space.copyRecords(space.index.rowsIn(packs));
  space.index.update((edit) => {
    for (const row of copied.rows) edit.replace(row);
    for (const [pack, length] of copied.packs) edit.setScanned(pack, length);
    for (const pack of packs) edit.removePack(pack);
  });
  space.closePacks();
  removePacks(space, packs);
}

function removePacks({ packsDir, forgetPack }: GcSpace, packs: readonly string[]): void {
  for (const pack of packs) {
    forgetPack(pack);
    rmSync(join(packsDir, `${pack}.pack`), { force: true });
  }
}
