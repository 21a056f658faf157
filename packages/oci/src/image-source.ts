import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HdError, toByteString, toText } from '@hyperdocker/base';
import { ArchiveFiles } from './archive-files.ts';
import { compareDigest, sha256Of } from './decompress.ts';
import { invalidImage, isObject, parseJson, parseJsonObject, parseManifest, selectPlatform } from './manifest.ts';
import type { Descriptor, Platform } from './manifest.ts';
import type { PartialDownloads } from './partial-downloads.ts';
import type { RegistryClient } from './registry.ts';
import { formatReference } from './reference.ts';
import type { Reference } from './reference.ts';

/** An image found but not yet unpacked. */
export interface FoundImage {
  /** The image's configuration, JSON. */
  config: Record<string, unknown>;
  /** `sha256:…` of it: what Docker calls the image's ID. */
  configDigest: string;
  /** What the source itself calls the image, with repository and tag. */
  names: string[];
  /** What its layout calls it, also where that is no full name. */
  label?: string;
  /** Digest of the manifest; absent in archives of the old form, which have none. */
  manifestDigest: string | undefined;
  layers: FoundLayer[];
  /** Fetched files are not needed any more. `keep`: somebody may want them another time. */
  release?(options: { keep: boolean }): void;
}

export interface FoundLayer {
  /** Of the file as it is stored, where the source names it. */
  digest: string | undefined;
  sizeBytes: number;
  /** A host file with the layer, compressed or not. May download it; call once. */
  fetch(): Promise<string>;
}

/** How deep indexes may nest. */
const INDEX_DEPTH_MAX = 4;

/** Downloads go to `partials`. */
export async function findInRegistry(client: RegistryClient, reference: Reference, platform: Platform, partials: PartialDownloads, onBytes: (digest: string, doneBytes: number, totalBytes: number) => void): Promise<FoundImage> {
  const image = formatReference(reference);
  const { tag: _, ...untagged } = reference;
  let fetched = await client.manifest(reference);
  for (let depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
    const manifest = parseManifest(fetched.bytes, image);
    if (manifest.kind === 'index') {
      fetched = await client.manifest({ ...untagged, digest: selectPlatform(manifest.manifests, platform, image).digest });
      continue;
    }
    const config = parseJsonObject(await client.document(reference, manifest.config), `the configuration of ${image}`);
    /** By digest: layers may be equal. */
    const files = new Map<string, { path: string; arrived: Promise<void> }>();
    const layers = manifest.layers.map((descriptor): FoundLayer => ({
      digest: undefined,
      sizeBytes: descriptor.size,
      async fetch() {
        const { digest, size } = descriptor;
        let file = files.get(digest);
        if (file === undefined) {
          const path = partials.take(digest);
          file = { path, arrived: client.download(reference, descriptor, path, (done) => onBytes(digest, done, size)) };
          files.set(digest, file);
        }
        await file.arrived;
        return file.path;
      },
    }));
    const release = ({ keep }: { keep: boolean }): void => {
      for (const { path } of files.values()) partials.give(path, { keep });
    };
    return { config, configDigest: manifest.config.digest, names: [], manifestDigest: fetched.digest, layers, release };
  }
  throw invalidImage(image, 'its indexes nest too deep');
}

/** An OCI image layout on disk: its images, or the one of `ref`, its `org.opencontainers.image.ref.name`. */
export function findInOciDir(directory: string, ref: string | undefined, platform: Platform, image: string): FoundImage[] {
  if (!existsSync(join(directory, 'index.json'))) {
    throw new HdError('IMAGE_NOT_FOUND', `${image}: there is no OCI image layout (no index.json)`, { hint: 'write one with `skopeo copy … oci:DIR` or `docker buildx build --output type=oci,tar=false,dest=DIR`' });
  }
  return findInLayout((path) => (existsSync(join(directory, path)) ? join(directory, path) : undefined), ref, platform, image);
}

/** The images that `docker save` or an OCI-archive exporter wrote, plain or compressed. The files are put into `directory`. */
export async function findInArchive(archive: string, platform: Platform, directory: string, image: string, signal: AbortSignal | undefined): Promise<FoundImage[]> {
  if (!existsSync(archive) || !statSync(archive).isFile()) throw new HdError('IMAGE_NOT_FOUND', `${image}: there is no such file`, { hint: 'write one with `docker save IMAGE -o FILE`' });
  const files = await ArchiveFiles.extract(archive, directory, image, signal);
  const find = (path: string) => files.find(toByteString(path));
  const list = find('manifest.json');
  if (list !== undefined) return findInSaved(list, find, image);
  if (find('index.json') !== undefined) return findInLayout(find, undefined, platform, image);
  throw invalidImage(image, 'it holds neither manifest.json nor index.json', 'the tar of a root file system becomes an image with `hd image import FILE NAME`');
}

type FindFile = (path: string) => string | undefined;

function findInSaved(list: string, find: FindFile, image: string): FoundImage[] {
  const entries = parseJson(readFileSync(list), `the manifest.json of ${image}`);
  if (!Array.isArray(entries) || entries.length === 0) throw invalidImage(image, 'its manifest.json is damaged');
  return entries.map((entry: unknown) => findSaved(entry, find, image));
}

function findSaved(entry: unknown, find: FindFile, image: string): FoundImage {
  if (!isObject(entry) || typeof entry['Config'] !== 'string' || !Array.isArray(entry['Layers'])) throw invalidImage(image, 'its manifest.json is damaged');
  const layers = entry['Layers'].map((path: unknown): FoundLayer => {
    const file = needFile(find, String(path), image);
    return { digest: undefined, sizeBytes: statSync(file).size, fetch: () => Promise.resolve(file) };
  });
  const bytes = readFileSync(needFile(find, entry['Config'], image));
  const config = parseJsonObject(bytes, `the configuration of ${image}`);
  const tags: unknown[] = Array.isArray(entry['RepoTags']) ? entry['RepoTags'] : [];
  return { config, configDigest: `sha256:${sha256Of(bytes)}`, names: tags.filter((tag) => typeof tag === 'string'), manifestDigest: undefined, layers };
}

function findInLayout(find: FindFile, ref: string | undefined, platform: Platform, image: string): FoundImage[] {
  const index = parseManifest(readFileSync(needFile(find, 'index.json', image)), image);
  if (index.kind !== 'index') throw invalidImage(image, 'its index.json is no index');
  return named(index.manifests, ref, image).map((manifests) => findManifest(manifests, find, platform, image));
}

function findManifest(manifests: Descriptor[], find: FindFile, platform: Platform, image: string): FoundImage {
  let candidates = manifests;
  const names = [...new Set(candidates.flatMap(namesOf))];
  const label = candidates.find(({ annotations }) => annotations[REF_NAME] !== undefined)?.annotations[REF_NAME];
  for (let depth = 0; depth < INDEX_DEPTH_MAX; depth++) {
    const chosen = selectPlatform(candidates, platform, image);
    const manifest = parseManifest(readBlob(find, chosen, image), image);
    if (manifest.kind === 'index') {
      candidates = manifest.manifests;
      continue;
    }
    const config = parseJsonObject(readBlob(find, manifest.config, image), `the configuration of ${image}`);
    const layers = manifest.layers.map((descriptor): FoundLayer => {
      const file = needFile(find, blobPath(descriptor), image);
      return { digest: descriptor.digest, sizeBytes: descriptor.size, fetch: () => Promise.resolve(file) };
    });
    return { config, configDigest: manifest.config.digest, names, ...(label === undefined ? {} : { label }), manifestDigest: chosen.digest, layers };
  }
  throw invalidImage(image, 'its indexes nest too deep');
}

export const REF_NAME = 'org.opencontainers.image.ref.name';
/** Docker's and containerd's, beside it. */
const FULL_NAME = 'io.containerd.image.name';

/** Only with repository and tag: a bare `v1` says no repository. */
function namesOf({ annotations }: Descriptor): string[] {
  return [annotations[FULL_NAME], annotations[REF_NAME]].filter((name) => name?.includes(':') === true).slice(0, 1) as string[];
}

/** The manifests of each name, or of `ref`. Where there are not several names, all of them are one image for several platforms. */
function named(manifests: Descriptor[], ref: string | undefined, image: string): Descriptor[][] {
  const names = [...new Set(manifests.flatMap(({ annotations }) => annotations[REF_NAME] ?? []))];
  if (ref === undefined) return names.length < 2 ? [manifests] : names.map((name) => manifests.filter(({ annotations }) => annotations[REF_NAME] === name));
  const found = manifests.filter(({ annotations }) => annotations[REF_NAME] === ref || annotations[REF_NAME]?.endsWith(`:${ref}`));
  if (found.length === 0) throw new HdError('IMAGE_NOT_FOUND', `${image}: there is no image named ${JSON.stringify(ref)}`, { hint: names.length > 0 ? `there are: ${names.join(', ')}` : 'leave the name out' });
  return [found];
}

function readBlob(find: FindFile, descriptor: Descriptor, image: string): Buffer {
  const bytes = readFileSync(needFile(find, blobPath(descriptor), image));
  compareDigest(`a document of ${image}`, descriptor.digest, sha256Of(bytes));
  return bytes;
}

/** In a layout. */
export function blobPath({ digest }: Pick<Descriptor, 'digest'>): string {
  return `blobs/${digest.replace(':', '/')}`;
}

function needFile(find: FindFile, path: string, image: string): string {
  const file = find(path);
  if (file === undefined) throw invalidImage(image, `the file ${toText(toByteString(path))} is missing in it`);
  return file;
}
