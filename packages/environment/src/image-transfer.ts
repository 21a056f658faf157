import { existsSync, statSync } from 'node:fs';
import { basename } from 'node:path';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import type { ExportedImage, ExportedLayer, ImageBase, ImageProgress, LoadedImage } from '@hyperdocker/oci';
import { archiveKind, decompressed, exportImage, formatFamiliar, importTar, parseReference, planLayers, writeLayer } from '@hyperdocker/oci';
import { BlobThreads } from './blob-threads.ts';
import { fetchImage, fetchImages } from './fetch-image.ts';
import type { Home } from './home.ts';
import type { ImageDestination } from './image-target.ts';
import { LayerFile, openTarget } from './image-target.ts';
import { knownEnvironments } from './known-environments.ts';
import type { ListedImage } from './named-images.ts';
import { findListed, idOf, listImages, namedKey, putImage, putNamedImage, readImage, removeImage } from './named-images.ts';
import { HOST_PLATFORM } from './platform.ts';
import { treeBytes } from './store-report.ts';
import { WriteLease } from './write-lease.ts';

export interface TransferOptions {
  signal?: AbortSignal;
  onProgress?: (progress: ImageProgress) => void;
}

/** Brings what a name means in its registry now. `changed`: it meant something else here, or nothing. @throws HdError IMAGE_REFERENCE, and those of `loadImage` */
export async function pullImage(home: Home, name: string, options: TransferOptions & { platform?: string }): Promise<{ image: ListedImage; changed: boolean }> {
  const reference = parseReference(name);
  const platform = options.platform ?? HOST_PLATFORM;
  using store = openStore(home.storeDir, { nodeLinks });
  using lease = new WriteLease(store, `hd image pull ${name}`);
  const before = readImage(store, namedKey(name, platform));
  const image = keep(store, await fetchImage(store, { kind: 'registry', reference }, { ...options, home, lease, platform, cwd: '/' }), name, platform);
  return { image, changed: before?.resolved !== image.resolved };
}

export interface ImportOptions extends TransferOptions {
  /** Of an only image: what it is called from now on. Of several: which of them. Absent: all, by the names that they have there. */
  name?: string;
  platform?: string;
  /** When the files of a root were put together: what the image says it was made at. */
  createdMs: number;
}

/**
 * The images of a file or directory: of what `docker save` or an OCI exporter wrote, or the one of the tar of a root file system, compressed or not.
 * @param path absolute @returns one for each name, first those of the first image @throws HdError IMAGE_NOT_FOUND, IMAGE_NAMELESS, and those of `loadImage`
 */
export async function importImages(home: Home, path: string, options: ImportOptions): Promise<ListedImage[]> {
  const platform = options.platform ?? HOST_PLATFORM;
  if (options.name !== undefined) parseReference(options.name);
  const base = await baseOf(path, options.signal);
  using store = openStore(home.storeDir, { nodeLinks });
  using lease = new WriteLease(store, `hd image import ${path}`);
  if (base === 'root') {
    const name = options.name ?? nameless(path);
    await using blobs = new BlobThreads(store, home.storeDir);
    const tree = await lease.apart([], () => importTar(store, decompressed(path, { name: basename(path), signal: options.signal }), { tempDir: home.tempDir, blobs }));
    await blobs.flush();
    const [os, architecture] = platform.split('/');
    return [putNamedImage(store, name, { tree, source: `root tar ${basename(path)}`, document: { created: new Date(options.createdMs).toISOString(), os, architecture, config: {} } }, platform)];
  }
  const loaded = await fetchImages(store, base, { ...options, home, lease, platform, cwd: '/' }, (found) => chosen(found, path, options.name));
  return loaded.flatMap((image) => (options.name === undefined ? image.names : [options.name]).map((name) => keep(store, image, name, platform)));
}

/** Of several images, those without a name are left out, unless none has one. @throws HdError IMAGE_NAMELESS, IMAGE_NOT_FOUND */
function chosen<T extends { names: string[] }>(found: readonly T[], path: string, name: string | undefined): readonly T[] {
  if (name === undefined) {
    const named = found.filter(({ names }) => names.length > 0);
    return named.length > 0 ? named : nameless(path);
  }
  if (found.length === 1) return found;
  const wanted = formatFamiliar(parseReference(name));
  const one = found.find(({ names }) => names.some((known) => formatFamiliar(parseReference(known)) === wanted));
  if (one === undefined) throw new HdError('IMAGE_NOT_FOUND', `${basename(path)} holds ${found.length} images, and none is called ${wanted}`, { hint: `there are: ${found.flatMap(({ names }) => names).join(', ') || 'none with a name'}` });
  return [one];
}

export interface SendOptions {
  signal?: AbortSignal;
  onLayer?: (layer: ExportedLayer, nth: number, layers: number) => void;
}

/** An image of the store, to a registry, a layout or an archive, divided into layers anew. @throws HdError IMAGE_UNKNOWN, EXPORT_TARGET, EXPORT_WRITE, and those of `RegistryClient` */
export async function sendImage(home: Home, asked: string, to: ImageDestination, options: SendOptions = {}): Promise<{ image: ListedImage; exported: ExportedImage }> {
  using store = openStore(home.storeDir, { nodeLinks });
  using _lease = store.lease(`hd image ${asked}`);
  const image = findListed(listImages(store), asked);
  using memory = new LayerFile(home);
  using opened = openTarget(to, home, options.signal);
  const parts = { layers: planLayers(store, image.tree, image.tree), document: image.document, createdMs: 0 };
  return { image, exported: await exportImage(store, parts, opened.target, { ...options, memory, tempDir: home.tempDir }) };
}

/** All files of an image as one tar, as `docker export` writes those of a container. @param consume reads it to its end @throws HdError IMAGE_UNKNOWN */
export async function exportRoot(home: Home, asked: string, consume: (tar: Iterable<Uint8Array>) => Promise<void>): Promise<ListedImage> {
  using store = openStore(home.storeDir, { nodeLinks });
  using _lease = store.lease(`hd image export ${asked}`);
  const image = findListed(listImages(store), asked);
  await consume(writeLayer(store, image.tree));
  return image;
}

/** All images, and the bytes of their files. */
export function imagesHere(home: Home): (ListedImage & { sizeBytes: number })[] {
  if (!existsSync(home.storeDir)) return [];
  using store = openStore(home.storeDir, { readOnly: true });
  const sizes = new Map<TreeDigest, number>();
  return listImages(store).map((image) => ({ ...image, sizeBytes: treeBytes(store, image.tree, sizes) }));
}

/** Takes a name away. @param force also where an environment is made of the image @throws HdError IMAGE_UNKNOWN, IMAGE_IN_USE */
export function dropImage(home: Home, asked: string, { force }: { force: boolean }): ListedImage {
  using store = openStore(home.storeDir, { nodeLinks });
  const image = findListed(listImages(store), asked);
  const users = knownEnvironments(home, store).filter((environment) => environment.image === image.key && environment.state !== 'gone');
  if (users.length > 0 && !force) {
    throw new HdError('IMAGE_IN_USE', `${image.name} is the base of ${users.map(({ id, project }) => project ?? id).join(', ')}`, { hint: '`--force` removes the name all the same; the environments have to fetch it again' });
  }
  removeImage(store, image.key);
  return image;
}

/** Under a name, which it takes from another. */
function keep(store: Store, loaded: LoadedImage, name: string, platform: string): ListedImage {
  const { names: _, chain, ...image } = loaded;
  const { document = {}, id = idOf(document) } = image;
  return putImage(store, namedKey(name, platform), { ...image, name: formatFamiliar(parseReference(name)), platform, document, id }, chain);
}

async function baseOf(path: string, signal: AbortSignal | undefined): Promise<'root' | Exclude<ImageBase, { kind: 'scratch' }>> {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) throw new HdError('IMAGE_NOT_FOUND', `there is no ${path}`);
  if (stats.isDirectory()) return { kind: 'oci-dir', path };
  return (await archiveKind(path, basename(path), signal)) === 'root' ? 'root' : { kind: 'docker-archive', path };
}

function nameless(path: string): never {
  throw new HdError('IMAGE_NAMELESS', `${basename(path)} does not say what the image is called`, { hint: 'give it a name: hd image import FILE NAME' });
}
