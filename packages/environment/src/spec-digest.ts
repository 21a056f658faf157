import { hasher } from '@hyperdocker/base';
import type { EnvSpec } from '@hyperdocker/spec';

/** Tells whether a root was made for this specification. */
export function specDigest(spec: EnvSpec): string {
  return hasher.hash(Buffer.from(JSON.stringify(spec)));
}
