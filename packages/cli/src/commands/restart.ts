import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';
import { reach } from '../reach.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { args, quiet, json, terminal } = invocation;
  const client = await reach(locateProject(invocation), invocation);
  await client.restart(args);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.restart/1', services: args })}\n`);
  else if (!quiet) terminal.out(`Restarting ${args.length === 0 ? 'all services' : args.join(', ')}.\n`);
  return EXIT.ok;
}
