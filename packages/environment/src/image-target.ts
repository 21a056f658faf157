import { join } from 'node:path';
import type { TreeDigest } from '@hyperdocker/base';
import { isDigest } from '@hyperdocker/base';
import type { ImageTarget, LayerBlob, LayerMemory } from '@hyperdocker/oci';
import { ArchiveTarget, LayoutTarget, RegistryClient, RegistryTarget, parseReference } from '@hyperdocker/oci';
import type { Home } from './home.ts';
import { readJson, writeJson } from './json-file.ts';
import { registryConfig } from './registries.ts';

/** Where an image is written. `name`: what `docker load` calls the image, or the layout's index. */
export type ImageDestination =
  | { kind: 'oci'; dir: string; name?: string }
  | { kind: 'archive'; file: string; name?: string }
  | { kind: 'push'; reference: string };

/** @throws HdError EXPORT_TARGET, EXPORT_WRITE, IMAGE_REFERENCE */
export function openTarget(to: ImageDestination, home: Home, signal: AbortSignal | undefined): { target: ImageTarget } & Disposable {
  switch (to.kind) {
    case 'oci':
      return { target: new LayoutTarget(to.dir, to.name), [Symbol.dispose]: () => {} };
    case 'archive': {
      const target = new ArchiveTarget(to.file, to.name);
      return { target, [Symbol.dispose]: () => target[Symbol.dispose]() };
    }
    case 'push':
      return { target: new RegistryTarget(new RegistryClient({ config: registryConfig(home), signal }), parseReference(to.reference)), [Symbol.dispose]: () => {} };
  }
}

/** `layers.json` in HD_HOME: what layers came to, compressed. A cache, written at dispose. */
export class LayerFile implements LayerMemory, Disposable {
  readonly #file: string;
  readonly #blobs: Map<string, LayerBlob>;
  #changed = false;

  constructor(home: Home) {
    this.#file = join(home.dir, 'layers.json');
    const read = readJson(this.#file);
    this.#blobs = new Map(isLayerFile(read) ? Object.entries(read.layers) : []);
  }

  get(tree: TreeDigest): LayerBlob | undefined {
    return this.#blobs.get(tree);
  }

  set(tree: TreeDigest, blob: LayerBlob): void {
    this.#blobs.delete(tree);
    this.#blobs.set(tree, blob);
    this.#changed = true;
  }

  [Symbol.dispose](): void {
    if (!this.#changed) return;
    writeJson(this.#file, { version: LAYERS_VERSION, layers: Object.fromEntries([...this.#blobs].slice(-MAX_LAYERS_KNOWN)) });
  }
}

/** Another way to pack a layer is another version. */
const LAYERS_VERSION = 1;
const MAX_LAYERS_KNOWN = 5_000;

function isLayerFile(value: unknown): value is { layers: Record<string, LayerBlob> } {
  if (typeof value !== 'object' || value === null) return false;
  const { version, layers } = value as { version?: unknown; layers?: unknown };
  return version === LAYERS_VERSION && typeof layers === 'object' && layers !== null && Object.entries(layers).every(([tree, blob]) => isDigest(tree) && typeof (blob as LayerBlob).digest === 'string' && typeof (blob as LayerBlob).diffId === 'string' && Number.isSafeInteger((blob as LayerBlob).sizeBytes));
}
