import { rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { GcOptions, GcResult, RefTarget } from './contract.ts';
import { storeWrite } from './errors.ts';
import type { LooseFiles } from './loose-files.ts';
import { recordBytes } from './object-index.ts';
import type { IndexRow, ObjectIndex } from './object-index.ts';
import { PACK_HEADER } from './pack-format.ts';
import { objectKey } from './reach.ts';
import type { ObjectKey } from './reach.ts';
import type { RefStore } from './ref-store.ts';
import { listFiles } from './store-directory.ts';

/** Packs with a smaller part of live bytes are written again without the dead. */
const MIN_LIVE_SHARE = 0.5;
/** A loose file that the index does not know may be one that a process is just publishing. */
const UNKNOWN_LOOSE_GRACE_MS = 3_600_000;

interface GcSpace {
  dir: string;
  packsDir: string;
  index: ObjectIndex;
  refs: RefStore;
  loose: LooseFiles;
  /** Adds all that the roots reach. */
  mark(roots: Iterable<RefTarget>, marked: Set<ObjectKey>): void;
  copyRecords(rows: IndexRow[]): { rows: IndexRow[]; packs: Map<string, number> };
  /** The pack's file is about to go. */
  forgetPack(pack: string): void;
}

interface PackState {
  sizeBytes: number;
  live: IndexRow[];
  dead: IndexRow[];
}

interface Plan {
  dead: IndexRow[];
  deadLoose: { digest: string; sizeBytes: number }[];
  /** Go without a trace. */
  emptyPacks: [pack: string, state: PackState][];
  /** Go once their live records are copied. */
  thinPacks: [pack: string, state: PackState][];
}

/**
 * Mark and sweep. The caller holds the lock of gc, so that no lease is held and no ref moves. Packs that a live process still appends to stay as they are,
 * and what they hold counts as live. New packs are synced before the index names them, and the index forgets before files go.
 */
export function collectGarbage(space: GcSpace, options: GcOptions): GcResult {
  const plan = makePlan(space, options);
  const result: GcResult = {
    manifestsRemoved: plan.dead.filter(({ kind }) => kind !== 'blob').length,
    chunksRemoved: plan.dead.filter(({ kind }) => kind === 'blob').length,
    bytesFreed: 0,
    demoted: 0,
    evicted: [],
    storedBytes: 0,
  };
  const gone = [...plan.emptyPacks, ...plan.thinPacks];
  for (const { sizeBytes } of [...plan.deadLoose, ...gone.map(([, state]) => state)]) result.bytesFreed += sizeBytes;
  const kept = plan.thinPacks.flatMap(([, { live }]) => live);
  if (options.dryRun === true) {
    if (kept.length > 0) result.bytesFreed -= PACK_HEADER.length + sumRecords(kept);
  } else {
    result.bytesFreed -= sweep(space, plan, kept);
  }
  result.storedBytes = listFiles(space.dir).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0) - (options.dryRun === true ? result.bytesFreed : 0);
  return result;
}

function makePlan(space: GcSpace, options: GcOptions): Plan {
  const graceMs = options.graceMs ?? 0;
  // File times are finer than the clock: without grace, nothing at all is young.
  const oldestYoungMs = graceMs === 0 ? Infinity : Date.now() - graceMs;
  const held = space.refs.heldPacks();
  const packs = new Map<string, PackState>();
  const protectedPacks = new Set<string>();
  for (const pack of space.index.packs().keys()) {
    const stats = statSync(join(space.packsDir, `${pack}.pack`), { throwIfNoEntry: false });
    packs.set(pack, { sizeBytes: stats?.size ?? 0, live: [], dead: [] });
    if (held.has(pack) || (stats !== undefined && stats.mtimeMs > oldestYoungMs)) protectedPacks.add(pack);
  }
  const loose = new Map([...space.loose.list()].map((file) => [file.digest, file]));
  const isKept = ({ digest, location }: IndexRow): boolean =>
    location.place === 'pack' ? protectedPacks.has(location.pack) : (loose.get(digest)?.mtimeMs ?? 0) > oldestYoungMs;

  const rows = [...space.index.all()];
  const marked = new Set<ObjectKey>();
  space.mark([...space.refs.list('').map(({ ref }) => ref.target), ...space.refs.pins(), ...(options.extraRoots ?? []), ...rows.filter(isKept)], marked);

  const dead: IndexRow[] = [];
  for (const row of rows) {
    const isLive = marked.has(objectKey(row.kind, row.digest));
    if (!isLive) dead.push(row);
    if (row.location.place === 'pack') packs.get(row.location.pack)?.[isLive ? 'live' : 'dead'].push(row);
  }
  const known = new Set(rows.flatMap(({ digest, location }) => (location.place === 'loose' ? [digest] : [])));
  const deadLoose = [...loose.values()].filter(({ digest, mtimeMs }) => {
    if (marked.has(objectKey('blob', digest))) return false;
    return known.has(digest) || mtimeMs < Math.min(oldestYoungMs, Date.now() - UNKNOWN_LOOSE_GRACE_MS);
  });
  const sweepable = [...packs].filter(([pack]) => !protectedPacks.has(pack));
  return {
    dead,
    deadLoose,
    emptyPacks: sweepable.filter(([, { live }]) => live.length === 0),
    thinPacks: sweepable.filter(([, { live, sizeBytes }]) => live.length > 0 && sumRecords(live) < sizeBytes * MIN_LIVE_SHARE),
  };
}

/** @returns the bytes that the new packs take */
function sweep(space: GcSpace, plan: Plan, kept: IndexRow[]): number {
  const copied = kept.length === 0 ? { rows: [], packs: new Map<string, number>() } : space.copyRecords(kept);
  const gone = [...plan.emptyPacks, ...plan.thinPacks].map(([pack]) => pack);
  space.index.update((edit) => {
    for (const { kind, digest } of plan.dead) edit.remove(kind, digest);
    for (const row of copied.rows) edit.replace(row);
    for (const [pack, length] of copied.packs) edit.setScanned(pack, length);
    for (const pack of gone) edit.removePack(pack);
  });
  try {
    for (const pack of gone) {
      space.forgetPack(pack);
      rmSync(join(space.packsDir, `${pack}.pack`), { force: true });
    }
    for (const { digest } of plan.deadLoose) space.loose.remove(digest);
  } catch (error) {
    throw storeWrite(space.packsDir, error);
  }
  return [...copied.packs.values()].reduce((sum, length) => sum + length, 0);
}

function sumRecords(rows: IndexRow[]): number {
  return rows.reduce((sum, { location }) => sum + (location.place === 'pack' ? recordBytes(location) : 0), 0);
}
