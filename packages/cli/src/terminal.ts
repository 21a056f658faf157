import { isatty, type WriteStream } from 'node:tty';
import type { LiveOutput } from './live-region.ts';

/** Where a command writes: data and progress to `out`, diagnostics to `err`. */
export interface Terminal {
  out(text: string): void;
  err(text: string): void;
  outPaint: Paint;
  errPaint: Paint;
  /** Both ends of a conversation are a person's. */
  isInteractive: boolean;
  /** Where lines may be drawn over for a while (live-region.ts): `out` and `err` are one terminal that understands it. */
  live: LiveOutput | undefined;
  /** Aborts when nobody reads the output any more, as in `hd logs | head`. */
  closed: AbortSignal;
}

export type Style = 'bold' | 'dim' | 'red' | 'green' | 'yellow' | 'blue' | 'magenta' | 'cyan';

/** Gives text a style, or leaves it as it is. */
export interface Paint {
  readonly enabled: boolean;
  (style: Style, text: string): string;
}

const CODES: Record<Style, [on: number, off: number]> = {
  bold: [1, 22], dim: [2, 22], red: [31, 39], green: [32, 39], yellow: [33, 39], blue: [34, 39], magenta: [35, 39], cyan: [36, 39],
};

export function makePaint(enabled: boolean): Paint {
  const paint = (style: Style, text: string): string => {
    const [on, off] = CODES[style];
    return enabled && text !== '' ? `\u001b[${on}m${text}\u001b[${off}m` : text;
  };
  return Object.assign(paint, { enabled });
}

export type ColorMode = 'auto' | 'always' | 'never';

/** NO_COLOR wins over FORCE_COLOR, and an option over both. */
export function wantsColor(mode: ColorMode, isTty: boolean, env: NodeJS.ProcessEnv): boolean {
  if (mode !== 'auto') return mode === 'always';
  if ((env['NO_COLOR'] ?? '') !== '') return false;
  const force = env['FORCE_COLOR'] ?? env['CLICOLOR_FORCE'];
  if (force !== undefined && force !== '') return force !== '0' && force !== 'false';
  return isTty && env['TERM'] !== 'dumb';
}

/** The terminal of this process. */
export function processTerminal(mode: ColorMode, env: NodeJS.ProcessEnv): Terminal {
  const closed = new AbortController();
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => closed.abort());
  return terminalOn({ out: process.stdout, err: process.stderr }, { mode, env, isInteractive: isatty(0) && isatty(1), closed: closed.signal });
}

type End = Pick<WriteStream, 'isTTY' | 'columns' | 'rows'> & { write(text: string): unknown };

/** @param ends of a process; columns and rows count where they are a terminal's */
export function terminalOn({ out, err }: { out: End; err: End }, { mode, env, isInteractive, closed }: { mode: ColorMode; env: NodeJS.ProcessEnv; isInteractive: boolean; closed: AbortSignal }): Terminal {
  const write = (end: End, text: string): void => {
    if (!closed.aborted) end.write(text);
  };
  const drawsOver = out.isTTY && err.isTTY && (env['TERM'] ?? 'dumb') !== 'dumb' && (env['CI'] ?? '') === '';
  return {
    out: (text) => write(out, text),
    err: (text) => write(err, text),
    outPaint: makePaint(wantsColor(mode, out.isTTY, env)),
    errPaint: makePaint(wantsColor(mode, err.isTTY, env)),
    live: drawsOver ? { write: (text) => write(out, text), columns: () => out.columns, rows: () => out.rows } : undefined,
    isInteractive,
    closed,
  };
}

/** What a program printed, safe to show: no escape codes or control characters but tabs. Colours may stay where colour is wanted. */
export function printable(text: string, keepColor = false): string {
  const plain = keepColor ? text.replace(/\u001b\[(?![\d;]*m)[0-?]*[ -/]*[@-~]/g, '') : text.replace(/\u001b\[[0-?]*[ -/]*[@-~]/g, '');
  const bare = plain.replace(/\u001b\][^\u0007\u001b]*(\u0007|\u001b\\)/g, '');
  return bare.replace(keepColor ? /[\u0000-\u0008\u000a-\u001a\u001c-\u001f\u007f]/g : /[\u0000-\u0008\u000a-\u001f\u007f]/g, '');
}
