import { statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { BlobDigest, TreeDigest } from '@hyperdocker/base';
import { HdError, hasher, sha256Hex } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { Base, ChainLink, Image, ImageDocument } from '@hyperdocker/oci';
import { documentOf, formatFamiliar, imageFromJson, imageToJson, parseBase, parseImageConfig, parseReference } from '@hyperdocker/oci';
import { HOST_PLATFORM } from './platform.ts';

/**
 * Images that the store knows by a name. One of a name like `app:1` is what `environment.base = "app:1"` means: whether it was pulled, imported, exported or built
 * makes no difference from then on.
 */
export interface StoredImage extends Image {
  /** As people write it: `app:1`, `ghcr.io/a/b:tag`; of other bases their text, such as `apt://bookworm?include=git`. */
  name: string;
  /** Such as `linux/amd64`. */
  platform: string;
  /** The image's configuration as OCI and Docker write it. */
  document: ImageDocument;
  /** `sha256:…` of its configuration, Docker's image ID; where that is not known as it was written, of the document here. */
  id: string;
}

/** One of the list. */
export interface ListedImage extends StoredImage {
  /** Beginning of its refs; what environments note as theirs. */
  key: string;
  /** When this name came to mean this image. Milliseconds since the epoch. */
  addedMs: number;
}

export interface NewImage {
  tree: TreeDigest;
  /** An OCI image configuration: `config` has Docker's field names. `rootfs` and `history` may be missing. */
  document: ImageDocument;
  /** Where it came from, for people: `docker-archive:app.tar`, `Dockerfile`. */
  source: string;
  /** Default: the tree's digest. */
  resolved?: string;
  id?: string;
}

/**
 * Gives an image a name, which it takes from another. The caller holds a lease; the refs keep it from collections.
 * @param name `app`, `app:1`, `registry.example/team/app:1` @throws HdError IMAGE_REFERENCE, IMAGE_INVALID
 */
export function putNamedImage(store: Store, name: string, image: NewImage, platform: string = HOST_PLATFORM): ListedImage {
  const reference = parseReference(name);
  const { tree, document, source, resolved, id } = image;
  const stored = { tree, config: parseImageConfig(document, name), source, resolved: resolved ?? tree, name: formatFamiliar(reference), platform, document, id: id ?? idOf(document) };
  return putImage(store, namedKey(name, platform), stored);
}

/** Beginning of the refs of the image that a name like `app:1` means. @throws HdError IMAGE_REFERENCE */
export function namedKey(name: string, platform: string = HOST_PLATFORM): string {
  return imageKey({ kind: 'registry', reference: parseReference(name) }, { platform, projectDir: '/' });
}

/** The image that a name like `app:1` means here, if there is one. @throws HdError IMAGE_REFERENCE */
export function getNamedImage(store: Store, name: string, platform: string = HOST_PLATFORM): StoredImage | undefined {
  return readImage(store, namedKey(name, platform));
}

/** Has it a name like `app:1`? Other bases are called by their text. */
export function isNamed({ key, name, platform }: ListedImage): boolean {
  try {
    return key === namedKey(name, platform);
  } catch (error) {
    if (error instanceof HdError) return false;
    throw error;
  }
}

/** All images, by name. Those whose record is damaged are left out: `hd cas fsck` names them. */
export function listImages(store: Store): ListedImage[] {
  const keys = store.listRefs('image/').filter(({ name }) => name.endsWith('/image'));
  return keys.flatMap(({ name, ref }): ListedImage[] => {
    const key = name.slice(0, -'/image'.length);
    try {
      const image = readImage(store, key);
      return image === undefined ? [] : [{ ...image, key, addedMs: ref.atMs }];
    } catch (error) {
      if (error instanceof HdError) return [];
      throw error;
    }
  }).sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : a.platform < b.platform ? -1 : 1));
}

/**
 * The image that people mean: by its name, or the first four or more digits of its digest (`resolved` or tree).
 * @throws HdError IMAGE_UNKNOWN, IMAGE_AMBIGUOUS
 */
export function findListed(images: readonly ListedImage[], asked: string): ListedImage {
  const named = images.filter(({ name }) => name === asked || name === canonicalName(asked));
  const digits = asked.replace(/^sha256:/, '');
  const found = named.length > 0 || !/^[0-9a-f]{4,64}$/.test(digits) ? named : images.filter(({ resolved, tree }) => resolved.replace(/^sha256:/, '').startsWith(digits) || tree.startsWith(digits));
  const [image] = found;
  if (image === undefined) throw new HdError('IMAGE_UNKNOWN', `there is no image ${asked} here`, { hint: '`hd image ls` lists those that there are, `hd image pull` brings one' });
  if (found.some(({ tree }) => tree !== image.tree)) throw new HdError('IMAGE_AMBIGUOUS', `${asked} is ${found.map(({ name, platform }) => `${name} (${platform})`).join(', ')}`, { hint: 'give the name, or more digits' });
  return found.find(({ platform }) => platform === HOST_PLATFORM) ?? image;
}

/** Takes the name away. What nothing else needs goes with the next collection. */
export function removeImage(store: Store, key: string): void {
  for (const { name } of store.listRefs(`${key}/`)) store.deleteRef(name);
}

/** Puts an image where its name is looked up. @param chain trees of its layers, kept for other images on the same layers */
export function putImage(store: Store, key: string, image: StoredImage, chain: readonly ChainLink[] = []): ListedImage {
  const json = store.putBlob(Buffer.from(imageToJson(image)));
  const before = new Set(store.listRefs(`${key}/chain/`).map(({ name }) => name));
  for (const { chainId, tree } of chain) {
    const ref = `${key}/chain/${chainId.replace('sha256:', '')}`;
    store.setRef(ref, { kind: 'tree', digest: tree });
    before.delete(ref);
  }
  const previous = store.getRef(`${key}/tree`)?.target.digest;
  store.setRef(`${key}/tree`, { kind: 'tree', digest: image.tree });
  store.setRef(`${key}/image`, { kind: 'blob', digest: json });
  if (previous !== image.tree) for (const ref of before) store.deleteRef(ref);
  return { ...image, key, addedMs: store.getRef(`${key}/image`)?.atMs ?? Date.now() };
}

/** Trees of layers laid over each other, by the chain of the layers, of all images. */
export function knownChains(store: Store): Map<string, TreeDigest> {
  const refs = store.listRefs('image/').filter(({ name }) => name.includes('/chain/'));
  return new Map(refs.map(({ name, ref }) => [`sha256:${name.slice(name.lastIndexOf('/') + 1)}`, ref.target.digest as TreeDigest]));
}

/** Undefined: not here, or not whole. */
export function readImage(store: Store, key: string): StoredImage | undefined {
  const found = store.getRef(`${key}/image`);
  if (found === undefined) return undefined;
  const image: Image & Partial<StoredImage> = imageFromJson(store.getBlob(found.target.digest as BlobDigest).toString('utf8'));
  if (!store.hasTree(image.tree)) return undefined;
  // Records of the first version have neither name nor document: they are of this machine's platform.
  const platform = image.platform ?? HOST_PLATFORM;
  const document = image.document ?? documentOf(image.config, platform);
  return { ...image, name: image.name ?? familiarSource(image.source), platform, document, id: image.id ?? idOf(document) };
}

/** The same for the same document. */
export function idOf(document: ImageDocument): string {
  return `sha256:${sha256Hex(JSON.stringify(document))}`;
}

/** Beginning of the refs of an image: one for each source. Local files count with their size and time, so that a new archive is a new image. */
export function imageKey(base: Base, { platform, projectDir }: { platform: string; projectDir: string }): string {
  let local = '';
  if (base.kind === 'oci-dir') local = stamp(join(resolve(projectDir, base.path), 'index.json'));
  if (base.kind === 'docker-archive') local = stamp(resolve(projectDir, base.path));
  return `image/${hasher.hash(Buffer.from(JSON.stringify([base, platform, local]))).slice(0, 32)}`;
}

/** What a base is called in lists. */
export function nameOfBase(text: string): string {
  const base = parseBase(text);
  return base.kind === 'registry' ? formatFamiliar(base.reference) : text;
}

/** As lists have it; what is no name, as it is. */
export function canonicalName(asked: string): string {
  try {
    return formatFamiliar(parseReference(asked));
  } catch (error) {
    if (error instanceof HdError) return asked;
    throw error;
  }
}

function familiarSource(source: string): string {
  try {
    return nameOfBase(source);
  } catch (error) {
    if (error instanceof HdError) return source;
    throw error;
  }
}

function stamp(file: string): string {
  const stats = statSync(file, { bigint: true, throwIfNoEntry: false });
  return `${file} ${stats?.size ?? 0} ${stats?.mtimeNs ?? 0}`;
}
