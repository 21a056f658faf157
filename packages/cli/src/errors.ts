import { AssertionFailure, HdError, describeError, isErrno } from '@hyperdocker/base';
import { EXIT, exitCodeOf } from './exit-code.ts';
import type { Paint } from './terminal.ts';

/** What no code can help: it is told as it is, wherever it came up. */
const DISK_HINTS: Record<string, string> = {
  ENOSPC: 'free some space, for example with `hd cas gc`, and try again',
  EDQUOT: 'free some space, for example with `hd cas gc`, and try again',
  EROFS: 'check the mount; nothing that was there is lost',
  EIO: 'check the disk',
};

/** Anything thrown, for a person, with a final newline; and what to exit with. */
export function renderError(error: unknown, paint: Paint, options: { debug: boolean }): { text: string; exitCode: number } {
  if (isErrno(error, ...Object.keys(DISK_HINTS))) return renderError(diskError(error), paint, options);
  if (!(error instanceof HdError)) return { text: renderBug(error, paint), exitCode: EXIT.failure };
  const lines = [`${paint('red', 'hd:')} ${error.message}`];
  if (error.hint !== undefined) lines.push(`  ${paint('bold', 'hint:')} ${error.hint}`);
  if (options.debug) {
    lines.push(`  code: ${error.code}`);
    if (error.cause !== undefined) lines.push(`  cause: ${describeError(error.cause)}`);
    if (error.stack !== undefined) lines.push(error.stack);
  }
  return { text: `${lines.join('\n')}\n`, exitCode: exitCodeOf(error.code) };
}

function diskError(error: unknown): HdError {
  const hint = Object.entries(DISK_HINTS).find(([code]) => isErrno(error, code))?.[1];
  return new HdError('DISK', describeError(error), { cause: error, ...(hint === undefined ? {} : { hint }) });
}

function renderBug(error: unknown, paint: Paint): string {
  const stack = error instanceof Error ? error.stack : undefined;
  const message = error instanceof AssertionFailure ? error.message : describeError(error);
  return `${paint('red', 'hd:')} ${message}\n${stack ?? ''}\n  this is a bug in hd: please report it with the lines above\n`;
}
