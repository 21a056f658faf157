import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';
import { reach } from '../reach.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { args, quiet, json, terminal } = invocation;
  const client = await reach(locateProject(invocation), invocation);
  await client.stopServices(args);
  if (!quiet && !json) terminal.out(`Stopped ${args.length === 0 ? 'all services' : args.join(', ')}.\n`);
  return EXIT.ok;
}
