import { HdError } from '@hyperdocker/base';
import { connect, findLeft, removeVolumes } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { terminal, json, quiet, args } = invocation;
  const { paths } = locateProject(invocation);
  if ((await connect(paths)) !== undefined || findLeft(paths) !== undefined) throw new HdError('VOLUME_IN_USE', 'the environment is running, and may use its volumes', { hint: 'stop it first: `hd down`' });
  removeVolumes(paths, args);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.volume.rm/1', removed: args })}\n`);
  else if (!quiet) terminal.out(`Removed ${args.join(', ')}\n`);
  return EXIT.ok;
}
