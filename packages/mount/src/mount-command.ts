import { spawn } from 'node:child_process';
import { HdError } from '@hyperdocker/base';

/**
 * Runs `mount` or `umount`. @param options.fd3 handed on as descriptor 3.
 * @throws HdError with the given code, and what the command said
 */
export function runMountCommand(code: string, [command = '', ...args]: string[], options: { fd3?: number; hint?: string } = {}): Promise<void> {
  const { fd3, hint = 'see `hd doctor`' } = options;
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe', ...(fd3 === undefined ? [] : [fd3])] });
    let stderr = '';
    child.stderr?.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.once('error', (cause) => reject(new HdError(code, `${command} cannot be run`, { cause })));
    child.once('close', (exit) => (exit === 0 ? resolve() : reject(new HdError(code, stderr.trim() || `${command} failed`, { hint }))));
  });
}
