import { copyFileSync, existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { BlobDigest, ByteString } from '@hyperdocker/base';
import { hasher, toText } from '@hyperdocker/base';

/**
 * Keeps a version of a file that has to give way: one file for each path and content.
 * @param from any name of the file on this machine
 * @returns where it is kept
 */
export function keepVersion(clashesDir: string, path: ByteString, digest: BlobDigest, from: string | Buffer): string {
  const name = [...(toText(path).split('/').at(-1) ?? '')].slice(-40).join('');
  const keptAt = join(clashesDir, `${hasher.hash(Buffer.from(path, 'latin1')).slice(0, 8)}-${digest.slice(0, 12)}-${name}`);
  mkdirSync(clashesDir, { recursive: true });
  if (!existsSync(keptAt)) copyFileSync(from, keptAt);
  return keptAt;
}
