import { statSync } from 'node:fs';
import { earlyOptions, parseCommandLine, usageError } from './args.ts';
import type { CommandLine } from './args.ts';
import { COMMANDS } from './commands.ts';
import { renderError } from './errors.ts';
import { EXIT } from './exit-code.ts';
import { renderCommandHelp, renderGroupHelp, renderOverview } from './help.ts';
import type { Terminal } from './terminal.ts';
import { processTerminal } from './terminal.ts';
import { hdVersion } from './version.ts';

/** Runs one command line to its end. @returns the exit code */
export async function runCommandLine(argv: string[]): Promise<number> {
  const { color, debug } = earlyOptions(argv, process.env);
  const terminal = processTerminal(color, process.env);
  try {
    const line = parseCommandLine(argv, COMMANDS, process.cwd());
    return await dispatch(line, terminal);
  } catch (error) {
    const { text, exitCode } = renderError(error, terminal.errPaint, { debug });
    terminal.err(text);
    return exitCode;
  }
}

async function dispatch(line: CommandLine, terminal: Terminal): Promise<number> {
  if (line.kind === 'version') {
    terminal.out(`hd ${hdVersion()}\n`);
    return EXIT.ok;
  }
  if (line.kind === 'help') {
    const text = line.topic !== undefined ? renderCommandHelp(line.topic, terminal.outPaint)
      : line.group !== undefined ? renderGroupHelp(line.group, COMMANDS, terminal.outPaint)
      : renderOverview(COMMANDS, terminal.outPaint);
    if (line.asked) terminal.out(text);
    else terminal.err(text);
    return line.asked ? EXIT.ok : EXIT.usage;
  }
  const { command, cwd, args, flags, json, quiet } = line;
  if (statSync(cwd, { throwIfNoEntry: false })?.isDirectory() !== true) throw usageError(`${cwd} is not a directory`);
  const { run } = await command.load();
  return run({ command, cwd, args, flags, json, quiet, env: process.env, terminal });
}
