import type { DiagnosticCode } from './diagnostic.ts';

/** A form that a string must have. Patterns are plain ECMA-262 without flags, since they go into the JSON Schema. */
export interface Rule {
  pattern: RegExp;
  code: DiagnosticCode;
  /** Completes "<value> must …". */
  must: string;
  hint?: string;
}

const PARENT = String.raw`(?!(?:[\s\S]*\/)?\.\.(?:\/|$))`;

export const rules = {
  text: { pattern: /^[^\u0000]*[^\s\u0000][^\u0000]*$/, code: 'INVALID_VALUE', must: 'not be empty or contain NUL' },
  value: { pattern: /^[^\u0000]*$/, code: 'INVALID_VALUE', must: 'not contain NUL' },
  token: { pattern: /^[^\s\u0000]+$/, code: 'INVALID_VALUE', must: 'not be empty or contain spaces' },
  package: {
    pattern: /^[^\s\u0000-\u001f-][^\u0000-\u001f]*$/,
    code: 'INVALID_VALUE',
    must: 'be a package name, which starts with neither a space nor "-"',
  },
  name: {
    pattern: /^[A-Za-z0-9][A-Za-z0-9_.-]*$/,
    code: 'INVALID_NAME',
    must: 'start with a letter or digit and go on with letters, digits, "_", "." or "-"',
  },
  variable: {
    pattern: /^[A-Za-z_][A-Za-z0-9_]*$/,
    code: 'INVALID_NAME',
    must: 'start with a letter or "_" and go on with letters, digits or "_"',
  },
  projectPath: {
    pattern: new RegExp(String.raw`^(?!\/)${PARENT}[^\u0000]+$`),
    code: 'INVALID_PATH',
    must: 'be a path inside the project: not absolute, without ".."',
    hint: 'write it relative to the directory of hd.toml; what lies outside the project cannot be brought in',
  },
  fileName: {
    pattern: /^(?!\.{1,2}$)[^\u0000/]+$/,
    code: 'INVALID_VALUE',
    must: 'be the name of a file, without "/"',
  },
  containedPath: {
    pattern: new RegExp(String.raw`^${PARENT}[^\u0000]+$`),
    code: 'INVALID_PATH',
    must: 'not be empty or contain ".."',
    hint: 'write an absolute path, or one below the working directory',
  },
  absolutePath: {
    pattern: new RegExp(String.raw`^(?=\/)${PARENT}[^\u0000]+$`),
    code: 'INVALID_PATH',
    must: 'be an absolute path without ".."',
  },
  publish: {
    pattern: /^(?:(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|\[[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*\]|localhost)(?::[0-9]{1,5})?|[0-9]{1,5})$/,
    code: 'INVALID_VALUE',
    must: 'be a port, an address, or both',
    hint: 'such as 8080, "127.0.0.1:8080", "0.0.0.0" or "[::]:8080"',
  },
  reach: {
    pattern: /^[0-9]{1,5}(?::[0-9]{1,5})?$/,
    code: 'INVALID_VALUE',
    must: 'be a port, or two with ":" between them',
    hint: 'such as 5432, or "15432:5432" where it is 15432 on this machine and 5432 for the services',
  },
  mount: {
    pattern: /^[^\u0000:]+:\/[^\u0000:]+(?::(?:ro|rw))?$/,
    code: 'INVALID_VALUE',
    must: 'be NAME:/PATH for a volume or ./DIR:/PATH for a directory of the host, with :ro at the end for reading only',
  },
  httpPath: { pattern: /^\/[^\s\u0000]*$/, code: 'INVALID_VALUE', must: 'be a path that starts with "/"' },
  digest: { pattern: /^[0-9a-f]{64}$/, code: 'INVALID_VALUE', must: 'be a digest of 64 lower-case hex digits' },
  signal: {
    pattern: /^(?:SIG)?(?:HUP|INT|QUIT|USR1|USR2|TERM|KILL|WINCH|CONT)$/,
    code: 'INVALID_VALUE',
    must: 'be a signal, such as "SIGTERM" or "SIGHUP"',
  },
  size: {
    pattern: /^[0-9]{1,9}(?:\.[0-9]{1,3})? ?(?:[KMGTkmgt]i?)?[Bb]?$/,
    code: 'INVALID_VALUE',
    must: 'be a size, such as "512MB" or "1.5GB"',
  },
  user: {
    pattern: /^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(?::[A-Za-z0-9_][A-Za-z0-9_.-]*)?$/,
    code: 'INVALID_VALUE',
    must: 'be a user or user:group, by name or number',
  },
  duration: {
    pattern: /^[0-9]{1,9}(?:\.[0-9]{1,9})?(?:ms|s|m)$/,
    code: 'INVALID_VALUE',
    must: 'be a number with the unit ms, s or m, such as "500ms", "5s" or "1m"',
  },
} as const satisfies Record<string, Rule>;

const byPattern = new Map<string, Rule>(Object.values(rules).map((rule) => [rule.pattern.toString(), rule]));

/** The rule with this pattern, in the text form of a RegExp. */
export function ruleOf(pattern: string): Rule | undefined {
  return byPattern.get(pattern);
}
