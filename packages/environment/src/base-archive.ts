import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import { ArchiveTarget, documentOf, exportImage, planLayers } from '@hyperdocker/oci';
import type { Emit } from './events.ts';
import type { Home } from './home.ts';
import { resolveImage } from './images.ts';
import { HOST_PLATFORM } from './platform.ts';
import { WriteLease } from './write-lease.ts';

export interface BaseArchiveOptions {
  /** As `base` in hd.toml. */
  base: string;
  /** Where its relative paths start. */
  projectDir: string;
  /** Where the archive goes, and what its image is called. */
  file: string;
  name: string;
  emit: Emit;
  signal?: AbortSignal;
}

/** A base image as an archive for `docker load` and for `docker-archive:`. It is fetched first, for this home, where it is not here yet. @throws HdError as `resolveImage` and `exportEnvironment` */
export async function exportBase(home: Home, { base, projectDir, file, name, emit, signal }: BaseArchiveOptions): Promise<void> {
  using store = openStore(home.storeDir, { nodeLinks });
  using lease = new WriteLease(store, 'hd demo');
  const given = signal === undefined ? {} : { signal };
  const image = await resolveImage(base, { home, store, lease, projectDir, platform: HOST_PLATFORM, refresh: false, emit, ...given });
  mkdirSync(dirname(file), { recursive: true });
  using target = new ArchiveTarget(file, name);
  await exportImage(store, { layers: planLayers(store, image.tree, image.tree), document: documentOf(image.config, HOST_PLATFORM), createdMs: 0 }, target, { tempDir: home.tempDir, ...given });
}
