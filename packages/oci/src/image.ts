import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { HdError, assert, isDigest } from '@hyperdocker/base';
import type { TreeDigest } from '@hyperdocker/base';
import { emptyTree } from '@hyperdocker/cas';
import type { Store } from '@hyperdocker/cas';
import type { BlobPutter } from './blob-spool.ts';
import { decompressed, sha256Of } from './decompress.ts';
import { EMPTY_CONFIG, parseDiffIds, parseImageConfig } from './image-config.ts';
import type { ImageConfig, ImageDocument } from './image-config.ts';
import { findInArchive, findInOciDir, findInRegistry } from './image-source.ts';
import type { FoundImage, FoundLayer } from './image-source.ts';
import { ImageTree } from './image-tree.ts';
import { readLayerInto } from './layer.ts';
import { hostPlatform, invalidImage, isObject, wrongPlatform } from './manifest.ts';
import type { Platform } from './manifest.ts';
import { PartialDownloads } from './partial-downloads.ts';
import { formatReference } from './reference.ts';
import type { Base } from './reference.ts';
import { RegistryClient } from './registry.ts';
import type { RegistryOptions } from './registry.ts';

/** A base image in the store. */
export interface Image {
  tree: TreeDigest;
  config: ImageConfig;
  /** Canonical text of where it came from. */
  source: string;
  /** Its identity: the manifest's `sha256:…`; for sources without manifests the tree's digest. */
  resolved: string;
  /** Its whole configuration, as it was written. Absent where the source has none. */
  document?: ImageDocument;
  /** `sha256:…` of the bytes of that. */
  id?: string;
}

/** One that was loaded from a source that names it, or its layers. */
export interface LoadedImage extends Image {
  /** What the source itself calls it. */
  names: string[];
  /** The tree after each layer that was read, by the chain of layers up to it: what another image on the same layers begins with. */
  chain: ChainLink[];
}

export interface ChainLink {
  /** `sha256:…`: OCI's ChainID. */
  chainId: string;
  tree: TreeDigest;
}

/** Every base that is an image. `apt` is made by running mmdebstrap, elsewhere. */
export type ImageBase = Exclude<Base, { kind: 'apt' }>;

export type ImageProgress =
  /** `here`: so many of the layers are known, and are not fetched. */
  | { kind: 'found'; layers: number; here: number; totalBytes: number }
  | { kind: 'download'; digest: string; doneBytes: number; totalBytes: number }
  /** Layer `layer` (from 1) of `layers` is in the tree. */
  | { kind: 'unpacked'; layer: number; layers: number };

export interface LoadOptions {
  registry?: Omit<RegistryOptions, 'signal'>;
  /** Default: Linux on this machine's processor. */
  platform?: Platform;
  /** What relative paths are relative to. Default: the current directory. */
  cwd?: string;
  /** For what is unpacked on the way. Default: the system's. */
  tempDir?: string;
  /** Downloads wait here, and stay when they are cut off, for the next who wants them. Default: nowhere. */
  partialDir?: string;
  signal?: AbortSignal;
  onProgress?: (progress: ImageProgress) => void;
  /** Stores the contents of files. Default: the store, in this thread. */
  blobs?: BlobPutter;
  /** An image that is here already: nothing is fetched then. @param resolved digest of its manifest */
  present?: (resolved: string) => Image | undefined;
  /** The tree of the layers of a chain, where it is in the store. */
  chain?: (chainId: string) => TreeDigest | undefined;
}

const PARALLEL_DOWNLOADS = 3;
/** What came is not worth keeping. */
const DAMAGED = new Set(['LAYER_INVALID', 'DIGEST_MISMATCH', 'IMAGE_INVALID']);

/**
 * Brings an image into the store. The caller holds a lease and sets a ref.
 * @throws HdError IMAGE_NOT_FOUND, IMAGE_INVALID, IMAGE_PLATFORM, LAYER_INVALID, DIGEST_MISMATCH, and those of `RegistryClient`;
 * the signal's reason where it was aborted
 */
export async function loadImage(store: Store, base: ImageBase, options: LoadOptions = {}): Promise<LoadedImage> {
  const [image] = await loadImages(store, base, options, (found) => {
    if (found.length < 2) return found;
    const names = found.flatMap(({ label, names: [name = label] }) => name ?? []);
    throw invalidImage(formatBase(base), `it holds ${found.length} images: ${names.join(', ')}`, base.kind === 'oci-dir' ? 'name one: oci:DIR:NAME' : 'import it with `hd image import`, and name the one');
  });
  assert(image !== undefined, 'what is found is loaded');
  return image;
}

/** Which of the images of a source are wanted. */
export type Choose = (found: readonly FoundImage[]) => readonly FoundImage[];

/** All images of a source, which is an archive or a layout with several of them, or those that are chosen. Otherwise as `loadImage`. */
export async function loadImages(store: Store, base: ImageBase, options: LoadOptions = {}, choose: Choose = (found) => found): Promise<LoadedImage[]> {
  const source = formatBase(base);
  if (base.kind === 'scratch') {
    const tree = emptyTree(store);
    return [{ tree, config: EMPTY_CONFIG, source, resolved: tree, names: [], chain: [] }];
  }
  const directory = mkdtempSync(join(options.tempDir ?? tmpdir(), 'hd-image-'));
  const loaded: LoadedImage[] = [];
  const chains = new Map<string, TreeDigest>();
  const chain = (chainId: string): TreeDigest | undefined => chains.get(chainId) ?? options.chain?.(chainId);
  const platform = options.platform ?? hostPlatform();
  const stop = new AbortController();
  const signal = options.signal === undefined ? stop.signal : AbortSignal.any([options.signal, stop.signal]);
  try {
    for (const found of choose(await find(base, source, platform, directory, { ...options, signal }))) {
      checkPlatform(found, platform, source);
      const image = await loadFound(store, found, source, { ...options, signal, chain, tempDir: directory }, stop);
      for (const link of image.chain) chains.set(link.chainId, link.tree);
      loaded.push(image);
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  return loaded;
}

async function loadFound(store: Store, found: FoundImage, source: string, options: LoadOptions & { tempDir: string; signal: AbortSignal }, stop: AbortController): Promise<LoadedImage> {
  let downloads: Promise<string>[] = [];
  let keep = true;
  try {
    const here = found.manifestDigest === undefined ? undefined : options.present?.(found.manifestDigest);
    if (here !== undefined) return { ...here, source, names: found.names, chain: [] };
    const diffIds = parseDiffIds(found.config, found.layers.length, source);
    const start = knownStart(chainIdsOf(diffIds), options);
    const missing = found.layers.slice(start.layers);
    options.onProgress?.({ kind: 'found', layers: found.layers.length, here: start.layers, totalBytes: missing.reduce((sum, layer) => sum + layer.sizeBytes, 0) });
    downloads = startAll(missing, options.signal);
    const { tree, chain } = await unpack(store, found, start, downloads, diffIds, options);
    keep = false;
    return { tree, config: parseImageConfig(found.config, source), source, resolved: found.manifestDigest ?? tree, document: found.config, id: found.configDigest, names: found.names, chain };
  } catch (error) {
    if (error instanceof HdError && DAMAGED.has(error.code)) keep = false;
    stop.abort();
    throw error;
  } finally {
    await Promise.allSettled(downloads);
    found.release?.({ keep });
  }
}

/** The canonical text of a base, which `parseBase` reads again. */
export function formatBase(base: ImageBase): string {
  switch (base.kind) {
    case 'scratch':
      return 'scratch';
    case 'oci-dir':
      return `oci:${base.path}${base.ref === undefined ? '' : `:${base.ref}`}`;
    case 'docker-archive':
      return `docker-archive:${base.path}`;
    case 'registry':
      return formatReference(base.reference);
  }
}

/** Canonical JSON: keys sorted, so that equal images have equal texts. */
export function imageToJson(image: Image): string {
  return JSON.stringify(image, (_, value: unknown) => (isObject(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))) : value));
}

/** @throws HdError IMAGE_INVALID for what `imageToJson` did not write */
export function imageFromJson(json: string): Image {
  try {
    const value: unknown = JSON.parse(json);
    if (isImage(value)) return value;
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
  }
  throw new HdError('IMAGE_INVALID', 'the record of an image is damaged', { hint: 'remove it: the image is then loaded again' });
}

async function find(base: Exclude<ImageBase, { kind: 'scratch' }>, source: string, platform: Platform, directory: string, options: LoadOptions & { signal: AbortSignal }): Promise<FoundImage[]> {
  const { signal } = options;
  const cwd = options.cwd ?? process.cwd();
  switch (base.kind) {
    case 'oci-dir':
      return findInOciDir(resolve(cwd, base.path), base.ref, platform, source);
    case 'docker-archive':
      return await findInArchive(resolve(cwd, base.path), platform, directory, source, signal);
    case 'registry': {
      const partials = new PartialDownloads(options.partialDir ?? directory);
      partials.sweep(Date.now());
      return [await findInRegistry(new RegistryClient({ ...options.registry, signal }), base.reference, platform, partials, (digest, doneBytes, totalBytes) =>
        options.onProgress?.({ kind: 'download', digest, doneBytes, totalBytes }),
      )];
    }
  }
}

/** An index names platforms; a single image says only in its configuration what it is for. */
function checkPlatform(found: FoundImage, wanted: Platform, source: string): void {
  const { os, architecture } = found.config;
  if (typeof os !== 'string' || typeof architecture !== 'string' || architecture === '' || os === '') return;
  if (os !== wanted.os || architecture !== wanted.architecture) throw wrongPlatform(source, wanted, [`${os}/${architecture}`]);
}

/** Begins the fetches in order, a few at a time. */
function startAll(layers: FoundLayer[], signal: AbortSignal): Promise<string>[] {
  const started: Promise<string>[] = [];
  for (const [index, layer] of layers.entries()) {
    const earlier = started[index - PARALLEL_DOWNLOADS];
    const fetched = (earlier ?? Promise.resolve()).then(() => {
      signal.throwIfAborted();
      return layer.fetch();
    });
    // The reader meets the failure when it comes to this layer; until then it is not unhandled.
    fetched.catch(() => undefined);
    started.push(fetched);
  }
  return started;
}

interface Start { layers: number; tree: TreeDigest | undefined }

/** As many of the lowest layers as the store has laid over each other before. */
function knownStart(chainIds: readonly string[], { chain }: LoadOptions): Start {
  for (let layers = chainIds.length; layers > 0; layers--) {
    const tree = chain?.(chainIds[layers - 1] ?? '');
    if (tree !== undefined) return { layers, tree };
  }
  return { layers: 0, tree: undefined };
}

/** Lays the layers over what is there already. */
async function unpack(store: Store, found: FoundImage, start: Start, files: Promise<string>[], diffIds: string[], options: LoadOptions & { tempDir: string }): Promise<{ tree: TreeDigest; chain: ChainLink[] }> {
  const tree = new ImageTree(store, start.tree);
  const chainIds = chainIdsOf(diffIds);
  const chain: ChainLink[] = [];
  for (const [nth, fetched] of files.entries()) {
    const index = start.layers + nth;
    const path = await fetched;
    const name = `layer ${index + 1} of ${found.layers.length}`;
    const bytes = decompressed(path, { name, digest: found.layers[index]?.digest, diffId: diffIds[index], signal: options.signal });
    await readLayerInto(store, tree, bytes, options);
    await options.blobs?.settle();
    options.onProgress?.({ kind: 'unpacked', layer: index + 1, layers: found.layers.length });
    chain.push({ chainId: chainIds[index] ?? '', tree: tree.finish() });
  }
  return { tree: chain.at(-1)?.tree ?? start.tree ?? tree.finish(), chain };
}

/** https://github.com/opencontainers/image-spec/blob/main/config.md#layer-chainid */
export function chainIdsOf(diffIds: readonly string[]): string[] {
  const ids: string[] = [];
  for (const diffId of diffIds) {
    const below = ids.at(-1);
    ids.push(below === undefined ? diffId : `sha256:${sha256Of(Buffer.from(`${below} ${diffId}`))}`);
  }
  return ids;
}

function isImage(value: unknown): value is Image {
  if (!isObject(value) || !isObject(value['config'])) return false;
  const { tree, source, resolved, config } = value;
  const texts = [config['workdir'], config['user'], config['stopSignal'], source, resolved];
  const lists = [config['entrypoint'], config['cmd'], config['exposedPorts'], config['volumes']];
  return typeof tree === 'string' && isDigest(tree) && texts.every((item) => typeof item === 'string') && lists.every((item) => Array.isArray(item) && item.every((part) => typeof part === 'string')) && isObject(config['env']) && isObject(config['labels']);
}
