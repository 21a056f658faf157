/** What belongs to one home on this machine, looked for in the kernel's own lists: other people's environments are left aside. */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { waitUntil } from '@hyperdocker/testkit';

export interface ProcessOf {
  pid: number;
  /** Arguments with spaces between them. */
  args: string;
  /** Process 1 of a container. */
  isInit: boolean;
}

/** Processes that were started for this home: by their environment, their arguments, or the group that they are in. */
export function processesOf(home: string): ProcessOf[] {
  const prefixes = containerPrefixes(home);
  return readdirSync('/proc').filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid).flatMap((name): ProcessOf[] => {
    const [args, environ, groups] = ['cmdline', 'environ', 'cgroup'].map((file) => read(`/proc/${name}/${file}`)) as [string, string, string];
    const inGroup = prefixes.some((prefix) => groups.includes(`/hyperdocker/${prefix}`));
    if (!inGroup && !args.includes(home) && !environ.includes(`HD_HOME=${home}`)) return [];
    const isInit = inGroup && /^NSpid:.*\t1$/m.test(read(`/proc/${name}/status`));
    // A zombie has neither arguments nor an environment: it is its parent's.
    return [{ pid: Number(name), args: args.replaceAll('\0', ' ').trim(), isInit }];
  });
}

/** Everything that a home's environments must not leave when they are down, in words. */
export function remains(home: string): string[] {
  const envs = join(home, 'envs');
  const prefixes = containerPrefixes(home);
  return [
    ...processesOf(home).map(({ pid, args }) => `process ${pid}: ${args.slice(0, 200)}`),
    ...mountsBelow(home),
    ...groupsOf(prefixes),
    ...list('/run/netns').filter((name) => prefixes.some((prefix) => name.startsWith(prefix))).map((name) => `network namespace ${name}`),
    ...read('/proc/net/unix').split('\n').filter((line) => line.includes(home)).map((line) => `socket ${line}`),
    ...list(envs).flatMap((id) => list(join(envs, id)).filter((name) => !STAYS.includes(name) && !isEmpty(join(envs, id, name))).map((name) => `${envs}/${id}/${name}`)),
    ...list(join(home, 'tmp')).map((name) => `${home}/tmp/${name}`),
    ...list(join(home, 'materialized')).filter((name) => name.endsWith('.partial')).map((name) => `${home}/materialized/${name}`),
  ];
}

/** Ends of guards and runtimes come a moment after the end of what they guard. */
export async function nothingRemains(home: string): Promise<void> {
  await waitUntil(`nothing of ${home} remains`, () => {
    const found = remains(home);
    if (found.length > 0) throw new Error(found.join('\n'));
    return true;
  }, { timeoutMs: 15_000 });
}

/** What is there when an environment is down: docs/format/state.md. */
const STAYS = ['project.json', 'ports.json', 'build.json', 'supervisor.log', 'stat.cache', 'logs', 'clashes', 'pulled.json'];

/** What the names of its containers begin with. */
function containerPrefixes(home: string): string[] {
  return list(join(home, 'envs')).map((id) => envPrefix(join(home, 'envs', id)));
}

function envPrefix(dir: string): string {
  return `hd-${createHash('sha256').update(dir).digest('hex').slice(0, 10)}-`;
}

/** In whatever mount namespace a process is. */
function mountsBelow(home: string): string[] {
  const seen = new Set<string>();
  for (const pid of list('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const line of read(`/proc/${pid}/mountinfo`).split('\n')) {
      if ((line.split(' ')[4] ?? '').startsWith(`${home}/`)) seen.add(`mount of process ${pid} and others: ${line}`);
    }
    if (seen.size > 0) break;
  }
  return [...seen];
}

function groupsOf(prefixes: readonly string[]): string[] {
  const root = '/sys/fs/cgroup';
  return ['.', ...list(root)].flatMap((name) => list(join(root, name, 'hyperdocker')).filter((id) => prefixes.some((prefix) => id.startsWith(prefix))).map((id) => `cgroup ${join(root, name, 'hyperdocker', id)}`));
}

function isEmpty(path: string): boolean {
  try {
    return readdirSync(path).length === 0;
  } catch {
    return false;
  }
}

function list(dir: string): string[] {
  try {
    return existsSync(dir) ? readdirSync(dir) : [];
  } catch {
    return [];
  }
}

/** Empty for a process that has ended meanwhile. */
function read(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}
