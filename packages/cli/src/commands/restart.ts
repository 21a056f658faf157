import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';
import { reach } from '../reach.ts';

export async function run(invocation: Invocation): Promise<number> {
  const client = await reach(locateProject(invocation), invocation);
  await client.restart(invocation.args);
  if (!invocation.quiet && !invocation.json) invocation.terminal.out(`Restarting ${invocation.args.length === 0 ? 'all services' : invocation.args.join(', ')}.\n`);
  return EXIT.ok;
}
