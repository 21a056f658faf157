/**
 * Patterns of a .dockerignore, and of `--exclude`, by Docker's rules: paths from the root of the context, `*` and `?` within a name, `**` over any number of them, `!` takes
 * back, and of several that match the last decides. What matches a directory matches all below it.
 */
export interface IgnoreMatcher {
  /** @param parent what was returned for the directory above; undefined for the root's entries */
  match(path: string, parent?: IgnoreMatch): IgnoreMatch;
  /** May something below an ignored directory be taken back? */
  readonly hasExceptions: boolean;
}

export interface IgnoreMatch { ignored: boolean; /** Of each pattern: does it match this path or a directory above it? */ matched: readonly boolean[] }

/** The patterns of a .dockerignore file. */
export function readIgnoreFile(text: string): string[] {
  return text.replace(/^\uFEFF/, '').split(/\r?\n/).filter((line) => !line.startsWith('#')).map((line) => line.trim()).filter((line) => line !== '').map(cleanPattern);
}

export function ignoreMatcher(patterns: readonly string[]): IgnoreMatcher {
  const rules = patterns.map(cleanPattern).filter((pattern) => pattern !== '' && pattern !== '!' && pattern !== '.').map((pattern) => {
    const isException = pattern.startsWith('!');
    return { isException, regex: new RegExp(`^${patternSource(isException ? pattern.slice(1) : pattern)}$`, 's') };
  });
  return {
    hasExceptions: rules.some(({ isException }) => isException),
    match(path, parent) {
      const matched = rules.map(({ regex }, nth) => parent?.matched[nth] === true || regex.test(path));
      const last = rules.findLastIndex((_, nth) => matched[nth] === true);
      return { matched, ignored: last >= 0 && rules[last]?.isException === false };
    },
  };
}

function cleanPattern(line: string): string {
  const isException = line.startsWith('!');
  const parts: string[] = [];
  for (const part of (isException ? line.slice(1) : line).trim().split('/')) {
    if (part === '' || part === '.') continue;
    if (part === '..') parts.pop();
    else parts.push(part);
  }
  return `${isException ? '!' : ''}${parts.join('/')}`;
}

function patternSource(pattern: string): string {
  let source = '';
  for (let i = 0; i < pattern.length; i++) {
    const char = pattern.charAt(i);
    if (char === '*' && pattern.charAt(i + 1) === '*') {
      i++;
      if (pattern.charAt(i + 1) === '/') i++;
      source += i + 1 >= pattern.length ? '.*' : '(.*/)?';
    } else if (char === '*') source += '[^/]*';
    else if (char === '?') source += '[^/]';
    else if (char === '\\' && i + 1 < pattern.length) source += quoted(pattern.charAt(++i));
    else if (char === '[' && pattern.indexOf(']', i) > 0) {
      const end = pattern.indexOf(']', i + 2) < 0 ? pattern.indexOf(']', i) : pattern.indexOf(']', i + 2);
      source += `[${pattern.slice(i + 1, end).replaceAll('\\', '\\\\')}]`;
      i = end;
    } else source += quoted(char);
  }
  return source;
}

function quoted(char: string): string {
  return char.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}

/** One name or path with `*`, `?` and `[…]`, as the sources of COPY are written; no wild card matches a slash. */
export function globMatcher(pattern: string): (path: string) => boolean {
  const regex = new RegExp(`^${patternSource(pattern.replace(/\*\*+/g, '*'))}$`, 's');
  return (path) => regex.test(path);
}

export function hasWildcard(text: string): boolean {
  return /[*?[]/.test(text.replace(/\\./g, ''));
}
