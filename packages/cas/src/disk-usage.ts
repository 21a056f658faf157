import { lstatSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno } from '@hyperdocker/base';

/**
 * Bytes of a directory and all below it, as `du --apparent-size -sb` counts: directories too, and each inode once. What vanishes meanwhile counts as
 * nothing.
 */
export function diskUsage(path: string, seen = new Set<string>()): number {
  const stats = lstatSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return 0;
  const inode = `${stats.dev}:${stats.ino}`;
  if (stats.nlink > 1 && !stats.isDirectory()) {
    if (seen.has(inode)) return 0;
    seen.add(inode);
  }
  if (!stats.isDirectory()) return stats.size;
  return namesIn(path).reduce((sum, name) => sum + diskUsage(join(path, name), seen), stats.size);
}

function namesIn(dir: string): string[] {
  try {
    return readdirSync(dir);
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return [];
    throw error;
  }
}
