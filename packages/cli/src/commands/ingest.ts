import { readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { HdError, isErrno } from '@hyperdocker/base';
import { translateDockerfile } from '@hyperdocker/frontend';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { writeNew } from '../write-new.ts';

export async function run({ cwd, args, flags, terminal, quiet, json }: Invocation): Promise<number> {
  const dockerfile = resolve(cwd, args[0] ?? 'Dockerfile');
  const name = flags.text('name') ?? basename(dirname(dockerfile));
  const { toml, notes } = translateDockerfile(readDockerfile(dockerfile), { name });
  const output = flags.text('output');
  const file = output === '-' ? undefined : output === undefined ? join(dirname(dockerfile), 'hd.toml') : resolve(cwd, output);
  if (file !== undefined) writeNew(file, toml, 'print the translation with `-o -`, or name another file with `-o`');
  for (const { line, instruction, message } of notes) terminal.err(`line ${line}: ${instruction}: ${message}\n`);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.ingest/1', file: file ?? null, toml, notes })}\n`);
  else if (file === undefined) terminal.out(toml);
  else if (!quiet) terminal.out(`Created ${file}${notes.length === 0 ? '' : ', with notes: see above'}\n`);
  return EXIT.ok;
}

function readDockerfile(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new HdError('DOCKERFILE_UNREADABLE', isErrno(cause, 'ENOENT') ? `there is no ${path}` : `cannot read ${path}`, { cause });
  }
}
