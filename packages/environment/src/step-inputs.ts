import { existsSync } from 'node:fs';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, toText } from '@hyperdocker/base';
import { lookupPath, openStore } from '@hyperdocker/cas';
import { Asked, nodeLinks, openActionCache } from '@hyperdocker/engine';
import { readBuildRecord } from './build-record.ts';
import type { EnvPaths, Home, Project } from './home.ts';
import { envRef } from './home.ts';
import { inTree } from './step-runner.ts';

/** A step of the last build, as another builder would have to run it. */
export interface StepInputs {
  command: string;
  /** Absolute, inside. */
  workdir: string;
  env: Readonly<Record<string, string>>;
  cacheDirs: readonly string[];
  secrets: boolean;
  /** Files of the project that it read, relative to the project, sorted. */
  reads: string[];
}

/** What the steps of the last build did, and which of the project's files each of them read. @throws HdError NOT_BUILT */
export function stepInputs({ home, project, paths }: { home: Home; project: Project; paths: EnvPaths }): { workdir: string; steps: StepInputs[] } {
  const record = readBuildRecord(paths.buildRecord);
  if (record === undefined || !existsSync(home.storeDir)) throw new HdError('NOT_BUILT', `${project.dir} has not been built yet`, { hint: 'run `hd build` first' });
  using store = openStore(home.storeDir, { nodeLinks, readOnly: true });
  using actions = openActionCache(home.actionsFile, store);
  const source = store.getRef(envRef(paths.id, 'source'))?.target.digest as TreeDigest | undefined;
  const dir = inTree(record.workdir);
  const prefix = dir === '' ? '' : `${dir}/`;
  const steps = record.steps.map(({ definition, key, input }): StepInputs => {
    const asked = input === undefined ? undefined : actions.recorded(key, input)?.paths;
    const reads = [...(asked ?? [])].flatMap(([path, mask]) => {
      if ((mask & Asked.content) === 0 || !path.startsWith(prefix) || source === undefined) return [];
      const inProject = path.slice(prefix.length) as ByteString;
      return lookupPath(store, source, inProject)?.kind === 'file' ? [toText(inProject)] : [];
    });
    return { command: definition.command, workdir: definition.workdir, env: definition.env, cacheDirs: definition.cacheDirs, secrets: definition.secrets !== undefined, reads: reads.sort() };
  });
  return { workdir: record.workdir, steps };
}
