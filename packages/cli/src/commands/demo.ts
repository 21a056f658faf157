import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { HdError } from '@hyperdocker/base';
import { plotSvg, runDemo } from '@hyperdocker/demo';
import { ensureSystemPackages } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { renderDemo } from '../demo-renderer.ts';
import { EXIT } from '../exit-code.ts';
import { loadSpec } from '../load-spec.ts';
import type { ProjectPlace } from '../project.ts';
import { locateProject } from '../project.ts';

const DEFAULT_ROUNDS = 5;

export async function run(invocation: Invocation): Promise<number> {
  const { flags, terminal, env, cwd, json, quiet } = invocation;
  const rounds = flags.number('rounds') ?? DEFAULT_ROUNDS;
  if (!Number.isSafeInteger(rounds) || rounds < 1) throw usageError('--rounds needs a number from 1');
  const plot = flags.text('plot');
  if (plot !== undefined && !plot.endsWith('.svg')) throw usageError(`--plot draws SVG, not ${plot}`, 'give the file a name that ends with .svg');
  const place = demoProject(invocation);
  const { spec } = loadSpec(place.project, terminal);
  await ensureSystemPackages({
    needs: { runtime: true, mmdebstrap: spec.environment.base.startsWith('apt://') }, allowInstall: env['HD_NO_INSTALL'] !== '1', onMessage: (message) => terminal.err(`${message}\n`),
  });
  let last = '';
  const report = await untilInterrupted(runDemo({
    ...place, env, rounds, hd: [process.execPath, ...process.execArgv, process.argv[1] ?? ''], docker: flags.bool('no-docker') ? 'leave-out' : 'use',
    onProgress: (text) => {
      if (!quiet && text !== last) terminal.err(`${terminal.errPaint('dim', text)}\n`);
      last = text;
    },
  }));
  if (plot !== undefined) writePlot(resolve(cwd, plot), plotSvg(report));
  terminal.out(json ? `${JSON.stringify({ schema: 'hd.demo/1', ...report })}\n` : renderDemo(report, terminal.outPaint));
  return EXIT.ok;
}

/** The one that is named, or where we are; where that is none, the one that comes with hd. @throws HdError USAGE, NO_PROJECT */
function demoProject(invocation: Invocation): ProjectPlace {
  try {
    return locateProject(invocation, invocation.args[0]);
  } catch (error) {
    if (invocation.args.length > 0 || !(error instanceof HdError && error.code === 'NO_PROJECT')) throw error;
    return locateProject(invocation, fileURLToPath(new URL('../../../../examples/flask-demo', import.meta.url)));
  }
}

/** Ctrl-C ends this process at once: what it has made is cleaned up by what waits for that. */
async function untilInterrupted<T>(work: Promise<T>): Promise<T> {
  const interrupted = Promise.withResolvers<never>();
  const stop = (): void => interrupted.reject(new HdError('INTERRUPTED', 'stopped; what the demo has made goes now'));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, stop);
  return await Promise.race([work, interrupted.promise]);
}

/** @throws HdError PLOT_WRITE */
function writePlot(file: string, svg: string): void {
  try {
    writeFileSync(file, svg);
  } catch (cause) {
    throw new HdError('PLOT_WRITE', `cannot write ${file}`, { cause });
  }
}
