import { writeFileSync } from 'node:fs';
import { HdError, isErrno } from '@hyperdocker/base';

/** Writes a file that must not exist yet. @throws HdError FILE_EXISTS, WRITE_FAILED */
export function writeNew(file: string, text: string, hint: string): void {
  try {
    writeFileSync(file, text, { flag: 'wx' });
  } catch (cause) {
    if (!isErrno(cause, 'EEXIST')) throw new HdError('WRITE_FAILED', `cannot write ${file}`, { cause });
    throw new HdError('FILE_EXISTS', `${file} exists already; it was left as it is`, { hint });
  }
}
