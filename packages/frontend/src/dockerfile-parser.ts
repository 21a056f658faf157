import type { HdError } from '@hyperdocker/base';
import { suggest } from '@hyperdocker/base';
import type { ArgInstruction, Command, CopyInstruction, Dockerfile, DockerfileStage, FromInstruction, Healthcheck, Instruction, Pair, RunInstruction } from './dockerfile-ast.ts';
import { invalidDockerfile } from './dockerfile-error.ts';
import { splitWords } from './dockerfile-expand.ts';
import type { RawInstruction } from './dockerfile-lines.ts';
import { parseExecForm, splitDockerfile } from './dockerfile-lines.ts';

const KEYWORDS = ['ADD', 'ARG', 'CMD', 'COPY', 'ENTRYPOINT', 'ENV', 'EXPOSE', 'FROM', 'HEALTHCHECK', 'LABEL', 'MAINTAINER', 'ONBUILD', 'RUN', 'SHELL', 'STOPSIGNAL', 'USER', 'VOLUME', 'WORKDIR'];
const STAGE_NAME = /^[a-z][a-z0-9_.-]*$/;

/** Reads a Dockerfile. @param file what errors name. @throws HdError DOCKERFILE_INVALID, with the line */
export function parseDockerfile(text: string, file = 'Dockerfile'): Dockerfile {
  const { instructions, escape, directives } = splitDockerfile(text, file);
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  const globals: ArgInstruction[] = [];
  const stages: DockerfileStage[] = [];
  for (const raw of instructions) {
    const fail = (why: string): HdError => invalidDockerfile({ file, line: raw.line, source: lines[raw.line - 1] }, why);
    const stage = stages.at(-1);
    if (raw.keyword === 'FROM') stages.push(readStage(raw, stages, fail));
    else if (!KEYWORDS.includes(raw.keyword)) throw fail(`unknown instruction ${JSON.stringify(raw.keyword)}${didYouMean(raw.keyword)}`);
    else if (stage !== undefined) stage.instructions.push(readInstruction(raw, escape, fail));
    else if (raw.keyword === 'ARG') globals.push(readArg(raw, escape, fail));
    else throw fail(`${raw.keyword} before the first FROM`);
  }
  if (stages.length === 0) throw invalidDockerfile({ file, line: 1, source: lines[0] }, 'there is no FROM');
  return { file, lines, escape, syntax: directives.get('syntax'), globals, stages };
}

/** The instruction that an image defers to whoever builds on it. @throws HdError DOCKERFILE_INVALID */
export function parseTrigger(text: string, place: { file: string; line: number; source: string | undefined }): Instruction {
  const fail = (why: string): HdError => invalidDockerfile(place, `ONBUILD ${text}: ${why}`);
  const { instructions: [raw, more], escape } = splitDockerfile(text, place.file);
  if (raw === undefined || more !== undefined || !KEYWORDS.includes(raw.keyword)) throw fail('is no single instruction');
  if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(raw.keyword)) throw fail(`${raw.keyword} is not allowed there`);
  return { ...readInstruction(raw, escape, fail), line: place.line, endLine: place.line };
}

type Fail = (why: string) => HdError;

function didYouMean(keyword: string): string {
  const near = suggest(keyword, KEYWORDS);
  return near === undefined ? '' : `; did you mean ${near}?`;
}

function readStage(raw: RawInstruction, before: readonly DockerfileStage[], fail: Fail): DockerfileStage {
  const { platform } = readFlags(raw, { platform: 'text' }, fail);
  const match = /^(\S+)(?:\s+[aA][sS]\s+(\S+))?$/.exec(raw.rest);
  if (match === null) throw fail('FROM takes an image, and AS NAME after it');
  const name = match[2]?.toLowerCase();
  if (name !== undefined && !STAGE_NAME.test(name)) throw fail(`${JSON.stringify(match[2])} cannot be the name of a stage`);
  if (name !== undefined && before.some((stage) => stage.name === name)) throw fail(`there is a stage ${name} already`);
  const from: FromInstruction = { keyword: 'FROM', ...placed(raw), image: match[1] ?? '', platform };
  return { index: before.length, name, from, instructions: [] };
}

function placed(raw: RawInstruction): { line: number; endLine: number; text: string } {
  const flags = raw.flags.map(({ name, value }) => `--${name}${value === undefined ? '' : `=${value}`} `).join('');
  return { line: raw.line, endLine: raw.endLine, text: `${raw.keyword} ${flags}${raw.rest}`.trim() };
}

function readInstruction(raw: RawInstruction, escape: string, fail: Fail): Instruction {
  const { keyword, rest } = raw;
  const place = placed(raw);
  if (rest === '' && keyword !== 'CMD' && keyword !== 'ENTRYPOINT') throw fail(`${keyword} needs an argument`);
  switch (keyword) {
    case 'ARG':
      return readArg(raw, escape, fail);
    case 'RUN':
      return readRun(raw, fail);
    case 'COPY':
    case 'ADD':
      return readCopy(raw, keyword, escape, fail);
    case 'ENV':
    case 'LABEL':
      return { ...place, keyword, pairs: readPairs(keyword, rest, escape, fail) };
    case 'WORKDIR':
    case 'USER':
    case 'STOPSIGNAL':
    case 'MAINTAINER':
      return { ...place, keyword, value: rest };
    case 'EXPOSE':
      return { ...place, keyword, words: splitWords(rest, escape) };
    case 'VOLUME':
      return { ...place, keyword, words: parseExecForm(rest) ?? splitWords(rest, escape) };
    case 'CMD':
    case 'ENTRYPOINT':
      return { ...place, keyword, command: readCommand(rest) };
    case 'SHELL':
      return { ...place, keyword, words: readShell(rest, fail) };
    case 'HEALTHCHECK':
      return { ...place, keyword, healthcheck: readHealthcheck(raw, escape, fail) };
    default:
      return { ...place, keyword: 'ONBUILD', trigger: readTriggerText(rest, raw, fail) };
  }
}

/** Here-documents come along. */
function readTriggerText(rest: string, raw: RawInstruction, fail: Fail): string {
  const keyword = rest.split(/\s/)[0]?.toUpperCase() ?? '';
  if (['ONBUILD', 'FROM', 'MAINTAINER'].includes(keyword)) throw fail(`ONBUILD ${keyword} is not allowed`);
  if (!KEYWORDS.includes(keyword)) throw fail(`unknown instruction ${JSON.stringify(keyword)} after ONBUILD`);
  return [rest, ...raw.heredocs.map(({ body, name }) => `${body}${name}`)].join('\n');
}

function readArg(raw: RawInstruction, escape: string, fail: Fail): ArgInstruction {
  const args = splitWords(raw.rest, escape).map((word) => {
    const equals = word.indexOf('=');
    const name = equals < 0 ? word : word.slice(0, equals);
    if (name === '') throw fail('an argument needs a name');
    return { name, value: equals < 0 ? undefined : word.slice(equals + 1) };
  });
  if (args.length === 0) throw fail('ARG needs a name');
  return { ...placed(raw), keyword: 'ARG', args };
}

function readRun(raw: RawInstruction, fail: Fail): RunInstruction {
  const { mount, network = 'default', security = 'sandbox' } = readFlags(raw, { mount: 'list', network: 'text', security: 'text' }, fail);
  if (network !== 'default' && network !== 'none' && network !== 'host') throw fail(`--network is default, none or host, not ${network}`);
  if (security !== 'sandbox' && security !== 'insecure') throw fail(`--security is sandbox or insecure, not ${security}`);
  if (raw.rest === '') throw fail('RUN needs a command');
  return { ...placed(raw), keyword: 'RUN', command: readCommand(raw.rest), heredocs: raw.heredocs, mounts: mount, network, security };
}

const COPY_FLAGS = { from: 'text', chown: 'text', chmod: 'text', link: 'boolean', parents: 'boolean', exclude: 'list' } as const;
const ADD_FLAGS = { chown: 'text', chmod: 'text', link: 'boolean', exclude: 'list', checksum: 'text', 'keep-git-dir': 'boolean', unpack: 'boolean' } as const;

function readCopy(raw: RawInstruction, keyword: 'COPY' | 'ADD', escape: string, fail: Fail): CopyInstruction {
  const flags: Partial<ReturnType<typeof readFlags<typeof COPY_FLAGS>> & ReturnType<typeof readFlags<typeof ADD_FLAGS>>> = keyword === 'COPY' ? readFlags(raw, COPY_FLAGS, fail) : readFlags(raw, ADD_FLAGS, fail);
  const words = parseExecForm(raw.rest) ?? splitWords(raw.rest, escape);
  const destination = words.pop();
  const sources = words.filter((word) => raw.heredocs.length === 0 || !/^\d*<</.test(word));
  if (destination === undefined || words.length === 0) throw fail(`${keyword} needs a source and a destination`);
  const intoDirectory = /(^|\/)\.{0,2}$/.test(destination) || destination.endsWith('/');
  if (words.length > 1 && !intoDirectory) throw fail(`with more than one source, the destination has to end with "/"`);
  return {
    ...placed(raw), keyword, sources, heredocs: raw.heredocs, destination, from: flags.from, chown: flags.chown, chmod: flags.chmod, link: flags.link ?? false, parents: flags.parents ?? false,
    exclude: flags.exclude ?? [], checksum: flags.checksum, keepGitDir: flags['keep-git-dir'] ?? false, unpack: flags.unpack,
  };
}

function readCommand(rest: string): Command {
  const words = parseExecForm(rest);
  return words === undefined ? { form: 'shell', text: rest } : { form: 'exec', words };
}

function readShell(rest: string, fail: Fail): string[] {
  const words = parseExecForm(rest);
  if (words === undefined || words.length === 0) throw fail('SHELL takes a JSON list of strings');
  return words;
}

/** `NAME=value NAME="other value"`, or the old `NAME all the rest`. */
function readPairs(keyword: string, rest: string, escape: string, fail: Fail): Pair[] {
  const words = splitWords(rest, escape);
  if (words[0]?.includes('=') !== true) {
    const old = /^(\S+)\s+([\s\S]+)$/.exec(rest);
    if (old === null) throw fail(`${keyword} needs a name and a value`);
    return [[old[1] ?? '', old[2] ?? '']];
  }
  return words.map((word): Pair => {
    const equals = word.indexOf('=');
    if (equals < 0) throw fail(`${JSON.stringify(word)} is not NAME=VALUE: a value with blanks needs quotes`);
    if (equals === 0) throw fail(`${keyword} needs a name before "="`);
    return [word.slice(0, equals), word.slice(equals + 1)];
  });
}

const HEALTH_FLAGS = { interval: 'text', timeout: 'text', 'start-period': 'text', 'start-interval': 'text', retries: 'text' } as const;

function readHealthcheck(raw: RawInstruction, escape: string, fail: Fail): Healthcheck {
  const flags = readFlags(raw, HEALTH_FLAGS, fail);
  const [kind = ''] = splitWords(raw.rest, escape);
  if (kind.toUpperCase() === 'NONE') return { test: 'NONE' };
  const command = raw.rest.slice(kind.length).trim();
  if (kind.toUpperCase() !== 'CMD') throw fail('HEALTHCHECK takes NONE, or CMD and a command');
  if (command === '') throw fail('HEALTHCHECK CMD needs a command');
  const ns = (text: string | undefined): number | undefined => (text === undefined ? undefined : durationNs(text, fail));
  const [intervalNs, timeoutNs, startPeriodNs, startIntervalNs] = [ns(flags.interval), ns(flags.timeout), ns(flags['start-period']), ns(flags['start-interval'])];
  const retries = flags.retries === undefined ? undefined : Number(flags.retries);
  if (retries !== undefined && (!Number.isSafeInteger(retries) || retries < 0)) throw fail(`--retries is a whole number, not ${flags.retries}`);
  return {
    test: readCommand(command), ...(intervalNs === undefined ? {} : { intervalNs }), ...(timeoutNs === undefined ? {} : { timeoutNs }), ...(startPeriodNs === undefined ? {} : { startPeriodNs }),
    ...(startIntervalNs === undefined ? {} : { startIntervalNs }), ...(retries === undefined ? {} : { retries }),
  };
}

const UNIT_NS: Record<string, number> = { ns: 1, us: 1e3, 'µs': 1e3, ms: 1e6, s: 1e9, m: 60e9, h: 3600e9 };

/** Go's: `1m30s`, `250ms`, `0`. */
function durationNs(text: string, fail: Fail): number {
  if (text === '0') return 0;
  if (!/^(\d+(\.\d+)?(ns|us|µs|ms|s|m|h))+$/.test(text)) throw fail(`${text} is no duration such as 1m30s`);
  const ns = [...text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)/g)].reduce((sum, [, count, unit = '']) => sum + Number(count) * (UNIT_NS[unit] ?? 0), 0);
  if (ns > 0 && ns < 1e6) throw fail(`${text} is less than 1 ms`);
  return Math.round(ns);
}

type FlagKinds = Record<string, 'text' | 'boolean' | 'list'>;
type FlagValues<K extends FlagKinds> = { [Name in keyof K]: K[Name] extends 'list' ? string[] : K[Name] extends 'boolean' ? boolean | undefined : string | undefined };

function readFlags<const K extends FlagKinds>(raw: RawInstruction, kinds: K, fail: Fail): FlagValues<K> {
  const values: Record<string, string | boolean | string[] | undefined> = Object.fromEntries(Object.entries(kinds).map(([name, kind]) => [name, kind === 'list' ? [] : undefined]));
  for (const { name, value } of raw.flags) {
    const kind = kinds[name];
    if (kind === undefined) throw fail(`${raw.keyword} has no option --${name}${nearFlag(name, kinds)}`);
    const present = values[name];
    if (Array.isArray(present)) present.push(value ?? '');
    else if (present !== undefined) throw fail(`--${name} stands here twice`);
    else if (kind === 'boolean') values[name] = readBoolean(name, value, fail);
    else if (value === undefined || value === '') throw fail(`--${name} needs a value`);
    else values[name] = value;
  }
  return values as FlagValues<K>;
}

function readBoolean(name: string, value: string | undefined, fail: Fail): boolean {
  if (value === undefined || value === 'true' || value === '1') return true;
  if (value === 'false' || value === '0') return false;
  throw fail(`--${name} is true or false, not ${value}`);
}

function nearFlag(name: string, kinds: FlagKinds): string {
  const near = suggest(name, Object.keys(kinds));
  return near === undefined ? '' : `; did you mean --${near}?`;
}
