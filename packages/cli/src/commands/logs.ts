import { watch } from 'node:fs';
import { HdError } from '@hyperdocker/base';
import type { SupervisorClient } from '@hyperdocker/environment';
import { connect, requireServices } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { Interrupts } from '../interrupts.ts';
import type { LogEntry } from '../log-file.ts';
import { LogFile } from '../log-file.ts';
import { LogPrefix } from '../log-prefix.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';
import { FROM_NOW } from '../running.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { terminal, args, flags } = invocation;
  const place = locateProject(invocation);
  const known = loadSpec(place.project, terminal).spec.services.map(({ name }) => name);
  requireServices(known, args);
  const names = args.length === 0 ? known : args;
  const files = names.map((name) => new LogFile(name, place.paths.logsDir));
  const sinceMs = sinceFlag(flags.text('since'), Date.now());
  const print = printer(invocation, known);
  // Connected before reading: an end that comes meanwhile is then seen.
  const client = flags.bool('follow') ? await connect(place.paths) : undefined;
  const tail = flags.number('tail') ?? Infinity;
  print(byTime(files.map((file) => file.read().filter(({ t }) => t >= sinceMs).slice(tail === Infinity ? 0 : -tail || Infinity))));
  if (client !== undefined) await follow(client, files, place.paths.logsDir, print, terminal.closed);
  return EXIT.ok;
}

/** The files are what is shown; the directory's events say when to look, and the supervisor's when to stop. */
async function follow(client: SupervisorClient, files: readonly LogFile[], logsDir: string, print: (entries: LogEntry[]) => void, closed: AbortSignal): Promise<void> {
  const end = new AbortController();
  using _interrupts = new Interrupts(() => end.abort());
  const look = (): void => print(byTime(files.map((file) => file.read())));
  const watcher = watch(logsDir, look);
  try {
    look();
    for await (const event of client.events(FROM_NOW, AbortSignal.any([end.signal, closed]))) if (event.type === 'stopped') break;
    look();
  } catch (error) {
    // Nobody is there any more: what was written has been shown.
    if (!(error instanceof HdError && error.code === 'NOT_RUNNING')) throw error;
  } finally {
    watcher.close();
  }
}

const UNITS_MS: Record<string, number> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** Milliseconds since the epoch. @throws HdError USAGE */
function sinceFlag(text: string | undefined, nowMs: number): number {
  if (text === undefined) return 0;
  const [, amount, unit] = /^([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)$/.exec(text) ?? [];
  if (amount !== undefined && unit !== undefined) return nowMs - Number(amount) * (UNITS_MS[unit] ?? 0);
  const atMs = Date.parse(text);
  if (Number.isNaN(atMs)) throw usageError(`--since needs a time, not "${text}"`, 'such as 30s, 10m, 2h, or 2026-01-31T12:00');
  return atMs;
}

function byTime(entries: LogEntry[][]): LogEntry[] {
  return entries.flat().toSorted((a, b) => a.t - b.t);
}

function printer({ terminal, json }: Invocation, services: readonly string[]): (entries: LogEntry[]) => void {
  const prefix = new LogPrefix(services);
  return (entries) => {
    for (const entry of entries) {
      if (json) {
        terminal.out(`${JSON.stringify(entry)}\n`);
        continue;
      }
      const [write, paint] = entry.stream === 'stdout' ? [terminal.out, terminal.outPaint] as const : [terminal.err, terminal.errPaint] as const;
      for (const line of prefix.lines(entry.service, entry.text, paint)) write(`${line}\n`);
    }
  };
}
