import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, relative, resolve } from 'node:path';
import { HdError, isErrno } from '@hyperdocker/base';
import type { Translated } from '@hyperdocker/frontend';
import { noteText, translateCompose, translateDevcontainer, translateDockerfile } from '@hyperdocker/frontend';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { writeNew } from '../write-new.ts';

export async function run({ cwd, args, flags, terminal, quiet, json, env }: Invocation): Promise<number> {
  const path = resolve(cwd, args[0] ?? 'Dockerfile');
  const dir = projectOf(path);
  const output = flags.text('output');
  const service = flags.text('service');
  if (service !== undefined && !/\.ya?ml$/.test(path)) throw usageError('--service is of Compose files');
  const projectDir = output === undefined || output === '-' ? '.' : relative(dir, dirname(resolve(cwd, output))) || '.';
  const { toml, notes } = translate(path, dir, { name: flags.text('name') ?? (service === undefined ? basename(dir) : `${basename(dir)}-${service}`), env, projectDir, ...(service === undefined ? {} : { service }) });
  const file = output === '-' ? undefined : output === undefined ? join(dir, 'hd.toml') : resolve(cwd, output);
  if (file !== undefined && service !== undefined) mkdirSync(dirname(file), { recursive: true });
  if (file !== undefined) writeNew(file, toml, 'print the translation with `-o -`, or name another file with `-o`');
  for (const note of notes) terminal.err(`${noteText(note)}\n`);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.ingest/1', file: file ?? null, toml, notes })}\n`);
  else if (file === undefined) terminal.out(toml);
  else if (!quiet) terminal.out(`Created ${file}${notes.length === 0 ? '' : ', with notes: see above'}\n`);
  return EXIT.ok;
}

/** By its name: what it is, it does not say. */
function translate(path: string, dir: string, { name, env, ...choices }: { name: string; env: NodeJS.ProcessEnv; projectDir: string; service?: string }): Translated {
  const file = basename(path);
  const text = read(path);
  if (/\.ya?ml$/.test(file)) return translateCompose(text, { ...choices, name, file, variables: variablesOf(dir, env), readFile: readerIn(dir) });
  if (/\.jsonc?$/.test(file)) return translateDevcontainer(text, { name, file, variables: variablesOf(dir, env), readFile: readerIn(dirname(path)) });
  return translateDockerfile(text, { name, file });
}

/** A devcontainer.json lies in a directory of its own, or one below that. */
function projectOf(path: string): string {
  const dir = dirname(path);
  const parts = dir.split('/');
  const at = parts.lastIndexOf('.devcontainer');
  return at > 0 && /\.jsonc?$/.test(path) ? parts.slice(0, at).join('/') : dir;
}

function readerIn(dir: string): (path: string) => string | undefined {
  return (path) => {
    const file = resolve(dir, path);
    return existsSync(file) ? read(file) : undefined;
  };
}

/** The shell's go before those of `.env`. */
function variablesOf(dir: string, env: NodeJS.ProcessEnv): Map<string, string> {
  const file = join(dir, '.env');
  const lines = existsSync(file) ? readFileSync(file, 'utf8').split(/\r?\n/) : [];
  const own = lines.flatMap((line): [string, string][] => {
    const match = /^\s*(?:export\s+)?([A-Za-z_]\w*)\s*=\s*(.*?)\s*$/.exec(line);
    return match === null ? [] : [[match[1] ?? '', (match[2] ?? '').replace(/^(["'])(.*)\1$/, '$2')]];
  });
  const ofShell = Object.entries(env).filter((entry): entry is [string, string] => entry[1] !== undefined);
  return new Map([...own, ...ofShell]);
}

function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new HdError('DOCKERFILE_UNREADABLE', isErrno(cause, 'ENOENT') ? `there is no ${path}` : `cannot read ${path}`, { cause });
  }
}
