import { besideStore, listVolumes, openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatBytes } from '../format.ts';
import { loadSpec } from '../load-spec.ts';
import { locateProject } from '../project.ts';
import { table } from '../store-shares.ts';
import { printable } from '../terminal.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { terminal, json, quiet, args, flags } = invocation;
  if (flags.bool('all')) return listAll(invocation);
  const { paths, project } = locateProject(invocation, args[0]);
  const { spec } = loadSpec(project, terminal);
  const kept = listVolumes(paths);
  const volumes = [
    ...kept.map((volume) => ({ ...volume, used: spec.volumes.includes(volume.name) })),
    ...spec.volumes.filter((name) => kept.every((volume) => volume.name !== name)).map((name) => ({ name, path: null, sizeBytes: 0, used: true })),
  ].sort((a, b) => (a.name < b.name ? -1 : 1));
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.volumes/1', volumes })}\n`);
  else if (quiet) for (const { name } of volumes) terminal.out(`${name}\n`);
  else if (volumes.length === 0) terminal.out('No volumes.\n');
  else {
    const width = Math.max(...volumes.map(({ name }) => name.length));
    for (const { name, path, sizeBytes, used } of volumes) terminal.out(`${name.padEnd(width)}  ${path === null ? 'not made yet' : formatBytes(sizeBytes)}${used ? '' : ', no longer in hd.toml'}\n`);
  }
  return EXIT.ok;
}

/** Of all environments of this home, those of projects that are gone too. */
function listAll({ env, terminal, json, quiet }: Invocation): number {
  const { volumes } = besideStore(openHome(env));
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.volumes/1', volumes })}\n`);
  else if (quiet) for (const { name } of volumes) terminal.out(`${name}\n`);
  else if (volumes.length === 0) terminal.out('No volumes.\n');
  else for (const line of table(volumes.map(({ name, sizeBytes, environment, project, gone }) => [name, formatBytes(sizeBytes), `${project ?? environment}${gone ? ', which is gone' : ''}`]))) terminal.out(`${printable(line.trimStart())}\n`);
  return EXIT.ok;
}
