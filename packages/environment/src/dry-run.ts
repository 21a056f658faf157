import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '@hyperdocker/base';
import { emptyTree, openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { fuseProblem } from '@hyperdocker/mount';
import type { Image } from '@hyperdocker/oci';
import { EMPTY_CONFIG } from '@hyperdocker/oci';
import { readBuildRecord } from './build-record.ts';
import type { EnvPaths, Home, Project } from './home.ts';
import { findImage } from './images.ts';
import { Ingest } from './ingest.ts';
import type { Plan } from './plan.ts';
import { makePlan } from './plan.ts';
import { HOST_PLATFORM } from './platform.ts';
import type { Prediction } from './predict.ts';
import { predict } from './predict.ts';
import { projectFilter } from './project-filter.ts';
import { specOrThrow } from './spec-file.ts';

export interface DryRun {
  predictions: Prediction[];
  /** The base image is not here: it would be fetched first, and all steps would run. */
  imageMissing?: string;
}

/**
 * What a build would do now. Runs, fetches and changes nothing, and may be asked while the environment is up.
 * @throws HdError SPEC_INVALID, PROJECT_UNREADABLE
 */
export function dryRun(place: { home: Home; project: Project; paths: EnvPaths }, options: { noCache: boolean; env: NodeJS.ProcessEnv }): DryRun {
  const { home, project, paths } = place;
  const { spec } = specOrThrow(project);
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  using _lease = store.lease(`hd build --dry-run ${paths.id}`);
  const { base } = spec.environment;
  const planOn = (image: Image): Plan => makePlan(store, { spec, image, projectDir: project.dir, platform: HOST_PLATFORM, base });
  const image = findImage(base, { store, projectDir: project.dir, platform: HOST_PLATFORM });
  if (image === undefined) {
    const { steps } = planOn({ tree: emptyTree(store), source: base, resolved: '', config: EMPTY_CONFIG });
    return { predictions: steps.map(({ id }) => ({ step: id, outcome: 'run', reason: { why: 'never-ran' } })), imageMissing: base };
  }
  const plan = planOn(image);
  const scratch = mkdtempSync(join(home.tempDir, 'dry-run-'));
  try {
    const statCacheFile = join(scratch, 'stat');
    copyIfThere(paths.statCache, statCacheFile);
    const ingest = new Ingest({ store, projectDir: project.dir, filter: projectFilter({ home, project, env: options.env }, spec), statCacheFile, owner: plan.owner });
    const { projected } = ingest.scan();
    return { predictions: predict({ store, plan, projected, envId: paths.id, traced: fuseProblem() === undefined, actions, noCache: options.noCache, previous: readBuildRecord(paths.buildRecord) }) };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

function copyIfThere(from: string, to: string): void {
  try {
    copyFileSync(from, to);
  } catch (error) {
    if (!isErrno(error, 'ENOENT')) throw error;
  }
}
