import type { PulledFile } from '@hyperdocker/environment';
import { connectOrFail } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { plural } from '../format.ts';
import { locateProject, pathInProject } from '../project.ts';
import { printable } from '../terminal.ts';
import { versionsText } from '../versions-text.ts';

/** Files of the running environment to the host. */
export async function run(invocation: Invocation): Promise<number> {
  const { terminal, args, flags, json, quiet } = invocation;
  const { project, paths } = locateProject(invocation);
  // Globs are paths too.
  const named = args.map((arg) => pathInProject(project, invocation, arg) || '**');
  const dryRun = flags.bool('dry-run');
  const { files, unmatched } = await (await connectOrFail(paths)).pull({ paths: named, dryRun, overwrite: flags.bool('overwrite') });
  const written = files.filter(({ outcome }) => outcome === 'written');
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.pull/1', dryRun, files, unmatched })}\n`);
  else {
    for (const file of files) terminal[file.outcome === 'written' ? 'out' : 'err'](quiet && file.outcome === 'written' ? '' : `${lineOf(file)}\n`);
    for (const path of unmatched) terminal.err(`${printable(path)} is not there inside\n`);
    if (!quiet) terminal.out(written.length === 0 ? 'Nothing to bring out.\n' : `${plural(written.length, 'file')} ${dryRun ? 'would be brought out' : 'brought out'}.\n`);
  }
  return written.length === files.length && unmatched.length === 0 ? EXIT.ok : EXIT.failure;
}

function lineOf(file: PulledFile): string {
  const path = printable(file.path);
  if (file.outcome === 'refused') return `refused ${path}: ${file.reason}`;
  if (file.outcome === 'written') return `${file.change === 'added' ? '+' : '~'} ${path}  ${versionsText(file)}${file.keptAt === undefined ? '' : `; the host's version is kept at ${file.keptAt}`}`;
  return `clash ${path}: changed on both sides, host ${versionsText({ host: file.host })}, inside ${versionsText({ inside: file.inside })}${file.keptAt === undefined ? '' : `; the one inside is kept at ${file.keptAt}`}`;
}
