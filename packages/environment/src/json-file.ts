import { readFileSync, renameSync, writeFileSync } from 'node:fs';
import { isErrno } from '@hyperdocker/base';

/** Whole or not at all, and readable by its owner alone. */
export function writeJson(file: string, value: object): void {
  writeFileSync(`${file}.new`, JSON.stringify(value), { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

/** Undefined: there is none, or it is no JSON. What it holds is for the caller to check. */
export function readJson(file: string): unknown {
  try {
    return JSON.parse(readFileSync(file, 'utf8'));
  } catch (error) {
    if (error instanceof SyntaxError || isErrno(error, 'ENOENT', 'ENOTDIR')) return undefined;
    throw error;
  }
}
