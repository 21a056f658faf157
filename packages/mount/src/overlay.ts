import { mkdirSync } from 'node:fs';
import { HdError } from '@hyperdocker/base';
import { runMountCommand } from './mount-command.ts';

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
 * lets a directory of the lower be renamed (else EXDEV, and `mv` copies it silently). Makes the directories that are missing.
 * @throws HdError OVERLAY_MOUNT
 */
export async function mountOverlay({ lower, upper, work, merged, scratch = false }: Overlay): Promise<void> {
  for (const dir of [upper, work, merged]) mkdirSync(dir, { recursive: true });
  for (const dir of [lower, upper, work]) {
    if (/[,:\\]/.test(dir)) throw new HdError('OVERLAY_MOUNT', `the path ${dir} holds a comma, a colon or a backslash`, { hint: 'set HD_HOME to another directory' });
  }
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},redirect_dir=on,metacopy=off,index=off,xino=off`;
  const mount = (more: string): Promise<void> => runMountCommand('OVERLAY_MOUNT', ['mount', '-t', 'overlay', '-o', `${options}${more}`, 'hyperdocker', merged]);
  if (!scratch || !volatileIsKnown) return mount('');
  try {
    await mount(',volatile');
  } catch {
    await mount('');
    volatileIsKnown = false;
  }
}

/** A file system in memory, for what an environment writes. @throws HdError OVERLAY_MOUNT */
export async function mountMemory(dir: string): Promise<void> {
  await runMountCommand('OVERLAY_MOUNT', ['mount', '-t', 'tmpfs', '-o', 'mode=700', 'hyperdocker', dir], { hint: 'set `overlay = "disk"` in [options]' });
}

/** @throws HdError UNMOUNT */
export async function unmount(path: string): Promise<void> {
  await runMountCommand('UNMOUNT', ['umount', path]);
}
