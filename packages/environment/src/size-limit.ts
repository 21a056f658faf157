import { statfsSync } from 'node:fs';
import { HdError } from '@hyperdocker/base';
import type { Home } from './home.ts';

/** Beyond this, a store that nobody tends is more likely forgotten than wanted. */
const MOST_BYTES = 20 * 2 ** 30;
const SHARE_OF_DISK = 0.1;
/** A base image with its tools fits. */
const LEAST_BYTES = 2 ** 30;
const UNITS = ['', 'K', 'M', 'G', 'T'];

/** `512M`, `20 GB`, `1.5GiB`: units of 1024; `none`: Infinity. Undefined for what is none of these. */
export function parseSize(text: string): number | undefined {
  if (text.trim().toLowerCase() === 'none') return Infinity;
  const [, number = '', unit = ''] = /^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*$/i.exec(text) ?? [];
  return number === '' ? undefined : Math.floor(Number(number) * 1024 ** UNITS.indexOf(unit.toUpperCase()));
}

/**
 * How large the store may become, in bytes: HD_STORE_MAX, else a tenth of the disk that it is on, at most 20 GB and at least 1 GB. Infinity: no limit.
 * @throws HdError STORE_MAX_INVALID
 */
export function storeLimit(home: Home, env: NodeJS.ProcessEnv): number {
  const text = env['HD_STORE_MAX'] ?? '';
  if (text === '') {
    const { blocks, bsize } = statfsSync(home.dir);
    return Math.max(LEAST_BYTES, Math.min(MOST_BYTES, Math.floor(blocks * bsize * SHARE_OF_DISK)));
  }
  const bytes = parseSize(text);
  if (bytes === undefined) throw new HdError('STORE_MAX_INVALID', `HD_STORE_MAX=${text} is not a size`, { hint: 'such as 20GB or 800M, or none for no limit' });
  return bytes;
}
