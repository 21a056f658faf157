import type { HdError } from '@hyperdocker/base';
import { invalidDockerfile } from './dockerfile-error.ts';
import { splitWords } from './dockerfile-expand.ts';

/** One instruction as it is written, with what belongs to it. Lines are 1-based. */
export interface RawInstruction {
  line: number;
  /** Last line, of continuations and here-documents too. */
  endLine: number;
  /** Upper case. */
  keyword: string;
  /** `--name=value` before the arguments, quotes and variables as written; `value` is undefined for a bare `--name`. */
  flags: { name: string; value: string | undefined }[];
  /** Continuation lines joined, comments between them gone. */
  rest: string;
  heredocs: Heredoc[];
}

export interface Heredoc {
  name: string;
  /** `<<'EOF'`: nothing in it is expanded. */
  quoted: boolean;
  /** `<<-EOF`: leading tabs do not count. */
  stripTabs: boolean;
  /** With a final newline, tabs as written. */
  body: string;
}

export interface DockerfileLines {
  instructions: RawInstruction[];
  /** `\` or a backtick. */
  escape: string;
  /** Directives by their lower-case names: `syntax`, `escape`, `check`. */
  directives: Map<string, string>;
}

const WITH_HEREDOCS = new Set(['RUN', 'COPY', 'ADD']);
const WITH_FLAGS = new Set(['FROM', 'RUN', 'COPY', 'ADD', 'HEALTHCHECK']);

/** Splits a Dockerfile by Docker's rules. @param file what errors name. @throws HdError DOCKERFILE_INVALID */
export function splitDockerfile(text: string, file: string): DockerfileLines {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  const fail = (line: number, why: string): HdError => invalidDockerfile({ file, line, source: lines[line - 1] }, why);
  const directives = readDirectives(lines, fail);
  const escape = directives.get('escape') ?? '\\';
  const instructions: RawInstruction[] = [];
  for (let at = 0; at < lines.length; ) {
    if (isSkipped(lines[at] ?? '')) {
      at++;
      continue;
    }
    const line = at + 1;
    const { text: joined, next } = joinLines(lines, at, escape);
    const match = /^(\S+)(?:\s+([\s\S]*))?$/.exec(joined.trim());
    const keyword = match?.[1]?.toUpperCase() ?? '';
    const failHere = (why: string): HdError => fail(line, why);
    // The instruction that an ONBUILD is about has flags and here-documents of its own.
    const deferred = keyword === 'ONBUILD' ? (/^(\S+)/.exec(match?.[2]?.trim() ?? '')?.[1]?.toUpperCase() ?? '') : keyword;
    const { flags, rest } = WITH_FLAGS.has(keyword) ? splitFlags((match?.[2] ?? '').trim(), escape, failHere) : { flags: [], rest: (match?.[2] ?? '').trim() };
    const read = WITH_HEREDOCS.has(deferred) ? readHeredocs(lines, next, rest, escape, failHere) : { heredocs: [], next };
    instructions.push({ line, endLine: read.next, keyword, flags, rest, heredocs: read.heredocs });
    at = read.next;
  }
  return { instructions, escape, directives };
}

/** The strings of an exec form (a JSON list), or undefined: Docker takes everything else for a shell form. */
export function parseExecForm(text: string): string[] | undefined {
  if (!text.startsWith('[')) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return Array.isArray(value) && value.every((item) => typeof item === 'string') ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Of a script or file as it is used. */
export function heredocText({ body, stripTabs }: Heredoc): string {
  return stripTabs ? body.replace(/^\t+/gm, '') : body;
}

function readDirectives(lines: readonly string[], fail: (line: number, why: string) => HdError): Map<string, string> {
  const directives = new Map<string, string>();
  for (const [index, line] of lines.entries()) {
    const [, name, value = ''] = /^#\s*([A-Za-z][A-Za-z0-9]*)\s*=\s*(.+?)\s*$/.exec(line) ?? [];
    if (name === undefined) {
      // A shebang may stand before them.
      if (index === 0 && line.startsWith('#!')) continue;
      break;
    }
    const key = name.toLowerCase();
    if (!['syntax', 'escape', 'check'].includes(key)) break;
    if (directives.has(key)) throw fail(index + 1, `the directive ${key} stands here a second time`);
    if (key === 'escape' && value !== '\\' && value !== '`') throw fail(index + 1, `the escape character is \\ or \`, not ${value}`);
    directives.set(key, value);
  }
  return directives;
}

function isSkipped(line: string): boolean {
  return /^\s*(#|$)/.test(line);
}

function joinLines(lines: readonly string[], start: number, escape: string): { text: string; next: number } {
  const continued = escape === '`' ? /(^|[^`])`[ \t]*$/ : /(^|[^\\])\\[ \t]*$/;
  let text = '';
  let at = start;
  for (; at < lines.length; at++) {
    const line = lines[at] ?? '';
    if (at > start && isSkipped(line)) continue;
    const more = continued.test(line);
    text += more ? line.replace(continued, '$1') : line;
    if (!more) return { text, next: at + 1 };
  }
  return { text, next: at };
}

function splitFlags(rest: string, escape: string, fail: (why: string) => HdError): { flags: RawInstruction['flags']; rest: string } {
  const flags: RawInstruction['flags'] = [];
  let left = rest;
  while (left.startsWith('--')) {
    const [word = ''] = splitWords(left, escape);
    left = left.slice(word.length).trimStart();
    if (word === '--') break;
    const match = /^--([a-z][\w-]*)(?:=([\s\S]*))?$/.exec(word);
    if (match === null) throw fail(`${word} is no option`);
    flags.push({ name: match[1] ?? '', value: match[2] });
  }
  return { flags, rest: left };
}

/** `<<<` is a here-string, and a `<<` after a letter is arithmetic. */
const HEREDOC = /^\d*<<(-?)([^<]+)$/;

function readHeredocs(lines: readonly string[], start: number, rest: string, escape: string, fail: (why: string) => HdError): { heredocs: Heredoc[]; next: number } {
  const heredocs: Heredoc[] = [];
  let at = start;
  for (const word of rest.includes('<<') && parseExecForm(rest) === undefined ? splitWords(rest, escape) : []) {
    const match = HEREDOC.exec(word);
    const written = match?.[2] ?? '';
    const name = written.replace(/["']/g, '');
    if (match === null || name === '' || /[^\w.-]/.test(name)) continue;
    const stripTabs = match[1] === '-';
    const end = lines.findIndex((text, i) => i >= at && (stripTabs ? text.replace(/^\t+/, '') : text) === name);
    if (end < 0) throw fail(`the here-document ${name} has no end`);
    heredocs.push({ name, quoted: written !== name, stripTabs, body: lines.slice(at, end).map((text) => `${text}\n`).join('') });
    at = end + 1;
  }
  return { heredocs, next: at };
}
