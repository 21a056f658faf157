import { tomlComment, tomlKey, tomlString } from './toml.ts';

/** Something that the hd.toml does not say, or says in another way. */
export interface IngestNote {
  /** 1-based, in what was translated; 0 for all of it. */
  line: number;
  /** Of a Dockerfile; elsewhere the key. */
  instruction: string;
  message: string;
}

export type TomlValue = string | number | boolean | readonly string[] | Readonly<Record<string, string>>;

/** An hd.toml that is being put together. */
export interface HdToml {
  name: string;
  base: string;
  workdir: string | undefined;
  env: Map<string, string>;
  /** Debian packages. */
  apt: string[];
  steps: { run: string; network: boolean }[];
  cache: string[];
  volumes: string[];
  /** Names of what is elsewhere on the machine: its port there, and the one by which services know it. */
  reach: Map<string, { hostPort: number; port: number }>;
  /** Keys as in hd.toml; `command` is there. */
  services: Map<string, Record<string, TomlValue>>;
  include: string[];
}

export interface Translated { toml: string; notes: IngestNote[] }

/** Every note is in the text as a comment. @param what was translated, as in "a Dockerfile" */
export function renderHdToml(draft: HdToml, notes: readonly IngestNote[], what: string): Translated {
  const sorted = notes.toSorted((a, b) => a.line - b.line);
  const head = sorted.length === 0 ? [`# Translated from ${what} by \`hd ingest\`.`, ''] : [`# Translated from ${what} by \`hd ingest\`. Please check:`, ...sorted.map((note) => tomlComment(noteText(note))), ''];
  const { workdir, env, apt, steps, cache, volumes, reach, services, include } = draft;
  const lines = ['[environment]', `name = ${tomlString(environmentName(draft.name))}`, `base = ${tomlString(draft.base)}`];
  if (workdir !== undefined) lines.push(`workdir = ${tomlString(workdir)}`);
  if (env.size > 0) lines.push('', '[environment.env]', ...[...env].map(([key, value]) => `${tomlKey(key)} = ${tomlString(value)}`));
  if (reach.size > 0) lines.push('', '[environment.reach]', ...[...reach].map(([name, { hostPort, port }]) => `${tomlKey(name)} = ${hostPort === port ? port : tomlString(`${hostPort}:${port}`)}`));
  if (apt.length > 0) lines.push('', '[dependencies]', `apt = ${tomlValue(apt)}`);
  if (steps.length > 0 || cache.length > 0) lines.push('', '[build]');
  if (steps.length > 0) lines.push('steps = [', ...steps.map(({ run, network }) => `  ${network ? tomlString(run) : `{ run = ${tomlString(run)}, network = false }`},`), ']');
  if (cache.length > 0) lines.push(`cache = ${tomlValue(cache)}`);
  if (volumes.length > 0) lines.push('', '[volumes]', ...volumes.map((name) => `${tomlKey(name)} = {}`));
  for (const [name, keys] of services) lines.push('', `[services.${tomlKey(name)}]`, ...Object.entries(keys).map(([key, value]) => `${key} = ${tomlValue(value)}`));
  if (include.length > 0) lines.push('', '[files]', `include = ${tomlValue(include)}`);
  return { toml: `${[...head, ...lines].join('\n')}\n`, notes: sorted };
}

/** As it is printed, too. */
export function noteText({ line, instruction, message }: IngestNote): string {
  return `${line === 0 ? '' : `line ${line}: `}${instruction}: ${message}`;
}

export function addNote(notes: IngestNote[], line: number, instruction: string, message: string): void {
  if (!notes.some((note) => note.line === line && note.instruction === instruction && note.message === message)) notes.push({ line, instruction, message });
}

/** A name that hd.toml takes. */
export function environmentName(name: string): string {
  return name.replace(/[^A-Za-z0-9_.-]+/g, '-').replace(/^[^A-Za-z0-9]+/, '') || 'app';
}

function tomlValue(value: TomlValue): string {
  if (typeof value === 'string') return tomlString(value);
  if (typeof value !== 'object') return String(value);
  if (isList(value)) return `[${value.map(tomlString).join(', ')}]`;
  return `{ ${Object.entries(value).map(([key, text]) => `${tomlKey(key)} = ${tomlString(text)}`).join(', ')} }`;
}

function isList(value: object): value is readonly string[] {
  return Array.isArray(value);
}
