import { GLOBAL_FLAGS } from './args.ts';
import type { CommandGroup, CommandSpec, FlagSpec } from './command.ts';
import { EXIT_MEANINGS } from './exit-code.ts';
import type { Paint } from './terminal.ts';

const GROUPS: CommandGroup[] = ['Common', 'Project', 'Images', 'Graph and store', 'Other'];

/** `hd help` */
export function renderOverview(commands: readonly CommandSpec[], paint: Paint): string {
  const groups = GROUPS.map((group) => {
    const rows = commands.filter((command) => command.group === group).map(({ name, aliases = [], summary }): Row => [[name, ...aliases].join(', '), summary]);
    return section(paint, group === 'Images' ? group : `${group} commands`, rows);
  });
  return [
    'hd runs development environments in containers, and re-runs only what a change calls for.\n',
    `${paint('bold', 'Usage:')} hd [options] <command> [arguments]\n`,
    ...groups,
    section(paint, 'Options', flagRows(GLOBAL_FLAGS)),
    section(paint, 'Environment', [
      ['HD_HOME', 'where everything is kept (default ~/.hd)'],
      ['HD_FUSE=off', 'write trees out as files, without tracing'],
      ['HD_NO_INSTALL=1', 'never install a missing system package'],
    ]),
    section(paint, 'Examples', [
      ['hd init', 'write an hd.toml for the project here'],
      ['hd up', 'build it, run it, and keep it right while you edit'],
      ['hd exec -- npm test', 'run a command inside'],
      ['hd up -d && hd logs -f', 'run it in the background'],
    ]),
    section(paint, 'Exit codes', EXIT_MEANINGS),
    '`hd help <command>` tells more of one.\n',
  ].join('\n');
}

/** `hd help <command>` */
export function renderCommandHelp(command: CommandSpec, paint: Paint): string {
  const usage = ['hd', command.name, '[options]', command.usage].filter((part) => part !== '').join(' ');
  const aliases = command.aliases === undefined ? [] : [`${paint('bold', 'Also:')} ${command.aliases.map((alias) => `hd ${alias}`).join(', ')}\n`];
  const own = Object.keys(command.flags).length === 0 ? [] : [section(paint, 'Options', flagRows(command.flags))];
  return [
    `${command.summary}\n`,
    `${paint('bold', 'Usage:')} ${usage}\n`,
    ...aliases,
    ...own,
    section(paint, 'Global options', flagRows(GLOBAL_FLAGS)),
    section(paint, 'Examples', command.examples),
    section(paint, 'Exit codes', [...EXIT_MEANINGS, ...(command.exits ?? [])]),
  ].join('\n');
}

/** `hd help cas` */
export function renderGroupHelp(group: string, commands: readonly CommandSpec[], paint: Paint): string {
  const rows = commands.filter(({ name }) => name.startsWith(`${group} `)).map(({ name, summary }): Row => [name, summary]);
  return [`${paint('bold', 'Usage:')} hd ${group} <command>\n`, section(paint, 'Commands', rows)].join('\n');
}

type Row = [left: string, right: string];

function section(paint: Paint, title: string, rows: Row[]): string {
  const width = Math.max(...rows.map(([left]) => left.length));
  return `${paint('bold', `${title}:`)}\n${rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`.trimEnd()).join('\n')}\n`;
}

function flagRows(flags: Record<string, FlagSpec>): Row[] {
  return Object.entries(flags).map(([name, { short, value, help, type }]) => [
    `${short === undefined ? '    ' : `-${short}, `}--${name}${type === 'boolean' ? '' : ` ${value ?? 'VALUE'}`}`,
    type === 'list' ? `${help} (may be repeated)` : help,
  ]);
}
