import { spawnSync } from 'node:child_process';
import { existsSync, lstatSync, mkdirSync, mkdtempSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, isAbsolute, join } from 'node:path';
import { HdError, findPrograms, isExecutable } from '@hyperdocker/base';
import { hostFacts, writeBundle } from './bundle.ts';
import type { HostFacts } from './bundle.ts';
import type { ContainerMount } from './contract.ts';

export interface RuntimeOptions {
  /** A name or an absolute path that the user has chosen; nothing else is tried then. */
  readonly configured?: string | undefined;
  /** PATH where it is left out. */
  readonly searchPath?: string;
  /** Put before the runtime to try it in a user namespace. */
  readonly userNamespace?: readonly string[];
}

export interface RuntimeProbe {
  readonly name: string;
  readonly path: string;
  readonly version?: string;
  /** Shown by running a container, not by asking. */
  readonly works: boolean;
  /** Why it does not. */
  readonly problem?: string;
}

/** The path of the runtime to use: the configured one, or the first on PATH. Only looks whether it is there. Throws `RUNTIME_NOT_FOUND`. */
export function findRuntime(options: RuntimeOptions = {}): string {
  const [first] = candidates(options);
  if (first !== undefined) return first;
  throw new HdError('RUNTIME_NOT_FOUND', options.configured === undefined ? 'No container runtime is installed.' : `The container runtime ${options.configured} was not found.`, {
    hint: `Install one of ${KNOWN.join(', ')} (on Debian and Ubuntu: apt-get install runc).`,
  });
}

/** Tries every runtime by running `true` in a container on the host's own programs, which takes some 50 ms each. */
export function probeRuntimes(options: RuntimeOptions = {}): RuntimeProbe[] {
  return candidates(options).map((path) => probe(path, options.userNamespace));
}

const KNOWN = ['runc', 'crun', 'youki'];

function candidates(options: RuntimeOptions): string[] {
  const names = options.configured === undefined ? KNOWN : [options.configured];
  const searchPath = options.searchPath ?? process.env.PATH;
  return names.flatMap((name) => (isAbsolute(name) ? [name].filter(isExecutable) : findPrograms(name, searchPath).slice(0, 1)));
}

function probe(path: string, userNamespace: readonly string[] | undefined): RuntimeProbe {
  const version = /version\s*:?\s*(\S+)/.exec(spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout ?? '')?.[1];
  const dir = mkdtempSync(join(tmpdir(), 'hd-probe-'));
  const id = basename(dir);
  const state = join(dir, 'state');
  try {
    writeProbeBundle(dir, id, userNamespace === undefined ? hostFacts() : { ...hostFacts(), userNamespace: true, cgroups: 'none' });
    const [program = path, ...args] = [...(userNamespace ?? []), path, '--root', state, 'run', '--bundle', dir, id];
    const result = spawnSync(program, args, { encoding: 'utf8', timeout: 10_000, cwd: dir });
    const works = result.status === 0;
    const problem = result.error?.message ?? lastLine(result.stderr) ?? `it exited with ${result.status ?? result.signal}`;
    return { name: basename(path), path, ...(version === undefined ? {} : { version }), works, ...(works ? {} : { problem }) };
  } finally {
    if (existsSync(join(state, id))) spawnSync(path, ['--root', state, 'delete', '--force', id]);
    rmSync(dir, { recursive: true, force: true });
  }
}

/** A root file system of nothing but the host's program directories, read-only. */
function writeProbeBundle(dir: string, id: string, host: HostFacts): void {
  const rootfs = join(dir, 'rootfs');
  mkdirSync(rootfs);
  const mounts: ContainerMount[] = [];
  for (const path of ['/usr', '/bin', '/sbin', '/lib', '/lib64', '/nix']) {
    const stat = lstatSync(path, { throwIfNoEntry: false });
    if (stat?.isSymbolicLink() === true) symlinkSync(readlinkSync(path), join(rootfs, path));
    else if (stat !== undefined) mounts.push({ destination: path, source: path, readonly: true });
  }
  writeBundle(dir, {
    id,
    rootfs,
    args: ['true'],
    env: { PATH: '/usr/bin:/bin:/run/current-system/sw/bin' },
    cwd: '/',
    user: { uid: 0, gid: 0 },
    hostname: 'probe',
    mounts,
    network: 'host',
    terminal: false,
  }, host);
}

function lastLine(text: string): string | undefined {
  const line = text.trim().split('\n').at(-1);
  return line === undefined || line === '' ? undefined : line;
}
