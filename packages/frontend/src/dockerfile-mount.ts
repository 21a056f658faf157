import type { HdError } from '@hyperdocker/base';

/** One `--mount` of a RUN, with its variables put in. Targets are absolute. */
export type RunMount =
  | { type: 'bind'; target: string; source: string; from: string | undefined; readonly: boolean }
  /** `id` names the directory: whoever names the same one shares it. */
  | { type: 'cache'; target: string; id: string; sharing: 'shared' | 'private' | 'locked'; source: string; from: string | undefined; readonly: boolean; mode: number; uid: number; gid: number }
  | { type: 'tmpfs'; target: string; sizeBytes: number | undefined }
  | { type: 'secret'; target: string | undefined; id: string; env: string | undefined; required: boolean; mode: number; uid: number; gid: number }
  | { type: 'ssh'; target: string; id: string; required: boolean };

type Fail = (why: string) => HdError;

const KEYS: Record<RunMount['type'], readonly string[]> = {
  bind: ['target', 'source', 'from', 'readonly'],
  cache: ['target', 'source', 'from', 'readonly', 'id', 'sharing', 'mode', 'uid', 'gid'],
  tmpfs: ['target', 'size'],
  secret: ['target', 'source', 'id', 'env', 'required', 'mode', 'uid', 'gid'],
  ssh: ['target', 'id', 'required', 'mode', 'uid', 'gid'],
};
const SYNONYMS: Record<string, string> = { dst: 'target', destination: 'target', src: 'source', ro: 'readonly', rw: 'readwrite', readonly: 'readonly' };
const UNITS: Record<string, number> = { '': 1, b: 1, k: 2 ** 10, kb: 2 ** 10, m: 2 ** 20, mb: 2 ** 20, g: 2 ** 30, gb: 2 ** 30 };

/** @param resolve a path of the container, relative to the working directory or not, made absolute */
export function parseMount(text: string, resolve: (path: string) => string, fail: Fail): RunMount {
  const fields = readFields(text, fail);
  const type = fields.get('type') ?? 'bind';
  if (!isType(type)) throw fail(`a mount is of type bind, cache, tmpfs, secret or ssh, not ${type}`);
  fields.delete('type');
  for (const name of fields.keys()) if (!KEYS[type].includes(name)) throw fail(`a ${type} mount has no ${name}`);
  const target = fields.get('target');
  const at = (): string => {
    if (target === undefined || target === '') throw fail(`a ${type} mount needs a target`);
    const path = resolve(target);
    if (path === '/') throw fail('nothing can be mounted at /');
    return path;
  };
  const source = fields.get('source') ?? '';
  switch (type) {
    case 'bind':
      return { type, target: at(), source, from: fields.get('from'), readonly: boolean(fields, 'readonly', true, fail) };
    case 'cache':
      return { type, target: at(), source, from: fields.get('from'), id: fields.get('id') ?? at(), sharing: sharingOf(fields.get('sharing'), fail), readonly: boolean(fields, 'readonly', false, fail), ...ownership(fields, 0o755, fail) };
    case 'tmpfs':
      return { type, target: at(), sizeBytes: sizeOf(fields.get('size'), fail) };
    case 'secret':
      return { type, ...secretOf(fields, resolve, fail), required: boolean(fields, 'required', false, fail), ...ownership(fields, 0o400, fail) };
    case 'ssh':
      return { type, id: fields.get('id') ?? 'default', target: target === undefined ? '/run/buildkit/ssh_agent.0' : resolve(target), required: boolean(fields, 'required', false, fail) };
  }
}

function secretOf(fields: ReadonlyMap<string, string>, resolve: (path: string) => string, fail: Fail): { id: string; target: string | undefined; env: string | undefined } {
  const [target, source, env] = ['target', 'source', 'env'].map((name) => fields.get(name));
  const named = fields.get('id') ?? source ?? target?.split('/').at(-1);
  if (named === undefined || named === '') throw fail('a secret mount needs an id');
  const id = named.split('/').at(-1) ?? named;
  if (target !== undefined) return { id, target: resolve(target), env };
  return { id, target: env === undefined ? `/run/secrets/${id}` : undefined, env };
}

function readFields(text: string, fail: Fail): Map<string, string> {
  const fields = new Map<string, string>();
  for (const part of splitCsv(text, fail)) {
    const equals = part.indexOf('=');
    const written = (equals < 0 ? part : part.slice(0, equals)).trim().toLowerCase();
    const value = equals < 0 ? 'true' : part.slice(equals + 1);
    const name = SYNONYMS[written] ?? written;
    if (name === 'readwrite') fields.set('readonly', value === 'false' ? 'true' : 'false');
    else if (equals < 0 && !['readonly', 'required'].includes(name)) throw fail(`${JSON.stringify(part)} in a mount is not NAME=VALUE`);
    else fields.set(name, value);
  }
  return fields;
}

/** Commas inside of double quotes do not divide. */
function splitCsv(text: string, fail: Fail): string[] {
  const parts = text.match(/(?:"(?:[^"]|"")*"|[^",])+/g) ?? [];
  if (parts.length === 0) throw fail('--mount needs a value');
  return parts.map((part) => (part.startsWith('"') ? part.slice(1, -1).replaceAll('""', '"') : part));
}

function isType(type: string): type is RunMount['type'] {
  return type in KEYS;
}

function boolean(fields: ReadonlyMap<string, string>, name: string, fallback: boolean, fail: Fail): boolean {
  const value = fields.get(name);
  if (value === undefined) return fallback;
  if (value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  throw fail(`${name} is true or false, not ${value}`);
}

function sharingOf(text: string | undefined, fail: Fail): 'shared' | 'private' | 'locked' {
  if (text === undefined) return 'shared';
  if (text === 'shared' || text === 'private' || text === 'locked') return text;
  throw fail(`sharing is shared, private or locked, not ${text}`);
}

function ownership(fields: ReadonlyMap<string, string>, mode: number, fail: Fail): { mode: number; uid: number; gid: number } {
  const number = (name: string, fallback: number, radix: number): number => {
    const text = fields.get(name);
    if (text === undefined) return fallback;
    const value = Number.parseInt(text, radix);
    if (!/^[0-9]+$/.test(text) || Number.isNaN(value)) throw fail(`${name} is a number, not ${text}`);
    return value;
  };
  return { mode: number('mode', mode, 8), uid: number('uid', 0, 10), gid: number('gid', 0, 10) };
}

function sizeOf(text: string | undefined, fail: Fail): number | undefined {
  if (text === undefined) return undefined;
  const match = /^(\d+)([a-z]*)$/i.exec(text);
  const unit = UNITS[match?.[2]?.toLowerCase() ?? '-'];
  if (match === null || unit === undefined) throw fail(`${text} is no size such as 64m`);
  return Number(match[1]) * unit;
}
