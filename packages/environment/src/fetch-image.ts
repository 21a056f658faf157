import type { RefTarget, Store } from '@hyperdocker/cas';
import type { Choose, ImageBase, ImageProgress, LoadOptions, LoadedImage } from '@hyperdocker/oci';
import { loadImage, loadImages } from '@hyperdocker/oci';
import { BlobThreads } from './blob-threads.ts';
import type { Home } from './home.ts';
import { knownChains, listImages } from './named-images.ts';
import { registryConfig } from './registries.ts';
import type { WriteLease } from './write-lease.ts';

export interface FetchOptions {
  home: Home;
  /** Given back while the source is asked. */
  lease: WriteLease;
  /** Such as `linux/amd64`. */
  platform: string;
  /** What relative paths are relative to. */
  cwd: string;
  signal?: AbortSignal;
  onProgress?: (progress: ImageProgress) => void;
}

/**
 * An image from its source, of which only what is not here is fetched: images with the same manifest, and images that begin with the same layers, are known by the refs of all images.
 * What it writes is flushed by the caller's refs at the latest, and safe until then. @throws HdError those of `loadImage`
 */
export async function fetchImage(store: Store, base: ImageBase, options: FetchOptions): Promise<LoadedImage> {
  return await fetching(store, options, (load) => loadImage(store, base, load));
}

/** The same for a source with several images: those that are chosen. */
export async function fetchImages(store: Store, base: ImageBase, options: FetchOptions, choose: Choose): Promise<LoadedImage[]> {
  return await fetching(store, options, (load) => loadImages(store, base, load, choose));
}

async function fetching<T>(store: Store, options: FetchOptions, load: (options: LoadOptions) => Promise<T>): Promise<T> {
  const { home: { storeDir, tempDir, partialDir }, lease, platform, cwd, signal, onProgress } = options;
  const [os = 'linux', architecture = 'amd64', variant] = platform.split('/');
  const chains = knownChains(store);
  using pins = new DisposableStack();
  /** What the refs hold now may be given up while layers are fetched. */
  const keep = (digest: string): void => void pins.use(store.pin({ kind: 'tree', digest } satisfies RefTarget, `the layers of ${platform} images`));
  await using blobs = new BlobThreads(store, storeDir);
  const loaded = await lease.apart([], async () => await load({
    blobs,
    registry: { config: registryConfig(options.home) },
    platform: { os, architecture, ...(variant === undefined ? {} : { variant }) },
    tempDir, partialDir, cwd,
    present: (resolved) => {
      const image = listImages(store).find((listed) => listed.resolved === resolved && listed.platform === platform);
      if (image === undefined) return undefined;
      keep(image.tree);
      const { tree, config, source, document, id } = image;
      return { tree, config, source, resolved, document, id };
    },
    chain: (chainId) => {
      const tree = chains.get(chainId);
      if (tree === undefined || !store.hasTree(tree)) return undefined;
      keep(tree);
      return tree;
    },
    ...(onProgress === undefined ? {} : { onProgress }),
    ...(signal === undefined ? {} : { signal }),
  }));
  await blobs.flush();
  return loaded;
}
