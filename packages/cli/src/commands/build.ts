import type { Invocation } from '../command.ts';
import { start } from './up.ts';

export function run(invocation: Invocation): Promise<number> {
  return start(invocation, { refreshImage: invocation.flags.bool('pull'), watch: false, buildOnly: true, until: 'stopped' });
}
