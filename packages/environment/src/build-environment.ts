import type { Store } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import type { OciRuntime } from '@hyperdocker/sandbox';
import { OTHER_BUILD, claimBuild } from './claim.ts';
import type { ServedFiles } from './environment-builds.ts';
import { EnvironmentBuilds } from './environment-builds.ts';
import type { Emit } from './events.ts';
import type { EnvPaths, Home } from './home.ts';
import { envPaths, findProject } from './home.ts';
import { noteUse } from './known-environments.ts';
import { hostPassthrough } from './passthrough.ts';
import type { SpecText } from './spec-text.ts';
import { StoreLimit } from './store-limit.ts';

export interface EnvironmentBuild {
  home: Home;
  projectDir: string;
  /** The project's hd.toml. */
  file: SpecText;
  store: Store;
  actions: ActionCache;
  runtime: OciRuntime;
  files: ServedFiles;
  /** Where steps are while they run: not the environment's own places, which may be those of files that wait for a supervisor. */
  scratch: Pick<EnvPaths, 'stepsDir' | 'runtimeRoot' | 'containerPrefix'>;
  hostEnv: NodeJS.ProcessEnv;
  refreshImage: boolean;
  noCache: boolean;
  emit: Emit;
  /** Ends what is under way. */
  signal: AbortSignal;
}

/**
 * Builds an environment that does not run, one build after the other.
 * @returns the digest of its root
 * @throws HdError ALREADY_RUNNING where it has a supervisor, which builds it by itself; those of the build; what the signal is aborted with
 */
export async function buildEnvironment({ projectDir, file, scratch, noCache, ...options }: EnvironmentBuild): Promise<string> {
  const { home, hostEnv, emit, signal } = options;
  const project = findProject(projectDir);
  const { stepsDir, runtimeRoot, containerPrefix } = scratch;
  const paths = { ...envPaths(home, project), stepsDir, runtimeRoot, containerPrefix };
  await using _claim = await claimBuild(paths, { signal, besideSupervisor: 'refuse', onWait: () => emit({ type: 'warning', code: 'BUILD_WAITS', message: OTHER_BUILD }) });
  using builds = new EnvironmentBuilds({ ...options, project, paths, passthrough: hostPassthrough(hostEnv) });
  const { root } = await builds.make(file, { noCache });
  await new StoreLimit({ home, env: hostEnv, emit, signal }).keep();
  noteUse(paths, { project: project.dir });
  return root;
}
