import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { fuseProblem } from '@hyperdocker/mount';
import { readBuildRecord } from '../build-record.ts';
import type { DryRun } from '../dry-run.ts';
import type { Home } from '../home.ts';
import { recordFileOf } from './build-files.ts';
import { buildDockerfile } from './builder.ts';
import type { DryBuild } from './foresee-command.ts';
import type { DockerfileRequest } from './request.ts';
import { requireContext } from './request.ts';

/**
 * Which RUN of a Dockerfile would run now. Runs and fetches nothing, and gives no image a name.
 * @throws HdError DOCKERFILE_INVALID, STAGE_UNKNOWN, COPY_FAILED, and those of contexts and secrets
 */
export async function dryBuild(request: DockerfileRequest, { home, env, signal }: { home: Home; env: NodeJS.ProcessEnv; signal: AbortSignal }): Promise<DryRun> {
  requireContext(request.contextDir);
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  const dry: DryBuild = { store, actions, noCache: request.noCache, previous: readBuildRecord(recordFileOf(home, request)), traced: fuseProblem() === undefined, predictions: [], missing: new Set() };
  await buildDockerfile({ home, store, actions, request, env, signal, emit: () => {}, dry });
  const predictions = dry.predictions.sort((a, b) => a.step.index - b.step.index);
  return { predictions, ...(dry.missing.size === 0 ? {} : { imageMissing: [...dry.missing].join(', ') }) };
}
