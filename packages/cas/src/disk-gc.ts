import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { GcOptions, GcResult, RefTarget, RootGroup } from './contract.ts';
import { diskUsage } from './disk-usage.ts';
import { storeWrite } from './errors.ts';
import type { LooseFiles } from './loose-files.ts';
import { recordBytes } from './object-index.ts';
import type { IndexRow, ObjectIndex } from './object-index.ts';
import { PACK_HEADER } from './pack-format.ts';
import { keyOfRow, markWithinCap, targetOfKey } from './reach.ts';
import type { ObjectKey } from './reach.ts';
import type { RefStore } from './ref-store.ts';

/** Packs with a smaller part of live bytes are written again without the dead. */
const MIN_LIVE_SHARE = 0.5;
/** The same while the store is above its cap. */
const MIN_LIVE_SHARE_ABOVE_CAP = 0.95;
/** A file in `objects` that the index does not know may be one that a process is just publishing. */
const UNKNOWN_FILE_GRACE_MS = 3_600_000;
const DEMOTE_AFTER_MS = 7 * 24 * 3_600_000;
/** About so much is copied before the index learns of it and the packs go that it came from. */
const COPY_BATCH_BYTES = 64 << 20;

interface GcSpace {
  dir: string;
  packsDir: string;
  index: ObjectIndex;
  refs: RefStore;
  loose: LooseFiles;
  /** Adds all that the roots reach; `onMark` hears of each key that is new. */
  mark(roots: Iterable<RefTarget>, marked: Set<ObjectKey>, onMark?: (key: ObjectKey) => void): void;
  copyRecords(rows: IndexRow[]): { rows: IndexRow[]; packs: Map<string, number> };
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
  dead: number;
}

interface Plan {
  marked: ReadonlySet<ObjectKey>;
  evicted: RootGroup[];
  manifests: number;
  chunks: number;
  /** With dead records, which the index is to forget. */
  touched: string[];
  emptyPacks: string[];
  thinPacks: string[];
  deadFiles: LooseFile[];
  demoted: LooseFile[];
  /** By what the files shrink. */
  freedBytes: number;
}

interface LooseFile { digest: string; sizeBytes: number; mtimeMs: number }

/**
 * Mark and sweep. The caller holds the lock of gc, so that no lease is held and no ref moves. New packs are synced before the index names them, the index forgets before
 * files go, and each step leaves a whole store. Never more rows in memory than those of one batch of packs.
 */
export function collectGarbage(space: GcSpace, options: GcOptions): GcResult {
  const before = diskUsage(space.dir);
  const plan = makePlan(space, options, before);
  const result = { manifestsRemoved: plan.manifests, chunksRemoved: plan.chunks, demoted: plan.demoted.length, evicted: plan.evicted.map(({ name }) => name) };
  if (options.dryRun === true) return { ...result, bytesFreed: plan.freedBytes, storedBytes: before - plan.freedBytes };
  const isIdle = plan.evicted.length === 0 && plan.touched.length + plan.emptyPacks.length + plan.deadFiles.length + plan.demoted.length === 0;
  if (isIdle) return { ...result, bytesFreed: 0, storedBytes: before };
  for (const name of plan.evicted.flatMap(({ refs = [] }) => refs)) space.refs.delete(name);
  sweep(space, plan);
  space.index.compact();
  const storedBytes = diskUsage(space.dir);
  return { ...result, bytesFreed: Math.max(0, before - storedBytes), storedBytes };
}

function makePlan(space: GcSpace, options: GcOptions, usedBytes: number): Plan {
  const packs = lookAtPacks(space, options);
  const files = [...space.loose.list()];
  const groups = [...(options.cap?.groups ?? [])];
  const marked = new Set<ObjectKey>();
  space.mark(space.refs.pins(), marked);
  // Copies of what is pinned are in use, however long ago they were asked for.
  const inUse = new Set(files.flatMap(({ digest }) => (marked.has(`blob:${digest}`) ? [digest] : [])));
  space.mark(baseRoots(space, options, groups, packs), marked);
  const evicted = options.cap === undefined ? [] : applyCap(space, options.cap.maxBytes, groups, marked);
  const isAboveCap = options.cap !== undefined && usedBytes > options.cap.maxBytes;

  const plan: Plan = { marked, evicted, manifests: 0, chunks: 0, touched: [], emptyPacks: [], thinPacks: [], deadFiles: [], demoted: [], freedBytes: 0 };
  for (const [id, pack] of packs) countPack(space, plan, id, pack, isAboveCap ? MIN_LIVE_SHARE_ABOVE_CAP : MIN_LIVE_SHARE);
  planFiles(space, plan, files, inUse, options.graceMs ?? 0, isAboveCap ? 0 : (options.demoteAfterMs ?? DEMOTE_AFTER_MS));
  return plan;
}

function lookAtPacks({ index, packsDir, refs }: GcSpace, { graceMs = 0 }: GcOptions): Map<string, PackState> {
  const held = refs.heldPacks();
  const packs = new Map<string, PackState>();
  for (const id of index.packs().keys()) {
    const stats = statSync(join(packsDir, `${id}.pack`), { throwIfNoEntry: false });
    packs.set(id, { sizeBytes: stats?.size ?? 0, held: held.has(id), young: isYoung(stats?.mtimeMs ?? 0, graceMs), liveBytes: 0, dead: 0 });
  }
  return packs;
}

/** File times are finer than the clock: without grace, nothing at all is young. */
function isYoung(mtimeMs: number, graceMs: number): boolean {
  return graceMs > 0 && mtimeMs > Date.now() - graceMs;
}

function* baseRoots({ index, refs, loose }: GcSpace, options: GcOptions, groups: readonly RootGroup[], packs: ReadonlyMap<string, PackState>): Generator<RefTarget> {
  const ofGroups = new Set(groups.flatMap((group) => group.refs ?? []));
  for (const { name, ref } of refs.list('')) if (!ofGroups.has(name)) yield ref.target;
  yield* options.extraRoots ?? [];
  for (const [id, { young }] of packs) if (young) for (const row of index.rowsIn(id)) yield targetOfKey(keyOfRow(row));
  for (const { digest, mtimeMs } of loose.list()) if (isYoung(mtimeMs, options.graceMs ?? 0)) yield { kind: 'blob', digest };
}

/** Gives up what does not fit. The databases count as they are. */
function applyCap({ index, refs, mark }: GcSpace, maxBytes: number, groups: readonly RootGroup[], marked: Set<ObjectKey>): RootGroup[] {
  let usedBytes = index.fileBytes();
  for (const id of [...index.packs().keys(), undefined]) for (const row of index.rowsIn(id)) if (marked.has(keyOfRow(row))) usedBytes += storedBytesOf(row);
  const whole = groups.map((group) => ({ ...group, roots: [...group.roots, ...(group.refs ?? []).flatMap((name) => refs.get(name)?.target ?? [])] }));
  return markWithinCap({ groups: whole, maxBytes, usedBytes, marked, mark, sizeOf: (key) => index.storedBytes(targetOfKey(key)) });
}

function storedBytesOf({ location }: IndexRow): number {
  return location.place === 'pack' ? recordBytes(location) : location.rawBytes;
}

function countPack({ index }: GcSpace, plan: Plan, id: string, pack: PackState, minLiveShare: number): void {
  let live = 0;
  let liveBytes = 0;
  let dead = 0;
  for (const row of index.rowsIn(id)) {
    if (plan.marked.has(keyOfRow(row))) {
      live++;
      liveBytes += storedBytesOf(row);
    } else {
      dead++;
      count(plan, row);
    }
  }
  if (!pack.held && live === 0) {
    plan.emptyPacks.push(id);
    plan.freedBytes += pack.sizeBytes;
    return;
  }
  if (dead > 0) plan.touched.push(id);
  if (pack.held || liveBytes >= (pack.sizeBytes - PACK_HEADER.length) * minLiveShare) return;
  plan.thinPacks.push(id);
  plan.freedBytes += pack.sizeBytes - PACK_HEADER.length - liveBytes;
}

function count(plan: Plan, { kind }: IndexRow): void {
  if (kind === 'blob') plan.chunks++;
  else plan.manifests++;
}

/** Loose files are either the only place of a blob (stores of the first version), or promoted copies. */
function planFiles({ index, loose }: GcSpace, plan: Plan, files: readonly LooseFile[], inUse: ReadonlySet<string>, graceMs: number, demoteAfterMs: number): void {
  const primary = new Set<string>();
  for (const row of index.rowsIn(undefined)) {
    primary.add(row.digest);
    if (!plan.marked.has(keyOfRow(row))) count(plan, row);
  }
  const now = Date.now();
  for (const file of files) {
    const isKnown = primary.has(file.digest) || index.storedBytes({ kind: 'blob', digest: file.digest }) > 0;
    if (!plan.marked.has(`blob:${file.digest}`)) {
      if (isKnown || file.mtimeMs < now - Math.max(graceMs, UNKNOWN_FILE_GRACE_MS)) plan.deadFiles.push(file);
    } else if (!primary.has(file.digest) && isKnown && !inUse.has(file.digest) && usedAtMs(loose.finalPath(file.digest)) <= now - demoteAfterMs) plan.demoted.push(file);
  }
  for (const { sizeBytes } of [...plan.deadFiles, ...plan.demoted]) plan.freedBytes += sizeBytes;
}

/** Whoever asks for a copy touches it, and most file systems note reads themselves. */
function usedAtMs(path: string): number {
  const stats = statSync(path, { throwIfNoEntry: false });
  return stats === undefined ? 0 : Math.max(stats.atimeMs, stats.mtimeMs);
}

function sweep(space: GcSpace, plan: Plan): void {
  const { index, loose } = space;
  const thin = new Set(plan.thinPacks);
  index.update((edit) => {
    for (const pack of plan.emptyPacks) edit.removePack(pack);
    for (const { digest } of plan.deadFiles) edit.removeLoose(digest);
  });
  for (const pack of plan.touched) {
    if (thin.has(pack)) continue;
    const dead = index.rowsIn(pack).filter((row) => !plan.marked.has(keyOfRow(row)));
    index.update((edit) => dead.forEach(({ kind, digest }) => edit.remove(kind, digest)));
  }
  try {
    removePacks(space, plan.emptyPacks);
    for (const { digest } of [...plan.deadFiles, ...plan.demoted]) loose.remove(digest);
    for (const batch of batches(space, plan)) rewrite(space, batch.packs, batch.live);
  } catch (error) {
    throw storeWrite(space.packsDir, error);
  }
}

/** Thin packs with their live rows, some packs at a time. */
function* batches({ index }: GcSpace, { thinPacks, marked }: Plan): Generator<{ packs: string[]; live: IndexRow[] }> {
  let packs: string[] = [];
  let live: IndexRow[] = [];
  let bytes = 0;
  for (const pack of thinPacks) {
    packs.push(pack);
    for (const row of index.rowsIn(pack)) {
      if (!marked.has(keyOfRow(row))) continue;
      live.push(row);
      bytes += storedBytesOf(row);
    }
    if (bytes < COPY_BATCH_BYTES) continue;
    yield { packs, live };
    [packs, live, bytes] = [[], [], 0];
  }
  if (packs.length > 0) yield { packs, live };
}

function rewrite(space: GcSpace, packs: string[], live: IndexRow[]): void {
  const copied = space.copyRecords(live);
  space.index.update((edit) => {
    for (const row of copied.rows) edit.replace(row);
    for (const [pack, length] of copied.packs) edit.setScanned(pack, length);
    for (const pack of packs) edit.removePack(pack);
  });
  removePacks(space, packs);
}

function removePacks({ packsDir, forgetPack }: GcSpace, packs: readonly string[]): void {
  for (const pack of packs) {
    forgetPack(pack);
    rmSync(join(packsDir, `${pack}.pack`), { force: true });
  }
}
