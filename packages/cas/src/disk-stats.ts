import { HdError, hasher } from '@hyperdocker/base';
import type { BlobDigest } from '@hyperdocker/base';
import { BlobCutter } from './blob-writer.ts';
import type { GroupShare, NodeLinks, ProfileCost, RefTarget, RootGroup, StatsOptions, StoreStats } from './contract.ts';
import { diskUsage } from './disk-usage.ts';
import { Chunker, PROFILES } from './fastcdc.ts';
import type { ChunkingProfile } from './fastcdc.ts';
import type { ObjectIndex } from './object-index.ts';
import { recordSpace, writeRecord } from './pack-format.ts';
import type { PromotedFiles } from './promoted-files.ts';
import { lenient, linksOf, markReachable, objectKey, targetOfKey } from './reach.ts';
import type { ObjectKey, Reachable } from './reach.ts';
import type { RefStore } from './ref-store.ts';

interface StatsSpace {
  dir: string;
  index: ObjectIndex;
  refs: RefStore;
  files: PromotedFiles;
  reachable: Reachable;
  nodeLinks: NodeLinks | undefined;
  stream(digest: string): Iterable<Buffer>;
  chunking: ChunkingProfile;
}

/** Counts what the store holds: objects from the index, bytes on the disk from the files themselves. */
export function storeStats(whole: StatsSpace, options: StatsOptions): StoreStats {
  let damaged = false;
  const onDamaged = (): void => void (damaged = true);
  const space = { ...whole, reachable: lenient(whole.reachable, onDamaged) };
  const { dir, index, files } = space;
  const totals = index.totals();
  const promoted = [...files.list()];
  const chunkBytes = chunksOfRecipes(space);
  const stats = {
    chunks: totals.blobs,
    manifests: totals.others + totals.recipes,
    // A piece counts for the blobs that it is a part of.
    logicalBytes: totals.recipeBytes + totals.blobBytes - sum(chunkBytes.values()),
    uniqueBytes: totals.blobBytes,
    packedBytes: totals.blobStoredBytes,
    storedBytes: diskUsage(dir),
    packs: index.packs().size,
    looseFiles: promoted.length,
    looseBytes: sum(promoted.map(({ sizeBytes }) => sizeBytes)),
    ...(options.groups === undefined ? {} : { groups: groupShares(space, options.groups) }),
    ...(options.explain === true ? { profiles: profileCosts(space, new Set(chunkBytes.keys()), onDamaged) } : {}),
  };
  return { ...stats, damaged };
}

function chunksOfRecipes({ index, reachable }: StatsSpace): Map<string, number> {
  const bytes = new Map<string, number>();
  for (const { digest } of index.ofKind('recipe')) for (const chunk of reachable.chunks(digest) ?? []) bytes.set(chunk.digest, chunk.sizeBytes);
  return bytes;
}

const SHARED = -2;
/** Reached by refs and pins of no group. */
const OTHERS = -1;

function groupShares(space: StatsSpace, groups: readonly RootGroup[]): GroupShare[] {
  const { index, refs, reachable, nodeLinks } = space;
  const rootsOf = (group: RootGroup): RefTarget[] => [...group.roots, ...(group.refs ?? []).flatMap((name) => refs.get(name)?.target ?? [])];
  const owners = new Map<ObjectKey, number>();
  const own = (roots: readonly RefTarget[], owner: number): Set<ObjectKey> => {
    const reached = new Set<ObjectKey>();
    markReachable(reachable, roots, nodeLinks, reached);
    for (const key of reached) owners.set(key, owners.has(key) ? SHARED : owner);
    return reached;
  };
  const storedBytes = (key: ObjectKey): number => {
    const { kind, digest } = targetOfKey(key);
    return index.storedBytes(kind, digest);
  };
  const sizes = new Map<string, number>();
  const shares = groups.map((group, at): GroupShare => {
    const roots = rootsOf(group);
    return { name: group.name, fileBytes: fileBytes(space, roots, sizes), storedBytes: sum([...own(roots, at)].map(storedBytes)), exclusiveBytes: 0 };
  });
  own(rootsOfNoGroup(space, groups, new Set(groups.flatMap(rootsOf).map(keyOf))), OTHERS);
  for (const [key, owner] of owners) {
    const share = shares[owner];
    if (share !== undefined) share.exclusiveBytes += storedBytes(key);
  }
  return shares;
}

function rootsOfNoGroup({ refs }: StatsSpace, groups: readonly RootGroup[], targets: ReadonlySet<ObjectKey>): RefTarget[] {
  const names = new Set(groups.flatMap((group) => group.refs ?? []));
  // Environments that run pin what they have refs to.
  const others = [...refs.list('').flatMap(({ name, ref }) => (names.has(name) ? [] : [ref.target])), ...refs.pins()];
  return others.filter((target) => !targets.has(keyOf(target)));
}

/** Of all trees and blobs at which the roots point, be it through nodes; each once, with the files in it as often as they occur. */
function fileBytes({ reachable, nodeLinks }: StatsSpace, roots: readonly RefTarget[], sizes: Map<string, number>): number {
  const sizeOf = (tree: string): number => {
    const known = sizes.get(tree);
    if (known !== undefined) return known;
    const size = sum((reachable.tree(tree) ?? []).map((entry) => (entry.kind === 'file' ? entry.size : entry.kind === 'dir' ? sizeOf(entry.digest) : 0)));
    sizes.set(tree, size);
    return size;
  };
  const trees = new Set<string>();
  const seen = new Set<ObjectKey>();
  const follow = (target: RefTarget): void => {
    if (target.kind === 'tree') trees.add(target.digest);
    if (target.kind !== 'node' || seen.has(keyOf(target))) return;
    seen.add(keyOf(target));
    for (const link of linksOf(reachable, target, nodeLinks) ?? []) follow(link);
  };
  for (const root of roots) follow(root);
  return sum([...trees].map(sizeOf));
}

/** Cuts and compresses all blobs as each profile would. */
function profileCosts(space: StatsSpace, chunks: ReadonlySet<string>, onDamaged: () => void): ProfileCost[] {
  return (Object.keys(PROFILES) as ChunkingProfile[]).map((profile) => {
    const started = performance.now();
    const cost: ProfileCost = { profile, inUse: profile === space.chunking, chunks: 0, uniqueBytes: 0, packedBytes: 0, ms: 0 };
    const seen = new Set<string>();
    const put = (digest: string, bytes: Uint8Array): void => {
      if (seen.has(digest)) return;
      seen.add(digest);
      cost.chunks++;
      cost.uniqueBytes += bytes.byteLength;
      cost.packedBytes += packedBytes(space, digest, bytes);
    };
    for (const digest of logicalBlobs(space, chunks)) {
      try {
        recut(space, digest, profile, put);
      } catch (error) {
        if (!(error instanceof HdError)) throw error;
        onDamaged();
      }
    }
    return { ...cost, ms: performance.now() - started };
  });
}

function recut({ stream }: StatsSpace, blob: string, profile: ChunkingProfile, put: (digest: string, bytes: Uint8Array) => void): void {
  const parameters = PROFILES[profile];
  const cutter = new BlobCutter(
    {
      isKnown: () => false,
      putWhole: put,
      putChunk: (bytes) => {
        const digest = hasher.hash(bytes) as BlobDigest;
        put(digest, bytes);
        return { digest, sizeBytes: bytes.byteLength };
      },
      putRecipe: () => {},
      begin: () => {},
    },
    { profile: parameters, chunker: new Chunker(parameters) },
  );
  for (const part of stream(blob)) cutter.write(part);
  cutter.finish();
}

/** Not compressed once more where the store has the same piece. */
function packedBytes({ index }: StatsSpace, digest: string, bytes: Uint8Array): number {
  const location = index.find('blob', digest);
  return location?.place === 'pack' ? location.storedBytes : writeRecord(Buffer.allocUnsafeSlow(recordSpace(bytes.length)), 'blob', digest, bytes).storedBytes;
}

/** Blobs that somebody put, not those that are pieces of them. */
function* logicalBlobs({ index }: StatsSpace, chunks: ReadonlySet<string>): Generator<string> {
  for (const { kind, digest } of index.all()) {
    if (kind === 'recipe' || (kind === 'blob' && !chunks.has(digest))) yield digest;
  }
}

function keyOf({ kind, digest }: RefTarget): ObjectKey {
  return objectKey(kind, digest);
}

function sum(values: Iterable<number>): number {
  let total = 0;
  for (const value of values) total += value;
  return total;
}
