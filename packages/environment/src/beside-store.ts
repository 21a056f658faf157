import { existsSync, readdirSync, rmSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, processStartTime } from '@hyperdocker/base';
import { storeBytes } from '@hyperdocker/cas';
import { PartialDownloads } from '@hyperdocker/oci';
import { cachesDir } from './dockerfile/cache-mounts.ts';
import { runningBuilds } from './dockerfile/build-files.ts';
import type { EnvPaths, Home } from './home.ts';
import { pathsOf } from './home.ts';
import { projectOf } from './known-environments.ts';
import { removeTrees } from './user-namespace.ts';
import type { Volume } from './volumes.ts';
import { listVolumes } from './volumes.ts';

/** What a home holds beside its store, in bytes on the disk. No collection of the store removes it, but for old parts of downloads. */
export interface BesideStore {
  volumes: (Volume & { environment: string; /** Directory of the project; null where nobody knows. */ project: string | null; /** The project is not there any more. */ gone: boolean })[];
  /** Directories of `RUN --mount=type=cache`. */
  caches: { count: number; sizeBytes: number };
  /** Parts of layers whose download was cut off or is under way. */
  partials: { count: number; sizeBytes: number };
}

const COMPILED_MS = 30 * 86_400_000;

export function besideStore(home: Home): BesideStore {
  const caches = cacheDirectories(home);
  const partials = filesIn(home.partialDir);
  return {
    volumes: readdirSync(home.envsDir).sort().flatMap((id) => volumesOf(pathsOf(home, id))),
    caches: { count: caches.length, sizeBytes: caches.reduce((sum, path) => sum + storeBytes(path), 0) },
    partials: { count: partials.length, sizeBytes: partials.reduce((sum, path) => sum + storeBytes(path), 0) },
  };
}

function volumesOf(paths: EnvPaths): BesideStore['volumes'] {
  const volumes = listVolumes(paths);
  if (volumes.length === 0) return [];
  const project = projectOf(paths) ?? null;
  return volumes.map((volume) => ({ ...volume, environment: paths.id, project, gone: project !== null && !existsSync(project) }));
}

/** The environment of a project, be it there or not. @param dir as it was when the environment was last used */
export function environmentOf(home: Home, dir: string): EnvPaths | undefined {
  return readdirSync(home.envsDir).map((id) => pathsOf(home, id)).find((paths) => projectOf(paths) === dir);
}

export interface BesideFreed {
  /** Bytes that were freed, or would be. */
  partials: number;
  caches: number;
  /** A build from a Dockerfile is running, and may use the caches: they stay. */
  cachesInUse: boolean;
}

/**
 * Parts of downloads that nobody has gone on with for a week go; with `partials`, all that are not under way. Caches of builds only if they are asked for.
 */
export function sweepBeside(home: Home, { partials = false, caches = false, dryRun = false, nowMs = Date.now() }: { partials?: boolean; caches?: boolean; dryRun?: boolean; nowMs?: number }): BesideFreed {
  const downloads = new PartialDownloads(home.partialDir);
  const freedPartials = downloads.sweep(nowMs, { all: partials, dryRun });
  if (!dryRun) forgetCompiled(home, nowMs);
  if (!caches) return { partials: freedPartials, caches: 0, cachesInUse: false };
  const directories = cacheDirectories(home);
  const cachesInUse = directories.length > 0 && runningBuilds(home).some(isAlive);
  if (cachesInUse) return { partials: freedPartials, caches: 0, cachesInUse };
  const freed = directories.reduce((sum, path) => sum + storeBytes(path), 0);
  if (!dryRun) removeTrees(directories);
  return { partials: freedPartials, caches: freed, cachesInUse };
}

/** A few megabytes for each version of this program, and not worth a word: what an older one has left goes, and what is in use is made again. */
function forgetCompiled({ compiledDir }: Home, nowMs: number): void {
  for (const file of filesIn(compiledDir).flatMap(filesIn)) {
    if ((statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? nowMs) < nowMs - COMPILED_MS) rmSync(file, { force: true });
  }
}

function isAlive(pid: number): boolean {
  return processStartTime(pid) !== undefined;
}

function cacheDirectories(home: Home): string[] {
  return filesIn(cachesDir(home)).filter((path) => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true);
}

function filesIn(dir: string): string[] {
  try {
    return readdirSync(dir).map((name) => join(dir, name));
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
