import type { Invocation } from '../command.ts';
import { execInside } from './exec.ts';

export function run(invocation: Invocation): Promise<number> {
  return execInside(invocation, [], { detach: false });
}
