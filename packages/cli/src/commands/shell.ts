import type { Invocation } from '../command.ts';
import { execInside } from './exec.ts';

export function run(invocation: Invocation): Promise<number> {
  return execInside(invocation, ['/bin/sh', '-c', 'if [ -x /bin/bash ]; then exec /bin/bash; else exec /bin/sh; fi']);
}
