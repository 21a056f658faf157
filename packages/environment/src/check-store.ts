import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BlobDigest, ByteString } from '@hyperdocker/base';
import { hostPath, isErrno, joinBytes, lstatIfAny } from '@hyperdocker/base';
import type { FsckOptions, FsckResult, ObjectName } from '@hyperdocker/cas';
import { openStore, rebuildIndex } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import type { Home } from './home.ts';
import type { KnownDir } from './known-files.ts';
import type { KnownEnvironment } from './known-environments.ts';
import { knownEnvironments } from './known-environments.ts';
import { StatCache } from './stat-cache.ts';

export interface CheckOptions {
  rebuild?: boolean;
  repair?: boolean;
  /** Part of the objects to read, 0 to 1. */
  sample?: number;
}
export interface StoreCheck extends FsckResult {
  /** How many objects an index that was made again knows. */
  rebuiltObjects?: number;
  environments: KnownEnvironment[];
}

/** Checks the store, and repairs it, from the files of the projects too. @throws HdError those of opening the store */
export function checkStore(home: Home, { rebuild = false, repair = false, sample = 1 }: CheckOptions): StoreCheck {
  const rebuilt = rebuild ? rebuildIndex(home.storeDir, { nodeLinks }) : undefined;
  using store = openStore(home.storeDir, { nodeLinks });
  const environments = knownEnvironments(home, store);
  const result = store.fsck({ repair, sample, source: projectFiles(home, environments) });
  return { ...result, environments, ...(rebuilt === undefined ? {} : { rebuiltObjects: rebuilt.objects }) };
}

/** Refs below `env/<id>/` whose paths are those of the project. */
const PROJECT_REFS = ['root', 'previous', 'source', 'scanned', 'projected'];

/**
 * Files of the projects that may hold a blob, the likeliest first: those at its names, those that had its digest when they were last looked at, those of its size.
 */
export function projectFiles({ envsDir }: Home, environments: readonly KnownEnvironment[]): NonNullable<FsckOptions['source']> {
  const projects = environments.flatMap(({ id, project }) => (project === undefined ? [] : [{ id, project }]));
  const projectOf = new Map(projects.map(({ id, project }) => [id, project]));
  let bySize: Map<number, (string | Buffer)[]> | undefined;
  let byDigest: Map<BlobDigest, (string | Buffer)[]> | undefined;
  return function* ({ digest, size, names }) {
    yield* names.flatMap((name) => pathOf(name, projectOf));
    byDigest ??= collectPaths(projects, ({ id, project }, add) => filesOnceSeen(new StatCache(join(envsDir, id, 'stat.cache')).load()?.root, project, add));
    yield* byDigest.get(digest) ?? [];
    if (size === undefined) return;
    bySize ??= collectPaths(projects, ({ project }, add) => filesBelow(project, '' as ByteString, add));
    yield* bySize.get(size) ?? [];
  };
}

function pathOf({ ref, path }: ObjectName, projectOf: ReadonlyMap<string, string>): string[] {
  const [, id = '', what = ''] = /^env\/([^/]+)\/(.+)$/.exec(ref) ?? [];
  const project = projectOf.get(id);
  return project === undefined || !PROJECT_REFS.includes(what) ? [] : [join(project, path)];
}

type Add<K> = (key: K, path: string | Buffer) => void;

function collectPaths<P, K>(projects: readonly P[], visit: (project: P, add: Add<K>) => void): Map<K, (string | Buffer)[]> {
  const paths = new Map<K, (string | Buffer)[]>();
  for (const project of projects) {
    visit(project, (key, path) => {
      const known = paths.get(key);
      if (known === undefined) paths.set(key, [path]);
      else known.push(path);
    });
  }
  return paths;
}

function filesOnceSeen(dir: KnownDir | undefined, project: string, add: Add<BlobDigest>, path = '' as ByteString): void {
  for (const [index, node] of (dir?.nodes ?? []).entries()) {
    const below = joinBytes(path, dir?.names[index] ?? ('' as ByteString));
    if (node.kind === 'dir') filesOnceSeen(node, project, add, below);
    else if (node.kind === 'file') add(node.digest, hostPath(project, below));
  }
}

/** Links are not followed. */
function filesBelow(project: string, path: ByteString, add: Add<number>): void {
  for (const name of namesIn(hostPath(project, path))) {
    const below = joinBytes(path, name);
    const host = hostPath(project, below);
    const stats = lstatIfAny(host);
    if (stats?.isDirectory() === true) filesBelow(project, below, add);
    else if (stats?.isFile() === true) add(Number(stats.size), host);
  }
}

function namesIn(dir: string | Buffer): ByteString[] {
  try {
    return readdirSync(dir, { encoding: 'latin1' }) as ByteString[];
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES', 'EPERM')) return [];
    throw error;
  }
}
