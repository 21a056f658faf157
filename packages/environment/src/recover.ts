import { rmSync } from 'node:fs';
import { OciRuntime, endHelpersOf } from '@hyperdocker/sandbox';
import type { EnvPaths } from './home.ts';
import type { SupervisorState } from './state-file.ts';
import { removeState } from './state-file.ts';

/**
 * Cleans up after a supervisor that was killed. Its containers are ended by their guards and its mounts went with its mount
 * namespace; this takes what is left when the guards were killed as well.
 */
export async function recover(paths: EnvPaths, state: SupervisorState): Promise<void> {
  const runtime = new OciRuntime({ path: state.runtime, root: state.runtimeRoot });
  for (const { id } of await runtime.list()) await runtime.delete(id, { force: true });
  runtime.close();
  endHelpersOf(state.pid);
  // What was mounted below was mounted in another namespace: here these are plain directories.
  for (const dir of [paths.liveDir, paths.stepsDir, paths.bundlesDir, paths.networkDir]) rmSync(dir, { recursive: true, force: true });
  rmSync(paths.socket, { force: true });
  removeState(paths.stateFile);
}

