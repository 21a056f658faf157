import { HdError } from '@hyperdocker/base';
import type { LockFile } from '@hyperdocker/spec';
import { parseLock } from '@hyperdocker/spec';
import { shortDigest } from './format.ts';

/** What a new lock says that the old one does not, and the other way round: one line for each. */
export function lockDifference(previous: string | undefined, text: string): string[] {
  const now = parseLock(text);
  if (previous === undefined) return [];
  const old = parseOrUndefined(previous);
  if (old === undefined) return ['~ the old hd.lock cannot be read'];
  const lines: string[] = [];
  if (old.platform !== now.platform) lines.push(`~ platform ${old.platform} → ${now.platform}`);
  if (old.specDigest !== now.specDigest) lines.push(`~ hd.toml: [environment] or [dependencies] changed`);
  const before = new Map(old.packages.map((item) => [`${item.provider}/${item.name}`, item]));
  for (const item of now.packages) {
    const key = `${item.provider}/${item.name}`;
    const was = before.get(key);
    before.delete(key);
    if (was === undefined) lines.push(`+ ${key} ${item.version}`);
    else if (was.version !== item.version) lines.push(`~ ${key} ${was.version} → ${item.version}`);
    else if (was.artifact !== item.artifact) lines.push(`~ ${key} ${item.version}: ${shortDigest(was.artifact)} → ${shortDigest(item.artifact)}`);
  }
  for (const [key, { version }] of before) lines.push(`- ${key} ${version}`);
  return lines;
}

/** A lock with merge conflicts is made anew, not an error. */
function parseOrUndefined(text: string): LockFile | undefined {
  try {
    return parseLock(text);
  } catch (error) {
    if (error instanceof HdError && error.code === 'LOCK_INVALID') return undefined;
    throw error;
  }
}
