import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert } from '@hyperdocker/base';
import type { TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { sha256Of } from './decompress.ts';
import type { ImageDocument } from './image-config.ts';
import type { LayerBlob } from './layer-blob.ts';
import { LAYER_TYPE, packLayer } from './layer-blob.ts';

/** What an image is made of. */
export interface ImageParts {
  /** Deltas, lowest first. */
  layers: readonly TreeDigest[];
  /** All of the image's configuration but `rootfs` and `history`, which are those of the layers as they are written. */
  document: ImageDocument;
  /** When it was made, where the document does not say. Fixed, so that equal images are equal to the byte. */
  createdMs: number;
}

/** A blob or manifest of an image: what descriptors say. */
export interface Content { mediaType: string; digest: string; size: number }
export interface Document extends Content { bytes: Buffer }

/** Where an image goes: a layout, an archive, a registry. */
export interface ImageTarget {
  /** Is it there already? Then it is not made. */
  has(content: Content): Promise<boolean>;
  /** The file is the target's for the time of the call. */
  putFile(content: Content, path: string): Promise<void>;
  putDocument(document: Document): Promise<void>;
  /** All that it names is there. The image is there when this is done, and not before. */
  finish(manifest: Document, config: Document, layers: readonly Content[]): Promise<void>;
}

/** Remembers what layers came to, so that one that the target has is not made again. A cache. */
export interface LayerMemory {
  get(tree: TreeDigest): LayerBlob | undefined;
  set(tree: TreeDigest, blob: LayerBlob): void;
}

export interface ExportOptions {
  memory?: LayerMemory;
  /** Layers wait here. Default: the system's. */
  tempDir?: string;
  signal?: AbortSignal;
  onLayer?: (layer: ExportedLayer, nth: number, layers: number) => void;
}

export interface ExportedLayer extends Content { present: boolean }

export interface ExportedImage {
  /** Of the manifest. */
  digest: string;
  layers: ExportedLayer[];
}

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const CONFIG_TYPE = 'application/vnd.oci.image.config.v1+json';
const PARALLEL = 3;

/** Writes an image. The caller holds a lease. @throws HdError LAYER_INVALID, and what the target throws */
export async function exportImage(store: Store, parts: ImageParts, target: ImageTarget, options: ExportOptions = {}): Promise<ExportedImage> {
  const directory = mkdtempSync(join(options.tempDir ?? tmpdir(), 'hd-export-'));
  try {
    const blobs: { blob: LayerBlob; layer: ExportedLayer }[] = [];
    let next = 0;
    let told = 0;
    const worker = async (): Promise<void> => {
      for (let nth = next++; nth < parts.layers.length; nth = next++) {
        const tree = parts.layers[nth];
        assert(tree !== undefined, 'an index of the list');
        const done = await putLayer(store, tree, target, join(directory, String(nth)), options);
        blobs[nth] = done;
        options.onLayer?.(done.layer, ++told, parts.layers.length);
      }
    };
    await allOrFirstError(Array.from({ length: PARALLEL }, worker));
    const layers = blobs.map(({ layer }) => layer);
    const config = document(CONFIG_TYPE, configDocument(parts, blobs.map(({ blob }) => blob.diffId)));
    const manifest = document(MANIFEST_TYPE, {
      schemaVersion: 2, mediaType: MANIFEST_TYPE, config: descriptor(config), layers: layers.map(descriptor),
    });
    await target.putDocument(config);
    await target.finish(manifest, config, layers);
    return { digest: manifest.digest, layers };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function putLayer(store: Store, tree: TreeDigest, target: ImageTarget, path: string, { memory, signal }: ExportOptions): Promise<{ blob: LayerBlob; layer: ExportedLayer }> {
  signal?.throwIfAborted();
  const known = memory?.get(tree);
  if (known !== undefined && (await target.has(contentOf(known)))) return { blob: known, layer: { ...contentOf(known), present: true } };
  const blob = await packLayer(store, tree, path, signal);
  memory?.set(tree, blob);
  const content = contentOf(blob);
  const present = await target.has(content);
  if (!present) await target.putFile(content, path);
  rmSync(path);
  return { blob, layer: { ...content, present } };
}

function contentOf({ digest, sizeBytes }: LayerBlob): Content {
  return { mediaType: LAYER_TYPE, digest, size: sizeBytes };
}

/** No worker is left behind when one has failed. */
async function allOrFirstError(work: Promise<void>[]): Promise<void> {
  const failed = (await Promise.allSettled(work)).find((result) => result.status === 'rejected');
  if (failed !== undefined) throw failed.reason;
}

/** An OCI image configuration. */
function configDocument({ document: given, createdMs, layers }: ImageParts, diffIds: readonly string[]): object {
  const { created = new Date(createdMs).toISOString(), rootfs: _, history: __, ...rest } = given;
  return { created, ...rest, rootfs: { type: 'layers', diff_ids: diffIds }, history: layers.map(() => ({ created, created_by: 'hd export' })) };
}

function document(mediaType: string, value: object): Document {
  const bytes = Buffer.from(JSON.stringify(value));
  return { mediaType, digest: `sha256:${sha256Of(bytes)}`, size: bytes.length, bytes };
}

export function descriptor({ mediaType, digest, size }: Content): Content {
  return { mediaType, digest, size };
}
