import { spawnSync } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { test } from 'node:test';

const INSIDE = 'HD_TEST_MOUNT_NAMESPACE';
/** The second run ends with the first, also when that is killed. */
const NAMESPACE = ['setpriv', '--pdeathsig', 'KILL', 'unshare', '--mount', '--propagation', 'private'];

/**
 * Runs the calling test file once more, in a mount namespace of its own, so that nothing is ever mounted on the host and nothing stays
 * mounted. True in that second run: declare the tests then. They report as if there had been one run.
 */
export function inMountNamespace(file: string): boolean {
  if (process.env[INSIDE] === file) return true;
  const problem = mountProblem();
  if (problem === undefined) {
    const [command = '', ...args] = [...NAMESPACE, process.execPath, ...process.execArgv, file];
    const run = spawnSync(command, args, { stdio: 'inherit', env: { ...process.env, [INSIDE]: file } });
    process.exitCode = run.status ?? 1;
  } else {
    test(file.split('/').at(-1) ?? file, { skip: problem }, () => {});
  }
  return false;
}

/** Why nothing can be mounted here. */
export function mountProblem(): string | undefined {
  if (process.getuid?.() !== 0) return 'mounting needs root';
  try {
    accessSync('/dev/fuse', constants.R_OK | constants.W_OK);
  } catch {
    return '/dev/fuse cannot be opened';
  }
  const [command = '', ...args] = [...NAMESPACE, 'true'];
  const tried = spawnSync(command, args, { encoding: 'utf8' });
  return tried.status === 0 ? undefined : `no mount namespace of our own: ${tried.stderr?.trim() || tried.error?.message}`;
}
