import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { lockProject } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { plural } from '../format.ts';
import { lockDifference } from '../lock-difference.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { args, flags, json, quiet, terminal } = invocation;
  const { home, project } = locateProject(invocation, args[0]);
  loadSpec(project, terminal);
  const { text, changed, previous, packages } = lockProject({ home, project });
  const difference = changed ? lockDifference(previous, text) : [];
  const check = flags.bool('check');
  const file = join(project.dir, 'hd.lock');
  if (changed && !check) {
    writeFileSync(`${file}.tmp`, text);
    renameSync(`${file}.tmp`, file);
  }
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.lock/1', file, changed, packages, difference })}\n`);
  else if (!quiet) {
    for (const line of difference) terminal.out(`  ${terminal.outPaint(line.startsWith('+') ? 'green' : line.startsWith('-') ? 'red' : 'yellow', line)}\n`);
    if (!check) terminal.out(changed ? `Wrote hd.lock: ${plural(packages, 'package')}.\n` : `hd.lock is up to date: ${plural(packages, 'package')}.\n`);
  }
  if (check && changed) throw new HdError('LOCK_STALE', previous === undefined ? 'there is no hd.lock' : 'hd.lock is out of date', { hint: 'run `hd lock`' });
  if (check && !json && !quiet) terminal.out(`hd.lock is up to date: ${plural(packages, 'package')}.\n`);
  return EXIT.ok;
}
