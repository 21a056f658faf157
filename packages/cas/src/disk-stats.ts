import type { StoreStats } from './contract.ts';
import type { ObjectIndex } from './object-index.ts';
import type { PromotedFiles } from './promoted-files.ts';
import { listFiles } from './store-directory.ts';

interface StatsSpace {
  dir: string;
  index: ObjectIndex;
  files: PromotedFiles;
  /** Of a blob that is stored as a recipe. */
  chunks(digest: string): Iterable<{ digest: string; sizeBytes: number }>;
}

/** Counts what the store holds: objects from the index, bytes on the disk from the files themselves. */
export function storeStats({ dir, index, files, chunks }: StatsSpace): StoreStats {
  const totals = index.totals();
  const onDisk = listFiles(dir);
  const promoted = [...files.list()];
  const pieceBytes = new Map([...index.ofKind('recipe')].flatMap(({ digest }) => Array.from(chunks(digest), (chunk) => [chunk.digest, chunk.sizeBytes] as const)));
  return {
    chunks: totals.blobs,
    manifests: totals.others + totals.recipes,
    // A piece counts for the blobs that it is a part of.
    logicalBytes: totals.recipeBytes + totals.blobBytes - [...pieceBytes.values()].reduce((sum, sizeBytes) => sum + sizeBytes, 0),
    uniqueBytes: totals.blobBytes,
    packedBytes: totals.blobStoredBytes,
    storedBytes: onDisk.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    packs: onDisk.filter(({ path }) => path.endsWith('.pack')).length,
    looseFiles: promoted.length,
    looseBytes: promoted.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  };
}
