import type { DoctorCheck } from '@hyperdocker/environment';
import { doctor, openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { plural } from '../format.ts';
import type { Paint, Style } from '../terminal.ts';

export async function run({ env, json, terminal }: Invocation): Promise<number> {
  const report = await doctor(openHome(env), { env });
  const failures = report.checks.filter(({ status }) => status === 'fail').length;
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.doctor/1', ...report })}\n`);
  else {
    for (const check of report.checks) terminal.out(renderCheck(check, terminal.outPaint));
    terminal.out(failures === 0 ? '\nThis machine can run environments.\n' : `\n${plural(failures, 'problem')} to solve before environments can run here.\n`);
  }
  return failures === 0 ? EXIT.ok : EXIT.failure;
}

const STYLES: Record<DoctorCheck['status'], Style> = { ok: 'green', warn: 'yellow', fail: 'red' };

function renderCheck({ status, title, detail, fix }: DoctorCheck, paint: Paint): string {
  const label = `${paint(STYLES[status], `[${status}]`)}${' '.repeat(4 - status.length)}`;
  return `${label} ${title}: ${detail}\n${fix === undefined ? '' : `       fix: ${fix}\n`}`;
}
