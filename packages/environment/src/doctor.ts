import { spawnSync } from 'node:child_process';
import { closeSync, existsSync, mkdirSync, mkdtempSync, openSync, readFileSync, realpathSync, statfsSync } from 'node:fs';
import { release } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS, describeError, findProgram, findPrograms } from '@hyperdocker/base';
import { fuseProblem } from '@hyperdocker/mount';
import { cgroupMode, probeRuntimes } from '@hyperdocker/sandbox';
import { configuredWays } from './environment-network.ts';
import type { Home } from './home.ts';
import { hostPassthrough } from './passthrough.ts';
import type { NetworkTrial } from './trial-network-main.ts';
import { isOrdinaryUser, namespaceProblem, removeTrees, unshareOptions } from './user-namespace.ts';

export interface DoctorCheck {
  /** Stable, for programs. */
  id: string;
  /** `warn`: something works less well, or not everything will. `fail`: no environment can run. */
  status: 'ok' | 'warn' | 'fail';
  title: string;
  detail: string;
  /** What to do about it. */
  fix?: string;
}
export interface DoctorReport { checks: DoctorCheck[] }

type Finding = Omit<DoctorCheck, 'id' | 'title'>;
interface Machine { home: Home; env: NodeJS.ProcessEnv }

const CHECKS: [id: string, title: string, check: (machine: Machine) => Finding][] = [
  ['kernel', 'Kernel', kernel],
  ['node', 'Node.js', node],
  ['user', 'User', user],
  ['user-namespaces', 'User namespaces', userNamespaces],
  ['fuse', 'FUSE', fuse],
  ['overlay', 'Overlay file system', overlay],
  ['runtime', 'Container runtime', runtime],
  ['cgroups', 'Control groups', cgroups],
  ['mmdebstrap', 'mmdebstrap', mmdebstrap],
  ['apt-get', 'apt-get', aptGet],
  ['disk', 'Disk space', disk],
  ['inotify', 'File watching', inotify],
  ['private-network', 'Private networks', privateNetwork],
  ['network', 'Proxies and certificates', network],
  ['name', 'The name hd', shadowedName],
];

/** Looks at what this machine offers, by trying it where that leaves no trace. */
export async function doctor(home: Home, options: { env?: NodeJS.ProcessEnv } = {}): Promise<DoctorReport> {
  const machine = { home, env: options.env ?? process.env };
  return { checks: CHECKS.map(([id, title, check]) => ({ id, title, ...attempt(() => check(machine)) })) };
}

/** A check that cannot be made is a finding as well. */
function attempt(check: () => Finding): Finding {
  try {
    return check();
  } catch (error) {
    return { status: 'warn', detail: `cannot tell: ${describeError(error)}` };
  }
}

function kernel(): Finding {
  const [major = 0, minor = 0] = release().split('.').map((part) => Number.parseInt(part, 10));
  if (process.platform !== 'linux') return { status: 'fail', detail: `${process.platform} is not Linux`, fix: 'use a Linux machine or virtual machine' };
  if (major > 5 || (major === 5 && minor >= 11)) return { status: 'ok', detail: release() };
  return { status: 'warn', detail: `${release()} is older than what is tested`, fix: 'use Linux 5.11 or newer' };
}

function node(): Finding {
  return { status: 'ok', detail: `${process.version} at ${process.execPath}` };
}

function user({ env }: Machine): Finding {
  if (!isOrdinaryUser()) return { status: 'ok', detail: 'root' };
  if (namespaceProblem(env) === undefined) return { status: 'ok', detail: 'an ordinary user: environments run in a user namespace' };
  return { status: 'fail', detail: 'an ordinary user, for whom something is missing: see the next line', fix: 'as below, or run hd as root' };
}

function userNamespaces({ env }: Machine): Finding {
  if (isOrdinaryUser()) {
    const problem = namespaceProblem(env);
    return problem === undefined ? { status: 'ok', detail: 'can be made, with subordinate ids' } : { status: 'fail', detail: problem.message, fix: problem.fix };
  }
  const trial = spawnSync('unshare', ['--user', '--map-root-user', 'true'], { encoding: 'utf8' });
  if (trial.status === 0) return { status: 'ok', detail: 'can be made' };
  return { status: 'warn', detail: `cannot be made: ${reasonOf(trial)}; root does not need them` };
}

function fuse({ env }: Machine): Finding {
  if (env['HD_FUSE'] === 'off') return { status: 'warn', detail: 'switched off by HD_FUSE=off: trees are written out as files, and steps are not traced', fix: 'unset HD_FUSE' };
  const problem = fuseProblem() ?? openProblem('/dev/fuse');
  if (problem === undefined) return { status: 'ok', detail: '/dev/fuse can be opened' };
  return { status: 'warn', detail: `${problem}: trees are written out as files, and steps are not traced`, fix: existsSync('/dev/fuse') ? 'chmod 666 /dev/fuse (as most distributions have it), or run as root' : 'modprobe fuse; in a container, start it with --device /dev/fuse' };
}

/** A device may be there for all to see and still be refused by a control group. */
function openProblem(device: string): string | undefined {
  try {
    closeSync(openSync(device, 'r+'));
    return undefined;
  } catch (error) {
    return `${device} cannot be opened (${describeError(error)})`;
  }
}

/** Mounts one in a mount namespace of its own, with its upper directory where environments will have theirs. */
function overlay({ home }: Machine): Finding {
  const known = /\boverlay$/m.test(readFileSync('/proc/filesystems', 'utf8'));
  const dir = mkdtempSync(join(home.tempDir, 'doctor-'));
  try {
    for (const name of ['lower', 'upper', 'work', 'merged']) mkdirSync(join(dir, name));
    const script = 'mount -t overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work$2" overlay "$1/merged" && echo x > "$1/merged/file" && test -f "$1/upper/file"';
    const trial = spawnSync('unshare', [...unshareOptions(), '--mount', 'sh', '-c', script, 'sh', dir, isOrdinaryUser() ? ',userxattr' : ''], { encoding: 'utf8' });
    if (trial.status === 0) return { status: 'ok', detail: `works in ${home.dir}` };
    const detail = `${known ? 'the kernel has it, but a mount' : 'not in /proc/filesystems, and a mount'} in ${home.dir} fails: ${reasonOf(trial)}`;
    return { status: 'fail', detail, fix: known ? 'set HD_HOME to a directory on ext4, xfs, btrfs or tmpfs (not itself an overlay)' : 'modprobe overlay' };
  } finally {
    removeTrees([dir]);
  }
}

function runtime({ env }: Machine): Finding {
  const configured = env['HD_RUNTIME'];
  const probes = probeRuntimes({ ...(configured === undefined || configured === '' ? {} : { configured }), ...(env['PATH'] === undefined ? {} : { searchPath: env['PATH'] }), ...(isOrdinaryUser() ? { userNamespace: ['unshare', ...unshareOptions(), '--mount'] } : {}) });
  const works = probes.find((probe) => probe.works);
  const list = probes.map(({ name, version, works: fine, problem }) => `${name}${version === undefined ? '' : ` ${version}`}${fine ? '' : ` (does not work: ${problem ?? 'unknown reason'})`}`).join(', ');
  if (works === undefined) return { status: 'fail', detail: probes.length === 0 ? 'none is installed' : list, fix: configured === undefined || configured === '' ? 'apt-get install runc' : `unset HD_RUNTIME, which names ${configured}` };
  // The first that is found is the one that is used.
  return { status: works === probes[0] ? 'ok' : 'warn', detail: list, ...(works === probes[0] ? {} : { fix: `HD_RUNTIME=${works.name}` }) };
}

function cgroups(): Finding {
  const mode = cgroupMode();
  if (mode === 'none') return { status: 'warn', detail: `not writable${isOrdinaryUser() ? ' for an ordinary user' : ''}: containers run without groups, and limits of memory, processors and processes do not hold` };
  return { status: 'ok', detail: mode === 'unified' ? 'version 2' : 'version 1, or both' };
}

function mmdebstrap({ env }: Machine): Finding {
  const path = findProgram('mmdebstrap', env['PATH']);
  if (path !== undefined) return { status: 'ok', detail: path };
  return { status: 'warn', detail: 'not installed; bases such as apt://bookworm need it', fix: 'apt-get install mmdebstrap' };
}

function aptGet({ env }: Machine): Finding {
  const path = findProgram('apt-get', env['PATH']);
  if (path !== undefined) return { status: 'ok', detail: path };
  return { status: 'warn', detail: 'not here: missing system packages have to be installed by hand' };
}

const LOW_DISK_BYTES = 5 * 2 ** 30;

function disk({ home }: Machine): Finding {
  const { bavail, bsize } = statfsSync(home.dir);
  const free = bavail * bsize;
  const detail = `${(free / 2 ** 30).toFixed(1)} GB free in ${home.dir}`;
  return free >= LOW_DISK_BYTES ? { status: 'ok', detail } : { status: 'warn', detail, fix: '`hd cas gc`, or set HD_HOME to a directory on a larger disk' };
}

const ENOUGH_WATCHES = 65_536;

function inotify(): Finding {
  const read = (name: string): number => Number(readFileSync(`/proc/sys/fs/inotify/${name}`, 'utf8'));
  const [watches, instances] = [read('max_user_watches'), read('max_user_instances')];
  const detail = `${watches} watches, ${instances} instances`;
  return watches >= ENOUGH_WATCHES ? { status: 'ok', detail } : { status: 'warn', detail: `${detail}: too few for a large project`, fix: 'sysctl fs.inotify.max_user_watches=524288' };
}

/** Makes one with each way out. */
function privateNetwork({ env }: Machine): Finding {
  const ways = configuredWays(env).filter((way) => way !== 'none');
  const command = [process.execPath, ...NODE_FLAGS, fileURLToPath(new URL('./trial-network-main.ts', import.meta.url)), ...ways];
  const [program = '', ...args] = isOrdinaryUser() ? ['unshare', ...unshareOptions(), '--', ...command] : command;
  const trial = spawnSync(program, args, { encoding: 'utf8', env: { ...process.env, PATH: env['PATH'] } });
  if (trial.status !== 0) return { status: 'warn', detail: `none can be made: ${reasonOf(trial)}`, fix: '`network = "host"` in hd.toml' };
  const { works, refused } = JSON.parse(trial.stdout) as NetworkTrial;
  const why = refused.length === 0 ? '' : `; not ${refused.map(({ way, reason }) => `${way}: ${reason}`).join('; ')}`;
  const [first, ...others] = works;
  if (first === undefined) return { status: 'warn', detail: `without a way out: services reach nothing but each other${why}`, fix: 'apt-get install passt, or `network = "host"` in hd.toml' };
  const limits = first === 'relay' ? ', which carries TCP over IPv4 and names' : '';
  return { status: 'ok', detail: `out through ${first}${limits}${others.length === 0 ? '' : `; ${others.join(', ')} would work, too`}${why}` };
}

function network({ env }: Machine): Finding {
  const { env: variables, mounts } = hostPassthrough(env);
  const proxies = Object.keys(variables).filter((name) => /proxy$/i.test(name));
  const authorities = mounts.find(({ destination }) => destination.endsWith('.crt'))?.source;
  const parts = [...(proxies.length === 0 ? [] : [`${proxies.join(', ')} passed into steps`]), ...(authorities === undefined ? [] : [`certificate authorities from ${authorities}`])];
  return { status: 'ok', detail: parts.join('; ') || 'none set' };
}

/** util-linux ships a hexdump of this name in bsdextrautils. */
function shadowedName({ env }: Machine): Finding {
  const found = findPrograms('hd', env['PATH']);
  const isHexdump = (path: string): boolean => realpathSync(path).endsWith('hexdump');
  const [first] = found;
  if (first === undefined) return { status: 'ok', detail: 'no hd on PATH' };
  if (!isHexdump(first)) return { status: 'ok', detail: `${first}${found.some(isHexdump) ? ', before the hexdump of that name' : ''}` };
  const own = found.find((path) => !isHexdump(path));
  return { status: 'warn', detail: `${first} is hexdump, from the package bsdextrautils`, fix: own === undefined ? 'put the directory of this hd first in PATH' : `put the directory of ${own} before that of ${first} in PATH` };
}

function reasonOf({ stderr, error, status, signal }: { stderr: string | null; error?: Error; status: number | null; signal: string | null }): string {
  return error?.message ?? ((stderr ?? '').trim().split('\n').at(-1) || `it ended with ${status ?? signal}`);
}
