import { HdError } from '@hyperdocker/base';
import picomatch from 'picomatch';

/**
 * One glob, by the rule that holds in all of `hd.toml`:
 *
 *     src/*.ts      a slash: the path from the project's root         /build    only the one at the root
 *     *.log         no slash: the base name, at any depth             build/    directories only
 *     !keep.log     takes back what an earlier pattern has said
 *
 * Whatever a pattern matches, it matches with everything below. Wild cards match names that begin with a dot.
 */
export interface Pattern {
  /** As written. */
  readonly text: string;
  readonly negated: boolean;
  /** Holds for paths from the root, not for base names. */
  readonly anchored: boolean;
  /** The path itself, not what is below it. */
  matches(path: string, isDirectory: boolean): boolean;
  /** May something below this directory match? Says yes where it would take long to know. */
  mayMatchBelow(directory: string): boolean;
}

/** `anchorNames`: a name without wild cards is a path from the root, too. Throws `PATTERN_INVALID` for one that names nothing. */
export function parsePattern(text: string, options: { anchorNames?: boolean } = {}): Pattern {
  const negated = text.startsWith('!');
  const body = (negated ? text.slice(1) : text).replace(/^\.\//, '');
  const directoriesOnly = body.endsWith('/');
  const glob = body.replace(/^\/+/, '').replace(/\/+$/, '');
  if (glob === '') throw new HdError('PATTERN_INVALID', `The pattern '${text}' names nothing.`, { hint: 'Remove it, or write ** for everything.' });
  const anchored = body.startsWith('/') || glob.includes('/') || (options.anchorNames === true && !picomatch.scan(glob).isGlob);
  const isMatch = picomatch(glob, MATCH_OPTIONS);
  return {
    text,
    negated,
    anchored,
    matches: (path, isDirectory) => (isDirectory || !directoriesOnly) && isMatch(anchored ? path : baseName(path)),
    mayMatchBelow: anchored ? belowMatcher(glob) : () => true,
  };
}

const MATCH_OPTIONS = { dot: true, nonegate: true };

/** Compares segment by segment as far as both go. */
function belowMatcher(glob: string): (directory: string) => boolean {
  // A slash inside braces or parentheses is no boundary between segments.
  if (/[{(][^})]*\//.test(glob)) return () => true;
  const segments = glob.split('/');
  const matchers = segments.map((segment) => (segment.includes('**') ? undefined : picomatch(segment, MATCH_OPTIONS)));
  return (directory) => {
    if (directory === '') return true;
    const names = directory.split('/');
    for (const [depth, name] of names.entries()) {
      const matcher = matchers[depth];
      // The end of the pattern is the match itself, and everything below it matches, too; `**` may stand for any depth.
      if (matcher === undefined) return true;
      if (!matcher(name)) return false;
    }
    return true;
  };
}

function baseName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
