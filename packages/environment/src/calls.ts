import type { Store } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import type { Home } from './home.ts';

/**
 * A command line, handed to the build server by `scripts/ask-server.pl` before a Node is started for it, which takes longer than all the rest of a build in which nothing has to run.
 *
 *   client ── fields with a NUL after each, then the end of its side ─▶ server
 *   client ◀─ "+", then "EXIT-CODE LENGTH\n", standard output of that length in bytes, standard error ── server
 *
 * An end before all of that: the command is not for the server, and Node shall run it.
 */
export interface Call {
  /** The program that would run it. */
  main: string;
  cwd: string;
  outIsTty: boolean;
  errIsTty: boolean;
  columns: number;
  rows: number;
  argv: string[];
  env: NodeJS.ProcessEnv;
}

export interface Answer { exitCode: number; out: string; err: string }

/** Undefined: Node shall run it, and tell what is wrong with it, should that be why. */
export type AnswerCall = (call: Call, within: { home: Home; store: Store; actions: ActionCache; signal: AbortSignal }) => Promise<Answer | undefined>;

const VERSION = 'hd-call/1';
/** The server has the call. Who does not hear it soon does not wait for a server that is busy. */
export const TAKEN = '+';

/** Undefined for what is none of this version. */
export function decodeCall(bytes: Buffer): Call | undefined {
  const [version, main, cwd, outIsTty, errIsTty, columns, rows, count, ...rest] = bytes.toString('utf8').split('\0');
  const args = Number(count);
  if (version !== VERSION || main === undefined || cwd === undefined || !(args >= 0 && args < rest.length)) return undefined;
  const env = rest.slice(args, -1).map((variable): [string, string] => {
    const equals = variable.indexOf('=', 1);
    return [variable.slice(0, equals), variable.slice(equals + 1)];
  });
  return { main, cwd, outIsTty: outIsTty === '1', errIsTty: errIsTty === '1', columns: Number(columns), rows: Number(rows), argv: rest.slice(0, args), env: Object.fromEntries(env) };
}

export function encodeAnswer({ exitCode, out, err }: Answer): Buffer {
  return Buffer.from(`${exitCode} ${Buffer.byteLength(out)}\n${out}${err}`);
}
