import { mkdirSync } from 'node:fs';
import { HdError, inUserNamespace } from '@hyperdocker/base';
import { mountAt, unmount, unmountAt } from './mount-at.ts';

export interface Overlay {
  lower: string;
  upper: string;
  work: string;
  merged: string;
  /**
   * What is written is read back as soon as it is unmounted, and is worth nothing after a crash: then neither what runs in it waits for the disk, when it calls for that, nor does
   * its unmounting, which else waits for all that the disk has to write for anybody. `volatile`, from Linux 5.10 on.
   */
  scratch?: boolean;
}

let volatileIsKnown = true;

/**
 * Mounts a writable view: reads fall through to `lower`, writes land in `upper`, at the speed of the kernel. `redirect_dir`
 * lets a directory of the lower be renamed (else EXDEV, and `mv` copies it silently, as it does in a user namespace). Makes the directories that are missing.
 * @throws HdError OVERLAY_MOUNT
 */
export function mountOverlay({ lower, upper, work, merged, scratch = false }: Overlay): void {
  for (const dir of [upper, work, merged]) mkdirSync(dir, { recursive: true });
  for (const dir of [lower, upper, work]) {
    if (/[,:\\]/.test(dir)) throw new HdError('OVERLAY_MOUNT', `the path ${dir} holds a comma, a colon or a backslash`, { hint: 'set HD_HOME to another directory' });
  }
  // In a user namespace the overlay's own attributes are those that any user may write, and the kernel does not trust them with redirects.
  const own = inUserNamespace() ? 'userxattr' : 'redirect_dir=on,metacopy=off';
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},${own},index=off,xino=off`;
  const mount = (more: string): void => mountAt('OVERLAY_MOUNT', merged, { type: 'overlay', data: `${options}${more}` });
  if (!scratch || !volatileIsKnown) return mount('');
  try {
    mount(',volatile');
  } catch {
    mount('');
    volatileIsKnown = false;
  }
}

/** A file system in memory, for what an environment writes: at most half of the memory that there is. @throws HdError OVERLAY_MOUNT */
export function mountMemory(dir: string): void {
  mountAt('OVERLAY_MOUNT', dir, { type: 'tmpfs', data: 'mode=700,size=50%', hint: 'set `overlay = "disk"` in [options]' });
}

/** Of what nobody needs after a crash: then there is nothing to wait for. @throws HdError UNMOUNT */
export async function unmountScratch(path: string): Promise<void> {
  if (volatileIsKnown) unmountAt(path);
  else await unmount(path);
}
