import { spawnSync } from 'node:child_process';
import { existsSync, openSync, closeSync, readFileSync, readdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HdError, findProgram } from '@hyperdocker/base';
import { requireUserNamespace } from './user-namespace.ts';

export interface SystemNeeds {
  /** Containers are going to run. */
  runtime: boolean;
  /** A Debian root may have to be made. */
  mmdebstrap: boolean;
}

export interface EnsureOptions {
  needs: SystemNeeds;
  /** Otherwise what is missing is an error that says how to install it. */
  allowInstall: boolean;
  onMessage: (message: string) => void;
  env?: NodeJS.ProcessEnv;
  uid?: number;
}

/**
 * Makes sure that the programs which `hd` runs are there, and installs what is missing where it may.
 * @throws HdError NO_USER_NAMESPACE, MISSING_PACKAGES, INSTALL_FAILED
 */
export async function ensureSystemPackages(options: EnsureOptions): Promise<void> {
  const { env = process.env, uid = process.getuid?.() ?? 0 } = options;
  const isRoot = uid === 0;
  if (!isRoot) requireUserNamespace(env);
  if (isRoot && !existsSync('/dev/fuse') && env['HD_FUSE'] !== 'off') loadFuse();
  const packages = missingPackages(options.needs, env);
  if (packages.length === 0) return;
  const command = `apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (!isRoot || !options.allowInstall || findProgram('apt-get', env['PATH']) === undefined) {
    throw new HdError('MISSING_PACKAGES', `missing system packages: ${packages.join(', ')}`, { hint: `install them${isRoot ? '' : ', as root'}: ${command}`, details: { packages } });
  }
  options.onMessage(`Installing system packages: ${packages.join(', ')}`);
  install(packages, command, env);
}

/** Debian packages for the programs that are not on PATH. `fuse3` never comes alone: mounting does not call it. */
export function missingPackages(needs: SystemNeeds, env: NodeJS.ProcessEnv = process.env): string[] {
  const missing: string[] = [];
  const runtime = env['HD_RUNTIME'];
  if (needs.runtime && (runtime === undefined || runtime === '') && ['runc', 'crun', 'youki'].every((name) => findProgram(name, env['PATH']) === undefined)) missing.push('runc');
  if (needs.runtime && ['unshare', 'nsenter'].some((name) => findProgram(name, env['PATH']) === undefined)) missing.push('util-linux');
  if (needs.runtime && findProgram('mount', env['PATH']) === undefined) missing.push('mount');
  if (needs.mmdebstrap && findProgram('mmdebstrap', env['PATH']) === undefined) missing.push('mmdebstrap');
  if (missing.length > 0 && findProgram('fusermount3', env['PATH']) === undefined) missing.push('fuse3');
  return missing;
}

/** Where FUSE is a module of the kernel, it may only be waiting to be loaded. Failure shows as a missing device, which has its own message. */
function loadFuse(): void {
  spawnSync('modprobe', ['fuse'], { stdio: 'ignore' });
}

function install(packages: readonly string[], command: string, env: NodeJS.ProcessEnv): void {
  const log = join(tmpdir(), `hd-apt-${process.pid}.log`);
  const fd = openSync(log, 'w', 0o600);
  const apt = (...args: string[]): boolean => spawnSync('apt-get', args, { stdio: ['ignore', fd, fd], env: { ...env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C.UTF-8' } }).status === 0;
  const attempt = (): boolean => apt('install', '-y', '--no-install-recommends', ...packages);
  try {
    const done = hasLists() ? attempt() || (apt('update') && attempt()) : apt('update') && attempt();
    if (done) return;
  } finally {
    closeSync(fd);
  }
  const errors = readFileSync(log, 'utf8').split('\n').filter((line) => /^(E:|Err:)/.test(line)).slice(-5);
  throw new HdError('INSTALL_FAILED', [`cannot install ${packages.join(', ')}`, ...errors].join('\n'), { hint: `try it by hand: ${command} (all of its output is in ${log})` });
}

function hasLists(): boolean {
  const dir = '/var/lib/apt/lists';
  return existsSync(dir) && readdirSync(dir).some((name) => name.includes('_Packages'));
}
