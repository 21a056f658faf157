import { existsSync, mkdirSync, realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, dirname, join, resolve } from 'node:path';
import { HdError, sha256Hex } from '@hyperdocker/base';

/** Where everything lives. Two homes never meet. */
export interface Home {
  dir: string;
  storeDir: string;
  actionsFile: string;
  envsDir: string;
  /** Trees as real files, for machines without FUSE. */
  materializedDir: string;
  /** Which trees are known to have no extended attributes. A cache. */
  attributeFreeFile: string;
  tempDir: string;
  /** Parts of layers whose download was cut off. */
  partialDir: string;
  /** Code of this program that V8 has compiled. A cache, Node's. */
  compiledDir: string;
}

export function homeDir(env: NodeJS.ProcessEnv = process.env): string {
  return resolve(env['HD_HOME'] ?? join(homedir(), '.hd'));
}

/** What V8 has made of our code, kept by Node for the next process: 10 ms of a command, and 30 to 50 of a supervisor. */
export function compiledDir(home = homeDir()): string {
  return join(home, 'compiled');
}

export function openHome(env: NodeJS.ProcessEnv = process.env): Home {
  const dir = homeDir(env);
  const home = {
    dir,
    storeDir: join(dir, 'cas'),
    actionsFile: join(dir, 'actions.sqlite'),
    envsDir: join(dir, 'envs'),
    materializedDir: join(dir, 'materialized'),
    attributeFreeFile: join(dir, 'attribute-free'),
    tempDir: join(dir, 'tmp'),
    partialDir: join(dir, 'partial'),
    compiledDir: compiledDir(dir),
  };
  for (const path of [dir, home.envsDir, home.materializedDir, home.tempDir]) mkdirSync(path, { recursive: true, mode: 0o700 });
  return home;
}

/** A project: the directory of an hd.toml. */
export interface Project {
  dir: string;
  specFile: string;
}

/** The project of `start`: the nearest directory, from there upwards, that has an hd.toml. @throws HdError NO_PROJECT */
export function findProject(start: string): Project {
  const from = resolve(start);
  for (let dir = from; ; dir = dirname(dir)) {
    const specFile = join(dir, 'hd.toml');
    if (existsSync(specFile)) return { dir: realpathSync(dir), specFile: join(realpathSync(dir), 'hd.toml') };
    if (dir === dirname(dir)) break;
  }
  throw new HdError('NO_PROJECT', `no hd.toml in ${from} or above it`, { hint: 'make one with `hd init`, or give the directory of a project' });
}

/** Files of one environment. It belongs to a directory: two worktrees of one project are two environments. */
export interface EnvPaths {
  id: string;
  dir: string;
  /** The names of this environment's containers begin with it, and nobody else's on this machine. */
  containerPrefix: string;
  socket: string;
  /** What a later process needs to find or clean up the supervisor. */
  stateFile: string;
  /** What is mounted, for a supervisor that comes after one that was killed. */
  liveRecord: string;
  /** Where the process that serves the files can be reached by it. */
  hostSocket: string;
  /** Whose it is and when it was last used: stays when it is down. */
  note: string;
  supervisorLog: string;
  /** What became of each step in the last build. */
  buildRecord: string;
  statCache: string;
  logsDir: string;
  /** State of the OCI runtime: which containers are this environment's. */
  runtimeRoot: string;
  /** Lower, upper and merged directories while running. Gone when down. */
  liveDir: string;
  stepsDir: string;
  bundlesDir: string;
  /** Lists of names and resolvers that containers have in the place of the host's. Gone when down. */
  networkDir: string;
  /** Which ports its services had on the host. */
  ports: string;
  /** What host and environment agreed on when files were brought out. */
  pulled: string;
  /** Versions of files that lost a clash between host and environment. */
  clashesDir: string;
}

export function envPaths(home: Home, project: Project): EnvPaths {
  const hash = sha256Hex(project.dir).slice(0, 10);
  return pathsOf(home, `${basename(project.dir).toLowerCase().replace(/[^a-z0-9_.-]/g, '-').slice(0, 30)}-${hash}`);
}

/** Of an environment that is known by its id alone. */
export function pathsOf(home: Home, id: string): EnvPaths {
  const dir = join(home.envsDir, id);
  return {
    id,
    dir,
    containerPrefix: `hd-${sha256Hex(dir).slice(0, 10)}-`,
    socket: join(dir, 's'),
    stateFile: join(dir, 'state.json'),
    liveRecord: join(dir, 'live.json'),
    hostSocket: join(dir, 'f'),
    note: join(dir, 'project.json'),
    supervisorLog: join(dir, 'supervisor.log'),
    buildRecord: join(dir, 'build.json'),
    statCache: join(dir, 'stat.cache'),
    logsDir: join(dir, 'logs'),
    runtimeRoot: join(dir, 'run'),
    liveDir: join(dir, 'live'),
    stepsDir: join(dir, 'steps'),
    bundlesDir: join(dir, 'bundles'),
    networkDir: join(dir, 'network'),
    ports: join(dir, 'ports.json'),
    pulled: join(dir, 'pulled.json'),
    clashesDir: join(dir, 'clashes'),
  };
}

/** GC roots of an environment. */
export const envRef = (id: string, what: 'root' | 'previous' | 'tree' | 'source' | 'scanned' | 'projected' | 'live' | 'shown'): string => `env/${id}/${what}`;
