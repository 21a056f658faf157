import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';

/** A directory that is seen under its name only once `fill` has made it whole, whoever else makes it at the same time; one that is there stays as it is. */
export function wholeDirectory(dir: string, fill: (partial: string) => void): string {
  if (existsSync(dir)) return dir;
  mkdirSync(dirname(dir), { recursive: true, mode: 0o700 });
  const partial = mkdtempSync(join(dirname(dir), '.new-'));
  try {
    fill(partial);
    renameSync(partial, dir);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(dir)) throw error;
  }
  return dir;
}
