import { execFileSync } from 'node:child_process';
import { HdError } from '@hyperdocker/base';

/** A file system in memory for what the environment writes. */
export async function mountMemory(dir: string): Promise<void> {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'mode=700', 'hyperdocker', dir], { stdio: ['ignore', 'ignore', 'pipe'] });
  } catch (cause) {
    throw new HdError('OVERLAY_MOUNT', `cannot mount a tmpfs at ${dir}`, { cause, hint: 'set `overlay = "disk"` in [options]' });
  }
}
