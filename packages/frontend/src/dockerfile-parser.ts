import { HdError } from '@hyperdocker/base';

/** One instruction with what belongs to it. */
export interface Instruction {
  /** 1-based line of the keyword. */
  line: number;
  /** Upper case. */
  keyword: string;
  /** `--name=value` before the arguments; `value` is empty for a bare `--name`. */
  flags: { name: string; value: string }[];
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

const KEYWORDS = new Set(['ADD', 'ARG', 'CMD', 'COPY', 'ENTRYPOINT', 'ENV', 'EXPOSE', 'FROM', 'HEALTHCHECK', 'LABEL', 'MAINTAINER', 'ONBUILD', 'RUN', 'SHELL', 'STOPSIGNAL', 'USER', 'VOLUME', 'WORKDIR']);
const WITH_HEREDOCS = new Set(['RUN', 'COPY', 'ADD']);
const WITH_FLAGS = new Set(['FROM', 'RUN', 'COPY', 'ADD', 'HEALTHCHECK']);

/** Splits a Dockerfile by Docker's rules. @throws HdError DOCKERFILE_INVALID with the line */
export function parseDockerfile(text: string): { instructions: Instruction[]; escape: string } {
  const lines = text.replace(/^\uFEFF/, '').split(/\r?\n/);
  const escape = escapeDirective(lines);
  const instructions: Instruction[] = [];
  for (let at = 0; at < lines.length; ) {
    const first = lines[at] ?? '';
    if (isSkipped(first)) {
      at++;
      continue;
    }
    const line = at + 1;
    const { text: joined, next } = joinLines(lines, at, escape);
    const match = /^\s*([A-Za-z]+)(?:\s+([\s\S]*))?$/.exec(joined);
    const keyword = match?.[1]?.toUpperCase() ?? '';
    if (!KEYWORDS.has(keyword)) throw invalidDockerfile(line, `unknown instruction ${JSON.stringify(joined.trim().split(/\s/)[0])}`);
    const { flags, rest } = splitFlags(keyword, (match?.[2] ?? '').trim());
    const read = WITH_HEREDOCS.has(keyword) ? readHeredocs(lines, next, rest, line) : { heredocs: [], next };
    instructions.push({ line, keyword, flags, rest, heredocs: read.heredocs });
    at = read.next;
  }
  return { instructions, escape };
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

export function invalidDockerfile(line: number, why: string): HdError {
  return new HdError('DOCKERFILE_INVALID', `line ${line} of the Dockerfile: ${why}`, { hint: 'correct it so that `docker build` takes it', details: { line } });
}

function escapeDirective(lines: string[]): string {
  for (const line of lines) {
    const directive = /^#\s*(\w+)\s*=\s*(\S+)\s*$/.exec(line);
    if (directive === null) break;
    if (directive[1]?.toLowerCase() === 'escape' && directive[2] === '`') return '`';
  }
  return '\\';
}

function isSkipped(line: string): boolean {
  return /^\s*(#|$)/.test(line);
}

function joinLines(lines: string[], start: number, escape: string): { text: string; next: number } {
  const continued = escape === '`' ? /`[ \t]*$/ : /\\[ \t]*$/;
  let text = '';
  let at = start;
  for (; at < lines.length; at++) {
    const line = lines[at] ?? '';
    if (at > start && isSkipped(line)) continue;
    const more = continued.test(line);
    text = joinTwo(text, more ? line.replace(continued, '') : line, at === start);
    if (!more) return { text, next: at + 1 };
  }
  return { text, next: at };
}

/** Docker keeps the indentation of continuation lines. Outside of quotes one space says the same and reads better. */
function joinTwo(text: string, line: string, first: boolean): string {
  if (first || insideQuotes(text) || !/^\s|\s$/.test(`${line.slice(0, 1)}${text.slice(-1)}`)) return text + line;
  return `${text.trimEnd()} ${line.trimStart()}`;
}

function insideQuotes(text: string): boolean {
  let quote = '';
  for (let i = 0; i < text.length; i++) {
    const char = text.charAt(i);
    if (char === '\\' && quote !== "'") i++;
    else if (quote === '' && (char === '"' || char === "'")) quote = char;
    else if (char === quote) quote = '';
  }
  return quote !== '';
}

function splitFlags(keyword: string, rest: string): { flags: Instruction['flags']; rest: string } {
  const flags: Instruction['flags'] = [];
  while (WITH_FLAGS.has(keyword)) {
    const match = /^--([a-z][\w-]*)(?:=(\S*))?(?:\s+|$)/.exec(rest);
    if (match === null) break;
    flags.push({ name: match[1] ?? '', value: match[2] ?? '' });
    rest = rest.slice(match[0].length);
  }
  return { flags, rest };
}

/** `<<<` is a here-string, and a `<<` after a digit or letter is arithmetic or a descriptor. */
const HEREDOC = /(?<![<\w])\d*<<(-?)(?:"([A-Za-z_]\w*)"|'([A-Za-z_]\w*)'|([A-Za-z_]\w*))/g;

function readHeredocs(lines: string[], start: number, rest: string, line: number): { heredocs: Heredoc[]; next: number } {
  const heredocs: Heredoc[] = [];
  let at = start;
  for (const match of rest.matchAll(HEREDOC)) {
    if (insideQuotes(rest.slice(0, match.index))) continue;
    const stripTabs = match[1] === '-';
    const name = match[2] ?? match[3] ?? match[4] ?? '';
    const end = lines.findIndex((text, i) => i >= at && (stripTabs ? text.replace(/^\t+/, '') : text) === name);
    if (end < 0) throw invalidDockerfile(line, `the here-document ${name} has no end`);
    heredocs.push({ name, quoted: match[4] === undefined, stripTabs, body: lines.slice(at, end).map((text) => `${text}\n`).join('') });
    at = end + 1;
  }
  return { heredocs, next: at };
}
