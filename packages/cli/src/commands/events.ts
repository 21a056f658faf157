import { HdError } from '@hyperdocker/base';
import { connectOrFail } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { Interrupts } from '../interrupts.ts';
import { locateProject } from '../project.ts';
import { FROM_NOW } from '../running.ts';

/** For programs: a line of JSON for each event, as `hd up --json` prints them. */
export async function run(invocation: Invocation): Promise<number> {
  const { args, flags, terminal } = invocation;
  const client = await connectOrFail(locateProject(invocation, args[0]).paths);
  const end = new AbortController();
  using _interrupts = new Interrupts(() => end.abort());
  try {
    for await (const event of client.events(flags.bool('all') ? 0 : FROM_NOW, AbortSignal.any([end.signal, terminal.closed]))) {
      terminal.out(`${JSON.stringify(event)}\n`);
      if (event.type === 'stopped') break;
    }
  } catch (error) {
    if (!(error instanceof HdError && error.code === 'NOT_RUNNING')) throw error;
  }
  return EXIT.ok;
}
