import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { sha256Hex } from '@hyperdocker/base';
import type { EnvPaths, Home } from '../home.ts';
import { pathsOf } from '../home.ts';

/** Caches of builds from Dockerfiles: the stats of contexts, what was fetched. */
export function buildsDir(home: Home): string {
  const dir = join(home.dir, 'builds');
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  return dir;
}

export function statCacheOf(home: Home, contextDir: string): string {
  return join(buildsDir(home), `${basename(contextDir).replace(/[^\w.-]/g, '-').slice(0, 30)}-${sha256Hex(contextDir).slice(0, 10)}.json`);
}

/** What became of each RUN in the last build of a Dockerfile. @param path undefined: it came from standard input */
export function recordFileOf(home: Home, { path, contextDir }: { path: string | undefined; contextDir: string }): string {
  const of = path ?? join(contextDir, '-');
  return join(buildsDir(home), `${basename(dirname(of)).replace(/[^\w.-]/g, '-').slice(0, 30)}-${sha256Hex(of).slice(0, 10)}${RECORD_END}`);
}

export const RECORD_END = '.build.json';

/** Where a build's containers and mounts are while it runs. */
export function buildPaths(home: Home, pid: number): EnvPaths {
  return pathsOf({ ...home, envsDir: join(buildsDir(home), 'running') }, String(pid));
}

/** Process ids of builds that run, or did when they were killed. */
export function runningBuilds(home: Home): number[] {
  const dir = join(buildsDir(home), 'running');
  return existsSync(dir) ? readdirSync(dir).map(Number).filter(Number.isInteger) : [];
}
