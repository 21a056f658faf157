/**
 * One thing done with the store, in a process of its own, so that every round starts from a fresh heap:
 *
 *   store-child.ts ingest <store> <project> <stat cache>
 *   store-child.ts restore <store> <tree> <directory>
 *   store-child.ts read-and-hash | lstat <project>
 *
 * Prints `ChildResult`. The time is that of the work alone, without starting Node and loading the code.
 */
import type { Stats } from 'node:fs';
import { lstatSync, readFileSync, readdirSync } from 'node:fs';
import type { TreeDigest } from '@hyperdocker/base';
import { hasher } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { Ingest } from '@hyperdocker/environment';
import { materialize } from '@hyperdocker/mount';
import { createFilter } from '@hyperdocker/watch';

export interface ChildResult { ms: number; peakBytes: number; files: number; hashed: number; tree?: TreeDigest }

const [mode = '', ...args] = process.argv.slice(2) as [string, string, string, string];
const startedMs = performance.now();
const done = perform(mode);
const ms = performance.now() - startedMs;
console.log(JSON.stringify({ ms, peakBytes: peakBytes(), ...done } satisfies ChildResult));

function perform(what: string): { files: number; hashed: number; tree?: TreeDigest } {
  const [first = '', second = '', third = ''] = args;
  if (what === 'ingest') return ingest(first, second, third);
  if (what === 'restore') return restore(first, second as TreeDigest, third);
  return floor(first, what === 'lstat' ? () => {} : (path, stats) => void (stats.isFile() && hasher.hash(readFileSync(path))));
}

/** As a build does it: stored, on the disk, and held by refs. */
function ingest(storeDir: string, projectDir: string, statCacheFile: string): { files: number; hashed: number; tree: TreeDigest } {
  using store = openStore(storeDir);
  using _lease = store.lease('bench');
  const files = new Ingest({ store, storeDir, projectDir, statCacheFile, filter: createFilter({ include: [], exclude: [] }), owner: { uid: 0, gid: 0 } }).scan();
  store.setRef('bench/source', { kind: 'tree', digest: files.source });
  store.setRef('bench/projected', { kind: 'tree', digest: files.projected });
  return { files: files.files, hashed: files.hashed, tree: files.projected };
}

function restore(storeDir: string, tree: TreeDigest, cacheDir: string): { files: number; hashed: number } {
  using store = openStore(storeDir, { readOnly: true });
  materialize(store, tree, cacheDir, storeDir);
  return { files: 0, hashed: 0 };
}

function floor(dir: string, visit: (path: string, stats: Stats) => void): { files: number; hashed: number } {
  let files = 0;
  const walk = (at: string): void => {
    for (const name of readdirSync(at)) {
      const path = `${at}/${name}`;
      const stats = lstatSync(path, { throwIfNoEntry: false });
      if (stats?.isDirectory() === true) walk(path);
      else if (stats !== undefined) {
        files++;
        visit(path, stats);
      }
    }
  };
  walk(dir);
  return { files, hashed: 0 };
}

/** The most memory that the process had at one time. */
function peakBytes(): number {
  return Number(/^VmHWM:\s*(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0) * 1024;
}
