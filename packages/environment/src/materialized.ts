import { lstatSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { storeBytes } from '@hyperdocker/cas';
import type { Home } from './home.ts';

/** Between writing a tree out and mounting an overlay over it. */
const YOUNG_MS = 60 * 60_000;

/**
 * Removes trees that were written out as files and are under no overlay of any process. The next step that needs one writes it anew.
 * @returns bytes that were freed, or would be
 */
export function sweepMaterialized(home: Home, { dryRun, nowMs = Date.now() }: { dryRun: boolean; nowMs?: number }): number {
  const names = readdirSync(home.materializedDir);
  if (names.length === 0) return 0;
  const mounts = allMounts();
  let freedBytes = 0;
  for (const name of names) {
    const path = join(home.materializedDir, name);
    // A half-made one bears its maker's name after the digest: it is under no mount, and young while it is made.
    if (mounts.includes(name) || lstatSync(path).ctimeMs > nowMs - YOUNG_MS) continue;
    freedBytes += storeBytes(path);
    if (!dryRun) remove(path);
  }
  return freedBytes;
}

function remove(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch (cause) {
    throw new HdError('STORE_WRITE', `cannot remove ${path}`, { cause });
  }
}

/** The mounts that any process sees, those in namespaces of their own too: an overlay tells what is below it. */
function allMounts(): string {
  const seen = new Set<string>();
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      seen.add(readFileSync(`/proc/${pid}/mountinfo`, 'utf8'));
    } catch {
      // It has ended, or is somebody else's, who cannot have mounted what is in this home.
    }
  }
  return [...seen].join('');
}
