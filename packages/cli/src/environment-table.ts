import type { ListedEnvironment } from '@hyperdocker/environment';
import { listEnvironments, openHome } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { EXIT } from './exit-code.ts';
import { displayWidth } from './format.ts';
import { beside, isNarrow, wrap } from './narrow.ts';
import type { Paint } from './terminal.ts';
import { printable } from './terminal.ts';

/** `hd ps --all`: every environment of this home. */
export async function listAll({ env, json, terminal }: Invocation): Promise<number> {
  const environments = await listEnvironments(openHome(env));
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.environments/1', environments })}\n`);
  else terminal.out(environments.length === 0 ? 'There are no environments.\n' : renderEnvironments(environments, terminal.outPaint, terminal.live?.columns()));
  return EXIT.ok;
}

/** A line for each, in columns. Ports of those that are down are the ones that they had last. */
export function renderEnvironments(environments: readonly ListedEnvironment[], paint: Paint, columns?: number): string {
  if (isNarrow(columns)) return environments.flatMap((environment) => block(environment, paint, columns)).map((line) => `${line}\n`).join('');
  const withVolumes = environments.some(({ volumes }) => volumes.length > 0);
  const rows = environments.map(({ name, state, services, volumes, project }) => [printable(name), state, portsText(services), ...(withVolumes ? [printable(volumes.join(', ') || '-')] : []), printable(project)]);
  const table = [['NAME', 'STATE', 'PORTS', ...(withVolumes ? ['VOLUMES'] : []), 'DIRECTORY'], ...rows];
  const widths = table[0]!.slice(0, -1).map((_, column) => column).map((column) => Math.max(...table.map((row) => displayWidth(row[column] ?? ''))));
  return table.map((row, index) => {
    const line = row.map((cell, column) => cell + ' '.repeat(Math.max(0, (widths[column] ?? 0) - displayWidth(cell)))).join('  ').trimEnd();
    const style = index === 0 ? 'bold' : environments[index - 1]?.pid === null ? 'dim' : undefined;
    return `${style === undefined ? line : paint(style, line)}\n`;
  }).join('');
}

/** For a narrow terminal. */
function block({ name, state, pid, services, volumes, project }: ListedEnvironment, paint: Paint, columns: number): string[] {
  const [head = '', ...more] = wrap(`${printable(name)} ${state}`, columns);
  const ports = portsText(services);
  const below = [...(ports === '-' ? [] : [ports]), ...(volumes.length === 0 ? [] : [`volumes ${printable(volumes.join(', '))}`]), printable(project)].flatMap((text) => beside('', text, { columns, width: 2 }));
  return [paint(pid === null ? 'dim' : 'bold', head), ...more, ...below];
}

function portsText(services: ListedEnvironment['services']): string {
  return services.flatMap(({ name, port }) => (port === null ? [] : [`${name}:${port}`])).join(', ') || '-';
}
