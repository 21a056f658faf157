import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { COMMANDS } from '../commands.ts';
import { completionScript, isShell } from '../completion.ts';
import { EXIT } from '../exit-code.ts';

export async function run({ args, terminal }: Invocation): Promise<number> {
  const [shell = ''] = args;
  if (!isShell(shell)) throw usageError(`no completion for "${shell}"`, 'one of bash, zsh, fish');
  terminal.out(completionScript(shell, COMMANDS));
  return EXIT.ok;
}
