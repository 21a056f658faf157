import type { AnswerCall } from '@hyperdocker/environment';
import { buildAtHand } from '@hyperdocker/environment';
import { earlyOptions, parseCommandLine } from './args.ts';
import type { Invocation } from './command.ts';
import { COMMANDS } from './commands.ts';
import { isOfDockerfile } from './commands/build.ts';
import { destinationOf, requestOf, tellBuilt } from './commands/build-image.ts';
import { EventDisplay } from './event-display.ts';
import { EXIT } from './exit-code.ts';
import { terminalOn } from './terminal.ts';

/** Answers `hd build -f` as that command would, where nothing has to run for it. */
export const answerCall: AnswerCall = async ({ argv, cwd, env, outIsTty, errIsTty, columns, rows }, { home, store, actions, signal }) => {
  const line = parseCommandLine(argv, COMMANDS, cwd);
  if (line.kind !== 'run' || line.command.name !== 'build') return undefined;
  let [out, err] = ['', ''];
  const ends = { out: { isTTY: outIsTty, write: (text: string) => void (out += text), columns, rows }, err: { isTTY: errIsTty, write: (text: string) => void (err += text), columns, rows } };
  const invocation: Invocation = { ...line, env, terminal: terminalOn(ends, { mode: earlyOptions(argv, env).color, env, isInteractive: false, closed: signal }) };
  if (!isOfDockerfile(invocation) || mayRun(invocation)) return undefined;
  const request = await requestOf(invocation, undefined);
  // What makes a Debian may be missing, and is looked for by Node.
  if (request.text.includes('apt://')) return undefined;
  const built = await (async () => {
    using display = new EventDisplay(invocation, { services: [], specText: request.text, buildOnly: true });
    return await buildAtHand(request, { home, store, actions, env, signal, emit: (event) => display.show(event) });
  })();
  if (built === undefined) return undefined;
  tellBuilt(invocation, built);
  return { exitCode: EXIT.ok, out, err };
};

/** Runs a command, fetches, sends, reads standard input, or tells something else. */
function mayRun(invocation: Invocation): boolean {
  const { flags } = invocation;
  return ['dry-run', 'no-cache', 'pull'].some((name) => flags.bool(name)) || flags.text('file') === '-' || destinationOf(invocation) !== undefined;
}
