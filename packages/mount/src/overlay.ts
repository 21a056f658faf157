import { spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { HdError } from '@hyperdocker/base';

export interface Overlay {
  lower: string;
  upper: string;
  work: string;
  merged: string;
}

/**
 * Mounts a writable view: reads fall through to `lower`, writes land in `upper`, at the speed of the kernel. `redirect_dir`
 * lets a directory of the lower be renamed (else EXDEV, and `mv` copies it silently). Makes the directories that are missing.
 * @throws HdError OVERLAY_MOUNT
 */
export async function mountOverlay({ lower, upper, work, merged }: Overlay): Promise<void> {
  for (const dir of [upper, work, merged]) mkdirSync(dir, { recursive: true });
  for (const dir of [lower, upper, work]) {
    if (/[,:\\]/.test(dir)) throw new HdError('OVERLAY_MOUNT', `the path ${dir} holds a comma, a colon or a backslash`, { hint: 'set HD_HOME to another directory' });
  }
  const options = `lowerdir=${lower},upperdir=${upper},workdir=${work},redirect_dir=on,metacopy=off,index=off,xino=off`;
  await run('OVERLAY_MOUNT', ['mount', '-t', 'overlay', '-o', options, 'hyperdocker', merged]);
}

/** `lazy`: also when somebody still uses it. @throws HdError UNMOUNT */
export async function unmount(path: string, options: { lazy?: boolean } = {}): Promise<void> {
  await run('UNMOUNT', ['umount', ...(options.lazy === true ? ['-l'] : []), path]);
}

function run(code: string, [command = '', ...args]: string[]): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.once('error', (cause) => reject(new HdError(code, `${command} cannot be run`, { cause })));
    child.once('close', (exit) => (exit === 0 ? resolve() : reject(new HdError(code, stderr.trim() || `${command} failed`, { hint: 'see `hd doctor`' }))));
  });
}
