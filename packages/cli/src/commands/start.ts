import { HdError } from '@hyperdocker/base';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';
import { reach } from '../reach.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { args, quiet, json, terminal } = invocation;
  const client = await reach(locateProject(invocation), invocation);
  const failed = await client.startServices(args);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.start/1', services: args, failed })}\n`);
  if (failed.length > 0) throw new HdError('SERVICE_FAILED', `not running: ${failed.join(', ')}`, { hint: 'see `hd logs`' });
  if (!quiet && !json) terminal.out(`Started ${args.length === 0 ? 'all services' : args.join(', ')}.\n`);
  return EXIT.ok;
}
