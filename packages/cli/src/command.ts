import { assert } from '@hyperdocker/base';
import type { Terminal } from './terminal.ts';

/** One option of a command. Parsing, help and completion all come from here. */
export interface FlagSpec {
  type: 'boolean' | 'text' | 'number' | 'list';
  short?: string;
  /** What stands for the value in help. */
  value?: string;
  help: string;
}

export type CommandGroup = 'Common' | 'Project' | 'Images' | 'Graph and store' | 'Other';

export interface CommandSpec {
  /** One word, or two: `cas gc`. */
  name: string;
  aliases?: string[];
  group: CommandGroup;
  /** What it is for, in one line. */
  summary: string;
  /** Arguments as usage shows them. */
  usage: string;
  /** How many arguments it takes. */
  takes: [least: number, most: number];
  /** Everything from the first argument on belongs to another program, its options too. */
  passThrough?: boolean;
  flags: Record<string, FlagSpec>;
  examples: [command: string, what: string][];
  /** Lines about its own exit codes, beside the general ones. */
  exits?: [code: string, meaning: string][];
  load(): Promise<{ run(invocation: Invocation): Promise<number> }>;
}

/** One call of a command, parsed. */
export interface Invocation {
  command: CommandSpec;
  /** Where relative paths start: the current directory, or the one of `-C`. */
  cwd: string;
  args: string[];
  flags: Flags;
  json: boolean;
  quiet: boolean;
  env: NodeJS.ProcessEnv;
  terminal: Terminal;
}

export type FlagValue = boolean | string | number | string[];

/** Values of options, by their long names. Asking for one that the command does not declare is a bug. */
export class Flags {
  readonly #specs: Record<string, FlagSpec>;
  readonly #values: ReadonlyMap<string, FlagValue>;

  constructor(specs: Record<string, FlagSpec>, values: ReadonlyMap<string, FlagValue>) {
    this.#specs = specs;
    this.#values = values;
  }

  bool(name: string): boolean {
    return this.#get(name, 'boolean') === true;
  }

  text(name: string): string | undefined {
    return this.#get(name, 'text') as string | undefined;
  }

  number(name: string): number | undefined {
    return this.#get(name, 'number') as number | undefined;
  }

  list(name: string): string[] {
    return (this.#get(name, 'list') as string[] | undefined) ?? [];
  }

  #get(name: string, type: FlagSpec['type']): FlagValue | undefined {
    assert(this.#specs[name]?.type === type, `--${name} is not declared as ${type}`);
    return this.#values.get(name);
  }
}
