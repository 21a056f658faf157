import { HdError, describeError, isErrno } from '@hyperdocker/base';
import type { ObjectKind } from './reach.ts';

/** The errors of the store, each made in one place so that code and hint agree. */
export function objectMissing(kind: ObjectKind, digest: string): HdError {
  return new HdError('OBJECT_MISSING', `the store has no ${kind} ${digest}`, { hint: 'run `hd cas fsck` to see what else is missing', details: { kind, digest } });
}

export function objectCorrupt(kind: ObjectKind, digest: string, where: string, cause?: unknown): HdError {
  return new HdError('OBJECT_CORRUPT', `${kind} ${digest} in ${where} is damaged: its bytes have another digest`, {
    hint: 'run `hd cas fsck`; check the disk; the object must be made or fetched again',
    details: { kind, digest },
    ...(cause === undefined ? {} : { cause }),
  });
}

/** A root of gc of which a part is lost. */
export function storeIncomplete(ref: string, problem: string, cause?: unknown): HdError {
  return new HdError('STORE_INCOMPLETE', `${ref} is not whole, so nothing was removed: ${problem}`, {
    hint: 'run `hd cas fsck --repair`, which may still find it; what stays lost is given up with `hd cas gc --drop-lost`, and made again by the next build',
    details: { ref },
    ...(cause === undefined ? {} : { cause }),
  });
}

export function fileChanged(path: string | Buffer): HdError {
  return new HdError('FILE_CHANGED', `${path.toString()} changed while it was read`, { hint: 'try again once nothing writes to it' });
}

export function storeBusy(holder: string): HdError {
  return new HdError('STORE_BUSY', `the store is in use: ${holder}`, { hint: 'try again when it has ended', details: { holder } });
}

/** What is told already stays as it is. */
export function storeWrite(what: string, cause: unknown): HdError {
  if (cause instanceof HdError) return cause;
  const full = isErrno(cause, 'ENOSPC', 'EDQUOT') || sqliteCode(cause) === 13;
  const readOnly = isErrno(cause, 'EROFS', 'EACCES', 'EPERM') || sqliteCode(cause) === 8;
  return new HdError('STORE_WRITE', `cannot write ${what}: ${full ? 'the disk is full' : readOnly ? 'the store is read-only' : describeError(cause)}`, {
    hint: full ? 'free some space, for example with `hd cas gc`, and try again' : 'check the permissions and the mount of the store; nothing that it held is lost',
    cause,
  });
}

export function sqliteExtendedCode(error: unknown): number | undefined {
  return error instanceof Error && 'errcode' in error && typeof error.errcode === 'number' ? error.errcode : undefined;
}

/** The primary result code of a `node:sqlite` error. */
export function sqliteCode(error: unknown): number | undefined {
  const code = sqliteExtendedCode(error);
  return code === undefined ? undefined : code & 0xff;
}
