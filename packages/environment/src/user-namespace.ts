import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { userInfo } from 'node:os';
import { HdError, isErrno, findProgram } from '@hyperdocker/base';

/**
 * How an ordinary user runs environments: the supervisor is root of a user namespace in which the user's own id is root's, and the user's subordinate ids are all others. What it makes belongs to
 * these ids, so that it can be looked at and removed only from such a namespace.
 */
const MAP = ['--user', '--map-root-user', '--map-users=auto', '--map-groups=auto'];

export function isOrdinaryUser(): boolean {
  return process.getuid?.() !== 0;
}

/** Put before `unshare`'s other options, so that an ordinary user may use them. */
export function unshareOptions(): readonly string[] {
  return isOrdinaryUser() ? MAP : [];
}

/** Runs the command that follows in a mount namespace of its own, where an ordinary user is root: whatever it mounts is seen by nobody else and gone with its processes. */
export function newMounts(): [command: string, ...args: string[]] {
  return ['unshare', ...unshareOptions(), '--mount', '--propagation', 'slave'];
}

/** Enters the mount namespace of a process, with the rights that it has there. `nsenter` takes more options, or `--` and a command. */
export function enterMounts(pid: number, { ordinary }: { ordinary: boolean }): [command: string, ...args: string[]] {
  return ['nsenter', '--target', String(pid), ...(ordinary ? ['--user'] : []), '--mount'];
}

/** Removes what was made in such a namespace, though it belongs to subordinate ids, or nobody may read it. */
export function removeTrees(paths: readonly string[]): void {
  try {
    for (const path of paths) rmSync(path, { recursive: true, force: true });
  } catch (error) {
    if (!isOrdinaryUser() || !isErrno(error, 'EACCES', 'EPERM')) throw error;
    spawnSync('unshare', [...MAP, 'rm', '-rf', '--', ...paths], { stdio: 'ignore' });
  }
}

export interface NamespaceProblem {
  message: string;
  fix: string;
}

/** Fewer, and the users of the usual images have no place. */
const ENOUGH_IDS = 65_536;

/** Why an ordinary user cannot run environments here; undefined where nothing is in the way. */
export function namespaceProblem(env: NodeJS.ProcessEnv = process.env): NamespaceProblem | undefined {
  for (const program of ['newuidmap', 'newgidmap']) {
    if (findProgram(program, env['PATH']) === undefined) return { message: `${program} is not installed`, fix: 'apt-get install uidmap' };
  }
  const { username, uid } = userInfo();
  for (const file of ['/etc/subuid', '/etc/subgid']) {
    const count = subordinateIds(file, username, uid);
    if (count < ENOUGH_IDS) return { message: `${count === 0 ? 'no' : `only ${count}`} subordinate ids for ${username} in ${file}`, fix: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 ${username} (with a range that nobody else has)` };
  }
  for (const [file, forbidding, fix] of SWITCHES) {
    if (readSwitch(file) === forbidding) return { message: `${file} is ${forbidding}, which forbids user namespaces`, fix };
  }
  const trial = spawnSync('unshare', [...MAP, '--mount', 'true'], { encoding: 'utf8' });
  if (trial.status === 0) return undefined;
  const reason = trial.error?.message ?? ((trial.stderr ?? '').trim().split('\n').at(-1) || `it ended with ${trial.status ?? trial.signal}`);
  return { message: `no user namespace can be made: ${reason}`, fix: /unrecognized|invalid option|unknown/i.test(reason) ? 'util-linux 2.38 or newer is needed' : 'allow user namespaces on this machine, or run as root' };
}

/** @throws HdError NO_USER_NAMESPACE */
export function requireUserNamespace(env: NodeJS.ProcessEnv): void {
  const problem = namespaceProblem(env);
  if (problem !== undefined) throw new HdError('NO_USER_NAMESPACE', `an ordinary user needs a user namespace, and ${problem.message}`, { hint: `${problem.fix}; or run hd as root` });
}

const SWITCHES: [file: string, forbidding: string, fix: string][] = [
  ['/proc/sys/kernel/unprivileged_userns_clone', '0', 'sysctl kernel.unprivileged_userns_clone=1'],
  ['/proc/sys/user/max_user_namespaces', '0', 'sysctl user.max_user_namespaces=10000'],
  ['/proc/sys/kernel/apparmor_restrict_unprivileged_userns', '1', 'sysctl kernel.apparmor_restrict_unprivileged_userns=0'],
];

function readSwitch(file: string): string | undefined {
  return existsSync(file) ? readFileSync(file, 'utf8').trim() : undefined;
}

/** Lines of `name-or-number:first:count`. */
function subordinateIds(file: string, name: string, uid: number): number {
  if (!existsSync(file)) return 0;
  const lines = readFileSync(file, 'utf8').split('\n').map((line) => line.trim().split(':'));
  return lines.reduce((sum, [owner, , count]) => (owner === name || owner === String(uid) ? sum + Number(count ?? 0) : sum), 0);
}
