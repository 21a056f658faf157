import { connectOrFail } from '@hyperdocker/environment';
import { changedLine } from '../changed-line.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { plural } from '../format.ts';
import { locateProject } from '../project.ts';

/** More of them say less. */
const SHOWN = 20;

export async function run(invocation: Invocation): Promise<number> {
  const { terminal, quiet, json, args } = invocation;
  const client = await connectOrFail(locateProject(invocation, args[0]).paths);
  const { dropped, failed } = await client.reset();
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.reset/1', dropped, failed })}\n`);
  else if (!quiet) {
    const more = dropped.length > SHOWN ? `… and ${dropped.length - SHOWN} more\n` : '';
    terminal.out(`${dropped.slice(0, SHOWN).map(changedLine).join('')}${more}Dropped ${plural(dropped.length, 'change')}. The files are as they were built.\n`);
  }
  if (failed.length > 0) terminal.err(`not running: ${failed.join(', ')}\n`);
  return failed.length === 0 ? EXIT.ok : EXIT.failure;
}
