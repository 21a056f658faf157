import { spawn, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { HdError, describeError, sys } from '@hyperdocker/base';

/** Of mount(2). */
export const MountFlag = { readOnly: 1, noAtime: 1024 } as const;

/**
 * By the system call: the command takes 5 to 20 ms each time, and a step has two mounts. None of these file systems lets who mounts it wait.
 * @throws HdError with the given code
 */
export function mountAt(code: string, target: string, { type, flags = 0, data, hint = 'see `hd doctor`' }: { type: string; flags?: number; data: string; hint?: string }): void {
  try {
    sys().mount(type, target, flags, data);
  } catch (cause) {
    throw new HdError(code, `cannot mount ${target}: ${describeError(cause)}`, { hint, cause });
  }
}

/** By the system call, for what has nothing to write to a disk. @throws HdError UNMOUNT */
export function unmountAt(target: string): void {
  try {
    sys().unmount(target);
  } catch (cause) {
    throw new HdError('UNMOUNT', `cannot unmount ${target}: ${describeError(cause)}`, { hint: 'see `hd doctor`', cause });
  }
}

/** By the command, in a process of its own: it may wait for all that the disk has to write. @throws HdError UNMOUNT */
export function unmount(target: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn('umount', [target], { stdio: ['ignore', 'ignore', 'pipe'] });
    let stderr = '';
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.once('error', (cause) => reject(new HdError('UNMOUNT', 'umount cannot be run', { cause })));
    child.once('close', (exit) => (exit === 0 ? resolve() : reject(new HdError('UNMOUNT', stderr.trim() || 'umount failed', { hint: 'see `hd doctor`' }))));
  });
}

/** Takes away all that is mounted at or below `dir`, the last first, also what is still in use: it goes with its last user. */
export function detachBelow(dir: string): void {
  const targets = readFileSync('/proc/self/mountinfo', 'latin1').split('\n').map((line) => unescaped(line.split(' ')[4] ?? ''));
  for (const target of targets.reverse()) if (target === dir || target.startsWith(`${dir}/`)) detach(target);
}

/** Takes a mount out of sight, also one that is still in use. Nothing where there is none. */
export function detach(target: string): void {
  spawnSync('umount', ['-l', target], { stdio: 'ignore' });
}

/** A path as mountinfo writes it. */
function unescaped(path: string): string {
  return Buffer.from(path.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(parseInt(octal, 8))), 'latin1').toString('utf8');
}
