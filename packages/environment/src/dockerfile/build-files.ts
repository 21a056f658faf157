import { mkdirSync } from 'node:fs';
import { basename, join } from 'node:path';
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

/** Where a build's containers and mounts are while it runs. */
export function buildPaths(home: Home, pid: number): EnvPaths {
  return pathsOf({ ...home, envsDir: join(buildsDir(home), 'running') }, String(pid));
}
