import type { BigIntStats } from 'node:fs';
import { lstatSync } from 'node:fs';
import { isErrno } from './error.ts';

/**
 * What is at a path, without following a link; undefined for nothing. `throwIfNoEntry: false` alone still throws where a parent has become
 * a file meanwhile.
 */
export function lstatIfAny(path: string | Buffer): BigIntStats | undefined {
  try {
    return lstatSync(path, { bigint: true, throwIfNoEntry: false });
  } catch (error) {
    if (isErrno(error, 'ENOTDIR')) return undefined;
    throw error;
  }
}
