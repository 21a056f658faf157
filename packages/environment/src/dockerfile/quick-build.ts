import { existsSync } from 'node:fs';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import type { BuildClientOptions } from '../build-server.ts';
import type { HdEvent } from '../events.ts';
import type { Home } from '../home.ts';
import { getNamedImage } from '../named-images.ts';
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

/** Builds in this process what no command has to run for. Undefined: something has to run. */
export async function buildFromCache(request: DockerfileRequest, { home, env, emit, signal }: BuildClientOptions & { home: Home; env: NodeJS.ProcessEnv }): Promise<DockerfileBuilt | undefined> {
  const events: HdEvent[] = [];
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  try {
    const built = nameImage(store, request, await buildDockerfile({ home, store, actions, request, env, signal, emit: (event) => void events.push(event) }));
    for (const event of events) emit(event);
    return built;
  } catch (error) {
    if (error === NEEDS_RUNNER) return undefined;
    throw error;
  }
}
