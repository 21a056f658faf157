import { once } from 'node:events';
import { chmodSync, chownSync, cpSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { sha256Hex } from '@hyperdocker/base';
import type { Home } from '../home.ts';
import { wholeDirectory } from '../whole-directory.ts';

export interface CacheMount { id: string; sharing: 'shared' | 'private' | 'locked'; mode: number; uid: number; gid: number }

/** A directory that is there for a RUN. Whoever holds it alone gives it back at dispose. */
export interface HeldCache extends AsyncDisposable { dir: string }

const INTERVAL_MS = 50;

export function cachesDir(home: Home): string {
  return join(home.dir, 'caches');
}

/**
 * Directories of `RUN --mount=type=cache`: real ones, as their last user left them, whichever build that was.
 * @param fill makes what a new one begins with, in an empty directory
 */
export async function holdCache(home: Home, mount: CacheMount, signal: AbortSignal, fill?: (dir: string) => void): Promise<HeldCache> {
  const name = sha256Hex(mount.id).slice(0, 24);
  if (mount.sharing === 'shared') return { dir: makeCache(home, name, mount, fill), [Symbol.asyncDispose]: async () => {} };
  for (let nth = 0; ; nth++) {
    const own = mount.sharing === 'private' && nth > 0 ? `${name}-${nth}` : name;
    const lock = await tryLock(join(cachesDir(home), own));
    if (lock !== undefined) return { dir: makeCache(home, own, mount, fill), ...lock };
    signal.throwIfAborted();
    if (mount.sharing === 'locked') await delay(INTERVAL_MS, undefined, { signal });
  }
}

function makeCache(home: Home, name: string, { mode, uid, gid }: CacheMount, fill: ((dir: string) => void) | undefined): string {
  return wholeDirectory(join(cachesDir(home), name), (partial) => {
    fill?.(partial);
    chownSync(partial, uid, gid);
    chmodSync(partial, mode);
  });
}

/** A name in the kernel that no two can hold, and that is free again when its holder ends, however it ends. */
async function tryLock(path: string): Promise<AsyncDisposable | undefined> {
  const lock = createServer();
  try {
    await once(lock.listen(`\0hyperdocker-cache-${sha256Hex(path).slice(0, 32)}`), 'listening');
  } catch {
    return undefined;
  }
  lock.unref();
  return { [Symbol.asyncDispose]: () => new Promise((resolve) => void lock.close(() => resolve())) };
}

/** Puts a copy of a directory's files where a cache begins. */
export function copyFiles(from: string, to: string): void {
  cpSync(from, to, { recursive: true, preserveTimestamps: true, verbatimSymlinks: true });
}
