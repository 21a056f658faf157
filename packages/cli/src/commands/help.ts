import { commandWords, usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { COMMANDS } from '../commands.ts';
import { EXIT } from '../exit-code.ts';
import { renderCommandHelp, renderGroupHelp, renderOverview } from '../help.ts';
import { nearest } from '../suggest.ts';

export async function run({ args, terminal }: Invocation): Promise<number> {
  const topic = args.join(' ');
  const command = COMMANDS.find(({ name, aliases = [] }) => name === topic || aliases.includes(topic));
  if (topic === '') terminal.out(renderOverview(COMMANDS, terminal.outPaint));
  else if (command !== undefined) terminal.out(renderCommandHelp(command, terminal.outPaint));
  else if (COMMANDS.some(({ name }) => name.startsWith(`${topic} `))) terminal.out(renderGroupHelp(topic, COMMANDS, terminal.outPaint));
  else {
    const near = nearest(topic, [...commandWords(COMMANDS), ...COMMANDS.map(({ name }) => name)]);
    throw usageError(`no help for "${topic}": there is no such command`, near === undefined ? undefined : `did you mean \`hd help ${near}\`?`);
  }
  return EXIT.ok;
}
