import type { Invocation } from '../command.ts';
import { start } from '../start.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { flags } = invocation;
  const timeoutSeconds = flags.number('wait-timeout');
  return start(invocation, {
    refreshImage: flags.bool('pull'),
    watch: !flags.bool('no-watch'),
    profiles: [...flags.list('profile'), ...(invocation.env['HD_PROFILES'] ?? '').split(',').filter((name) => name !== '')],
    noCache: flags.bool('no-cache'),
    until: flags.bool('detach') || flags.bool('wait') || timeoutSeconds !== undefined ? 'up' : 'stopped',
    ...(timeoutSeconds === undefined ? {} : { timeoutSeconds }),
  });
}
