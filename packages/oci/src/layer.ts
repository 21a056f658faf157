import type { TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { BlobSpool } from './blob-spool.ts';
import type { BlobPutter } from './blob-spool.ts';
import { ImageTree } from './image-tree.ts';
import { TarReader } from './tar-reader.ts';
import type { TarEntry, TarSink } from './tar-reader.ts';

/** Bytes in order, in any pieces: a stream, an array, a generator. */
export type ByteChunks = AsyncIterable<Uint8Array> | Iterable<Uint8Array>;

export interface LayerOptions {
  /** For files too large for memory. Default: the system's. */
  tempDir?: string;
  /** Stores the contents of files. Default: the store, in this thread. */
  blobs?: BlobPutter;
}

/**
 * Lays one layer (decompressed tar) over a tree, whiteouts and all.
 *
 * There is no delta without the tree below: a layer may hard-link to files of older layers and reach through their links
 * (`bin/x` where `bin -> usr/bin`). The caller holds a lease. @throws HdError LAYER_INVALID
 */
export async function applyLayer(store: Store, base: TreeDigest, layer: ByteChunks, options: LayerOptions = {}): Promise<TreeDigest> {
  const tree = new ImageTree(store, base);
  await readLayerInto(store, tree, layer, options);
  await options.blobs?.settle();
  return tree.finish();
}

/** The file system of an image: its layers, lowest first. @throws HdError LAYER_INVALID */
export async function imageTree(store: Store, layers: Iterable<ByteChunks>, options: LayerOptions = {}): Promise<TreeDigest> {
  const tree = new ImageTree(store);
  for (const layer of layers) await readLayerInto(store, tree, layer, options);
  await options.blobs?.settle();
  return tree.finish();
}

/** A root file system's tar, such as `mmdebstrap` writes. @throws HdError LAYER_INVALID */
export function importTar(store: Store, tar: ByteChunks, options: LayerOptions = {}): Promise<TreeDigest> {
  return imageTree(store, [tar], options);
}

/** Adds one layer to an image that is being put together. With `blobs`, settle them before the tree is finished. */
export async function readLayerInto(store: Store, tree: ImageTree, layer: ByteChunks, options: LayerOptions): Promise<void> {
  using spool = new BlobSpool(store, options.tempDir, options.blobs);
  tree.beginLayer();
  const reader = new TarReader(new LayerSink(tree, spool));
  for await (const chunk of layer) {
    reader.push(chunk);
    await options.blobs?.room();
  }
  reader.finish();
}

class LayerSink implements TarSink {
  readonly #tree: ImageTree;
  readonly #spool: BlobSpool;
  #current: TarEntry | undefined;

  constructor(tree: ImageTree, spool: BlobSpool) {
    this.#tree = tree;
    this.#spool = spool;
  }

  entry(entry: TarEntry): void {
    this.#current = entry;
    if (entry.kind === 'file') this.#spool.begin(entry.size);
  }

  data(bytes: Buffer): void {
    this.#spool.write(bytes);
  }

  hole(sizeBytes: number): void {
    this.#spool.hole(sizeBytes);
  }

  end(): void {
    const entry = this.#current;
    if (entry !== undefined) this.#tree.add(entry, entry.kind === 'file' ? this.#spool.end() : undefined);
  }
}
