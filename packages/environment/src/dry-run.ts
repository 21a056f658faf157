import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { fuseProblem } from '@hyperdocker/mount';
import { readBuildRecord } from './build-record.ts';
import type { EnvPaths, Home, Project } from './home.ts';
import { findImage } from './images.ts';
import { Ingest } from './ingest.ts';
import { HOST_PLATFORM, makePlan } from './plan.ts';
import type { Prediction } from './predict.ts';
import { predict } from './predict.ts';
import { projectFilter } from './project-filter.ts';
import { specOrThrow } from './spec-file.ts';

/** `imageMissing`: the base image is not here, so that nothing is known of the steps but that all of them would run. */
export type DryRun = { kind: 'steps'; predictions: Prediction[] } | { kind: 'image missing'; base: string; steps: number };

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
  const image = findImage(spec.environment.base, { store, projectDir: project.dir, platform: HOST_PLATFORM });
  if (image === undefined) return { kind: 'image missing', base: spec.environment.base, steps: spec.dependencies.length + spec.build.steps.length };
  const plan = makePlan(store, { spec, image, projectDir: project.dir, platform: HOST_PLATFORM, base: spec.environment.base });
  const scratch = mkdtempSync(join(home.tempDir, 'dry-run-'));
  try {
    const statCacheFile = join(scratch, 'stat');
    copyIfThere(paths.statCache, statCacheFile);
    const ingest = new Ingest({ store, projectDir: project.dir, filter: projectFilter({ home, project, env: options.env }, spec), statCacheFile, owner: { uid: plan.user.uid, gid: plan.user.gid } });
    const { projected } = ingest.scan();
    const predictions = predict({ store, plan, projected, envId: paths.id, traced: fuseProblem() === undefined, actions, noCache: options.noCache, previous: readBuildRecord(paths.buildRecord) });
    return { kind: 'steps', predictions };
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
