import { existsSync, statSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import type { ProjectKind } from '@hyperdocker/spec';
import { SCHEMA_URL, initTemplate } from '@hyperdocker/spec';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { writeNew } from '../write-new.ts';

export async function run({ cwd, args, flags, terminal, quiet, json }: Invocation): Promise<number> {
  const dir = resolve(cwd, args[0] ?? '.');
  if (statSync(dir, { throwIfNoEntry: false })?.isDirectory() !== true) throw usageError(`${dir} is not a directory`);
  const { kind, because } = detectKind(dir);
  const file = join(dir, 'hd.toml');
  writeNew(file, initTemplate({ name: flags.text('name') ?? basename(dir), kind }), 'remove it first to start over');
  if (json) {
    terminal.out(`${JSON.stringify({ schema: 'hd.init/1', file, kind, specSchema: SCHEMA_URL })}\n`);
  } else {
    terminal.out(`Created hd.toml (schema: ${SCHEMA_URL})\n`);
    if (!quiet) terminal.out(`${because === undefined ? 'A starter for any kind of project' : `A starter for a ${LABELS[kind]} project, because there is a ${because}`}. Look it over, then run \`hd up\`.\n`);
  }
  return EXIT.ok;
}

const LABELS: Record<ProjectKind, string> = { python: 'Python', node: 'Node.js', go: 'Go', rust: 'Rust', c: 'C', generic: 'generic' };

/** The first of these files tells what a project is written in. */
const MARKS: [file: string, kind: ProjectKind][] = [
  ['package.json', 'node'], ['requirements.txt', 'python'], ['pyproject.toml', 'python'], ['go.mod', 'go'], ['Cargo.toml', 'rust'], ['Makefile', 'c'],
];

export function detectKind(dir: string): { kind: ProjectKind; because?: string } {
  const found = MARKS.find(([file]) => existsSync(join(dir, file)));
  return found === undefined ? { kind: 'generic' } : { kind: found[1], because: found[0] };
}
