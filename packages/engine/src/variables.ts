/** What every shell sets for itself. */
const OF_THE_SHELL = new Set(['HOME', 'IFS', 'LINENO', 'OLDPWD', 'OPTARG', 'OPTIND', 'PPID', 'PWD', 'RANDOM', 'SHLVL', '_']);

/**
 * Variables that a command speaks of (`$NAME`, `${NAME…}`), that it is not given and does not set itself, and that the host
 * has: there the step may look other than on the command line of its author. By name, sorted. A reading of the text, not of
 * the shell's grammar: for explanations, in no key.
 */
export function variablesNotPassed(command: string, passed: Readonly<Record<string, string>>, host: Readonly<Record<string, string | undefined>>): string[] {
  const spoken = [...command.matchAll(/(?<!\\)\$\{?[#!]?([A-Za-z_][A-Za-z0-9_]*)/g)].map((match) => match[1] ?? '');
  return [...new Set(spoken)].filter((name) => !(name in passed) && host[name] !== undefined && !OF_THE_SHELL.has(name) && !isSetBy(command, name)).sort();
}

/** `NAME=…`, `for NAME in`, `read NAME`. */
function isSetBy(command: string, name: string): boolean {
  return new RegExp(`(^|[\\s;&|({])(${name}=|for\\s+${name}\\b|read\\s([^;&|\\n]*\\s)?${name}\\b)`).test(command);
}
