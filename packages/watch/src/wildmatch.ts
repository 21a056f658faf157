/**
 * Git's globs, byte by byte: `*` and `?` stop at slashes, `**` between slashes stands for any number of directories, `[a-z]`, `[!x]` and `[[:alpha:]]` for one of a set,
 * and a backslash takes the meaning from what follows. Written after the description in gitignore(5) and checked against git itself.
 */
export function wildmatch(pattern: string, text: string): boolean {
  return matchFrom(pattern, text, 0, 0, new Set());
}

/** @param failed what has been tried in vain: many stars would try it again and again */
function matchFrom(pattern: string, text: string, from: number, start: number, failed: Set<number>): boolean {
  let at = start;
  for (let index = from; index < pattern.length; ) {
    const character = pattern[index];
    if (character === '*') return matchStar(pattern, text, index, at, failed);
    const step = stepOver(pattern, index, text[at]);
    if (step === undefined) return false;
    index = step;
    at++;
  }
  return at === text.length;
}

function matchStar(pattern: string, text: string, from: number, at: number, failed: Set<number>): boolean {
  const key = from * (text.length + 1) + at;
  if (failed.has(key)) return false;
  let next = from;
  while (pattern[next] === '*') next++;
  const ends = next === pattern.length || pattern[next] === '/' || pattern.startsWith('\\/', next);
  const crosses = next - from > 1 && (from === 0 || pattern[from - 1] === '/') && ends;
  // `**/` may also stand for nothing.
  if (crosses && pattern[next] === '/' && matchFrom(pattern, text, next + 1, at, failed)) return true;
  for (let end = at; ; end++) {
    if (matchFrom(pattern, text, next, end, failed)) return true;
    if (end === text.length || (!crosses && text[end] === '/')) break;
  }
  failed.add(key);
  return false;
}

/** Where the pattern goes on after the character has been matched; undefined: it has not. */
function stepOver(pattern: string, index: number, character: string | undefined): number | undefined {
  if (character === undefined) return undefined;
  switch (pattern[index]) {
    case '?':
      return character === '/' ? undefined : index + 1;
    case '[':
      return stepOverSet(pattern, index, character);
    case '\\':
      return pattern[index + 1] === character ? index + 2 : undefined;
    default:
      return pattern[index] === character ? index + 1 : undefined;
  }
}

function stepOverSet(pattern: string, open: number, character: string): number | undefined {
  const negated = pattern[open + 1] === '!' || pattern[open + 1] === '^';
  let index = open + (negated ? 2 : 1);
  let found = false;
  let previous: string | undefined;
  for (let isFirst = true; isFirst || pattern[index] !== ']'; isFirst = false) {
    if (pattern[index] === undefined) return undefined;
    const named = /^\[:([a-z]*):\]/.exec(pattern.slice(index));
    if (named !== null) {
      const set = CLASSES[named[1] ?? ''];
      if (set === undefined) return undefined;
      found ||= set.test(character);
      index += named[0].length;
      previous = undefined;
      continue;
    }
    const isRange = pattern[index] === '-' && previous !== undefined && pattern[index + 1] !== undefined && pattern[index + 1] !== ']';
    if (isRange) index++;
    if (pattern[index] === '\\') index++;
    const member = pattern[index];
    if (member === undefined) return undefined;
    found ||= isRange && previous !== undefined ? character >= previous && character <= member : character === member;
    previous = isRange ? undefined : member;
    index++;
  }
  return found === negated || character === '/' ? undefined : index + 1;
}

const CLASSES: Record<string, RegExp> = {
  alnum: /^[A-Za-z0-9]$/, alpha: /^[A-Za-z]$/, blank: /^[ \t]$/, digit: /^[0-9]$/, graph: /^[!-~]$/, lower: /^[a-z]$/,
  print: /^[ -~]$/, punct: /^[!-/:-@[-`{-~]$/, space: /^[ \t-\r]$/, upper: /^[A-Z]$/, xdigit: /^[A-Fa-f0-9]$/,
  // oxlint-disable-next-line no-control-regex
  cntrl: /^[\u0000-\u001f\u007f]$/,
};
