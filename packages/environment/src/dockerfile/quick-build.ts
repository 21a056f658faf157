import { existsSync } from 'node:fs';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import type { HdEvent } from '../events.ts';
import type { Home } from '../home.ts';
import { getNamedImage } from '../named-images.ts';
import type { BuilderOptions } from './build-state.ts';
import { NEEDS_RUNNER } from './build-state.ts';
import { buildDockerfile } from './builder.ts';
import { nameImage } from './name-image.ts';
import type { DockerfileBuilt, DockerfileRequest } from './request.ts';

/** Is there an image of each name already? */
export function isHere({ tags, platform }: DockerfileRequest, home: Home): boolean {
  if (!existsSync(home.storeDir)) return false;
  using store = openStore(home.storeDir, { readOnly: true });
  return tags.every((tag) => getNamedImage(store, tag, platform) !== undefined);
}

/** Without what runs anything. */
type AtHand = Omit<BuilderOptions, 'request' | 'runner' | 'dry'>;

/** As `buildAtHand`, with the store and the action cache of `home`. */
export async function buildFromCache(request: DockerfileRequest, options: Omit<AtHand, 'store' | 'actions'>): Promise<DockerfileBuilt | undefined> {
  const { home } = options;
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  return await buildAtHand(request, { ...options, store, actions });
}

/** Builds in this process what nothing has to run or be fetched for. Undefined: something has to, and nothing was emitted. */
export async function buildAtHand(request: DockerfileRequest, { emit, ...options }: AtHand): Promise<DockerfileBuilt | undefined> {
  const events: HdEvent[] = [];
  try {
    const built = nameImage(options.store, request, await buildDockerfile({ ...options, request, emit: (event) => void events.push(event) }));
    for (const event of events) emit(event);
    return built;
  } catch (error) {
    if (error === NEEDS_RUNNER) return undefined;
    throw error;
  }
}
