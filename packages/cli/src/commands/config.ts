import { resolveSpec } from '@hyperdocker/spec';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';
import { printable } from '../terminal.ts';

/** hd.toml as it is understood. */
export async function run(invocation: Invocation): Promise<number> {
  const { args, json, quiet, terminal } = invocation;
  const { project, paths } = locateProject(invocation, args[0]);
  const { text } = loadSpec(project, terminal);
  if (quiet) return EXIT.ok;
  const { document, toml } = resolveSpec(text);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.config/1', id: paths.id, file: project.specFile, config: document })}\n`);
  else terminal.out(`${toml.split('\n').map((line) => printable(line)).join('\n')}`);
  return EXIT.ok;
}
