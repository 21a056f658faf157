import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { HdError } from '@hyperdocker/base';
import type { CommandSpec, FlagSpec, FlagValue } from './command.ts';
import { Flags } from './command.ts';
import { nearest } from './suggest.ts';
import type { ColorMode } from './terminal.ts';

export const GLOBAL_FLAGS: Record<string, FlagSpec> = {
  'project-directory': { type: 'text', short: 'C', value: 'DIR', help: 'work as if started in DIR' },
  json: { type: 'boolean', help: 'print data for programs: one document, or one line for each event' },
  color: { type: 'text', value: 'WHEN', help: 'auto, always or never (also NO_COLOR, FORCE_COLOR)' },
  quiet: { type: 'boolean', short: 'q', help: 'no progress' },
  debug: { type: 'boolean', help: 'say more about errors (also HD_DEBUG=1)' },
  help: { type: 'boolean', short: 'h', help: 'show help' },
  version: { type: 'boolean', help: 'show the version' },
};

export type CommandLine =
  | { kind: 'help'; topic: CommandSpec | undefined; /** Of two-word commands, such as `cas`. */ group?: string; asked: boolean }
  | { kind: 'version' }
  | { kind: 'run'; command: CommandSpec; cwd: string; args: string[]; flags: Flags; json: boolean; quiet: boolean };

/** Options that count before the command line is understood, because errors are shown by them. */
export function earlyOptions(argv: readonly string[], env: NodeJS.ProcessEnv): { color: ColorMode; debug: boolean } {
  const { values } = parseArgs({ args: [...argv], options: { color: { type: 'string' }, debug: { type: 'boolean' } }, strict: false });
  const color = values['color'] === 'always' || values['color'] === 'never' ? values['color'] : 'auto';
  return { color, debug: values['debug'] === true || !['', '0', undefined].includes(env['HD_DEBUG']) };
}

/** @throws HdError USAGE */
export function parseCommandLine(argv: readonly string[], commands: readonly CommandSpec[], cwd: string): CommandLine {
  const words = positionalIndexes(argv, GLOBAL_FLAGS);
  const found = findCommand(argv, words, commands);
  if (found.kind !== 'command') return withoutCommand(argv, found.group, commands);
  const { command } = found;
  const rest = argv.filter((_, i) => !found.indexes.includes(i));
  const known = { ...GLOBAL_FLAGS, ...command.flags };
  const { options, args } = splitArguments(rest, known, command.passThrough === true);
  const values = readOptions(options, known, command.name);
  if (values.get('help') === true) return { kind: 'help', topic: command, asked: true };
  if (values.get('version') === true) return { kind: 'version' };
  checkColor(values);
  checkCount(command, args);
  const directory = values.get('project-directory');
  return {
    kind: 'run', command, args,
    cwd: typeof directory === 'string' ? resolve(cwd, directory) : cwd,
    flags: new Flags(known, values),
    json: values.get('json') === true,
    quiet: values.get('quiet') === true,
  };
}

export function usageError(message: string, hint?: string): HdError {
  return new HdError('USAGE', message, { hint: hint ?? 'see `hd help`' });
}

type Found = { kind: 'command'; command: CommandSpec; indexes: number[] } | { kind: 'none'; group?: string };

/** The command may stand after global options, and may be two words. */
function findCommand(argv: readonly string[], words: number[], commands: readonly CommandSpec[]): Found {
  const [first, second] = words;
  if (first === undefined) return { kind: 'none' };
  const [one, two] = [argv[first] ?? '', second === undefined ? undefined : argv[second]];
  const single = commands.find(({ name, aliases = [] }) => name === one || aliases.includes(one));
  if (single !== undefined) return { kind: 'command', command: single, indexes: [first] };
  const group = commands.filter(({ name }) => name.startsWith(`${one} `));
  if (group.length === 0) throw unknownCommand(one, commandWords(commands));
  if (two === undefined || second === undefined) return { kind: 'none', group: one };
  const double = group.find(({ name }) => name === `${one} ${two}`);
  if (double === undefined) throw unknownCommand(`${one} ${two}`, group.map(({ name }) => name));
  return { kind: 'command', command: double, indexes: [first, second] };
}

function unknownCommand(word: string, known: string[]): HdError {
  const near = nearest(word, known);
  return usageError(`unknown command "${word}"`, near === undefined ? undefined : `did you mean \`hd ${near}\`?`);
}

/** What can follow `hd` as the first word. */
export function commandWords(commands: readonly CommandSpec[]): string[] {
  return [...new Set(commands.flatMap(({ name, aliases = [] }) => [name.split(' ')[0] ?? name, ...aliases]))];
}

function withoutCommand(argv: readonly string[], group: string | undefined, commands: readonly CommandSpec[]): CommandLine {
  const options = group === undefined ? argv : argv.filter((arg) => arg !== group);
  const values = readOptions(options, GLOBAL_FLAGS, undefined);
  if (values.get('version') === true) return { kind: 'version' };
  if (values.get('help') !== true && group !== undefined) {
    const names = commands.filter(({ name }) => name.startsWith(`${group} `)).map(({ name }) => `\`hd ${name}\``);
    throw usageError(`\`hd ${group}\` needs one more word`, `one of ${names.join(', ')}`);
  }
  return { kind: 'help', topic: undefined, asked: values.get('help') === true, ...(group === undefined ? {} : { group }) };
}

function toParseOptions(flags: Record<string, FlagSpec>): Record<string, { type: 'boolean' | 'string'; multiple: boolean; short?: string }> {
  return Object.fromEntries(Object.entries(flags).map(([name, { type, short }]) => [
    name, { type: type === 'boolean' ? 'boolean' : 'string', multiple: true, ...(short === undefined ? {} : { short }) } as const,
  ]));
}

function tokensOf(args: readonly string[], flags: Record<string, FlagSpec>) {
  return parseArgs({ args: [...args], options: toParseOptions(flags), strict: false, allowPositionals: true, tokens: true }).tokens;
}

function positionalIndexes(args: readonly string[], flags: Record<string, FlagSpec>): number[] {
  return tokensOf(args, flags).flatMap((token) => (token.kind === 'positional' ? [token.index] : []));
}

function splitArguments(rest: readonly string[], flags: Record<string, FlagSpec>, passThrough: boolean): { options: string[]; args: string[] } {
  const tokens = tokensOf(rest, flags);
  if (!passThrough) {
    const positional = new Set(tokens.flatMap((token) => (token.kind === 'option' ? [] : [token.index])));
    const args = tokens.flatMap((token) => (token.kind === 'positional' ? [token.value] : []));
    return { options: rest.filter((_, i) => !positional.has(i)), args };
  }
  const first = tokens.find((token) => token.kind !== 'option');
  if (first === undefined) return { options: [...rest], args: [] };
  return { options: rest.slice(0, first.index), args: rest.slice(first.kind === 'option-terminator' ? first.index + 1 : first.index) };
}

function readOptions(args: readonly string[], flags: Record<string, FlagSpec>, command: string | undefined): Map<string, FlagValue> {
  const values = new Map<string, FlagValue>();
  for (const token of tokensOf(args, flags)) {
    if (token.kind !== 'option') continue;
    const spec = flags[token.name];
    if (spec === undefined) throw unknownFlag(token.rawName, flags, command);
    const value = readValue(token.rawName, token.value, spec);
    const before = values.get(token.name);
    values.set(token.name, spec.type === 'list' ? [...(Array.isArray(before) ? before : []), String(value)] : value);
  }
  return values;
}

function readValue(rawName: string, value: string | undefined, spec: FlagSpec): FlagValue {
  if (spec.type === 'boolean') {
    if (value !== undefined) throw usageError(`${rawName} takes no value`);
    return true;
  }
  if (value === undefined) throw usageError(`${rawName} needs a value: ${rawName} ${spec.value ?? 'VALUE'}`);
  if (spec.type !== 'number') return value;
  const number = Number(value);
  if (value.trim() === '' || !Number.isFinite(number) || number < 0) throw usageError(`${rawName} needs a number, not "${value}"`);
  return number;
}

function unknownFlag(rawName: string, flags: Record<string, FlagSpec>, command: string | undefined): HdError {
  const near = rawName.startsWith('--') ? nearest(rawName.slice(2), Object.keys(flags)) : undefined;
  const where = command === undefined ? '' : ` for \`hd ${command}\``;
  return usageError(`unknown option ${rawName}${where}`, near === undefined ? `see \`hd help${command === undefined ? '' : ` ${command}`}\`` : `did you mean --${near}?`);
}

function checkColor(values: ReadonlyMap<string, FlagValue>): void {
  const color = values.get('color');
  if (color !== undefined && !['auto', 'always', 'never'].includes(String(color))) throw usageError(`--color is auto, always or never, not "${String(color)}"`);
}

function checkCount(command: CommandSpec, args: readonly string[]): void {
  const [least, most] = command.takes;
  const usage = `usage: hd ${command.name} ${command.usage}`.trimEnd();
  if (args.length < least) throw usageError(`\`hd ${command.name}\` needs more arguments`, usage);
  if (args.length > most) throw usageError(`\`hd ${command.name}\` does not take "${args[most] ?? ''}"`, usage);
}
