import type { StoreStats } from './contract.ts';
import type { LooseFiles } from './loose-files.ts';
import type { IndexRow, ObjectIndex } from './object-index.ts';
import { listFiles } from './store-directory.ts';

interface StatsSpace {
  dir: string;
  index: ObjectIndex;
  /** Put and not flushed: in no index yet. */
  pending: Iterable<IndexRow>;
  loose: LooseFiles;
}

/** Counts what the store holds: objects from the index, bytes on the disk from the files themselves. */
export function storeStats({ dir, index, pending, loose }: StatsSpace): StoreStats {
  const totals = index.totals();
  for (const { kind, location } of pending) {
    if (kind === 'blob') {
      totals.blobs++;
      totals.blobBytes += location.rawBytes;
    } else totals.others++;
  }
  for (const sizeBytes of loose.pendingSizes.values()) {
    totals.blobs++;
    totals.blobBytes += sizeBytes;
  }
  const files = listFiles(dir);
  const looseSizes = [...loose.list()].map(({ sizeBytes }) => sizeBytes);
  return {
    chunks: totals.blobs,
    manifests: totals.others,
    logicalBytes: totals.blobBytes,
    uniqueBytes: totals.blobBytes,
    packedBytes: totals.blobBytes,
    storedBytes: files.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
    packs: files.filter(({ path }) => path.endsWith('.pack')).length,
    looseFiles: looseSizes.length,
    looseBytes: looseSizes.reduce((sum, sizeBytes) => sum + sizeBytes, 0),
  };
}
