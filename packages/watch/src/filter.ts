import { hasher } from '@hyperdocker/base';
import { IgnoreRules, type IgnoreFile, type IgnoreVerdict } from './ignore-files.ts';
import { parsePattern, type Pattern } from './pattern.ts';
import { prefixesOf } from './selection.ts';

export interface FilterOptions {
  /** Paths from the project's root with everything below them, or globs. Empty: everything. */
  readonly include: readonly string[];
  /** Globs, after the defaults. Of several that match a path the last decides; `!glob` takes an exclusion back. */
  readonly exclude: readonly string[];
  /** Files such as `.gitignore`. What `exclude` says of a path, or of a directory above it that it takes back, comes before what they say. */
  readonly ignoreFiles?: readonly IgnoreFile[];
}

/** Which paths of a project count. Paths are relative to the project's root, with `/` between names; '' is the root. */
export interface Filter {
  /** Filters with equal keys decide alike. */
  readonly key: string;
  decide(path: string, isDirectory: boolean): Decision;
  /** May this directory hold something that counts? If not, a walk need not enter it. */
  mayContain(directory: string): boolean;
}

export interface Decision {
  readonly included: boolean;
  /** The pattern that decided, as it is written in the configuration, and where it comes from. */
  readonly rule: string;
  /** The same for programs. Absent: no pattern did. */
  readonly by?: Decider;
}

export type Decider =
  | { readonly origin: 'default' | 'exclude' | 'include'; readonly pattern: string }
  | { readonly origin: 'ignore-file'; readonly pattern: string; readonly file: string; readonly line: number };

/** What no project means to ship: the database of git, caches, what other programs leave behind. `!target` brings one back. */
export const DEFAULT_EXCLUDES: readonly string[] = ['.git', '**/node_modules/.cache', '.DS_Store', 'target'];

/** Goes up when the same patterns come to mean something else. */
const KEY_VERSION = 1;

/**
 * The one matcher for what is stored, watched and explained.
 *
 * A path counts when `include` names it or a directory above it, and no exclusion holds for it. An exclusion of a directory holds for all below it; a
 * re-inclusion of a path (`!build/keep`) reaches into an excluded directory, one of a name (`!*.keep`) does not, so that `.git` need not be searched.
 */
export function createFilter(options: FilterOptions): Filter {
  const includes = (options.include.some(isRoot) ? [] : options.include).map((text) => parsePattern(text, { anchorNames: true }));
  const excludes = [
    ...DEFAULT_EXCLUDES.map((text): Rule => ({ pattern: parsePattern(text), origin: 'default' })),
    ...options.exclude.map((text): Rule => ({ pattern: parsePattern(text), origin: 'exclude' })),
  ];
  const reachingBack = excludes.filter(({ pattern }) => pattern.negated && pattern.anchored);
  const ignoreFiles = options.ignoreFiles ?? [];
  const ignoreRules = new IgnoreRules(ignoreFiles);
  const directories = new Map<string, Verdict>();

  function verdict(path: string, isDirectory: boolean): Verdict {
    if (path === '') return { excludedBy: undefined, takenBackBy: undefined, includedBy: undefined };
    const known = isDirectory ? directories.get(path) : undefined;
    if (known !== undefined) return known;
    const above = verdict(parentOf(path), true);
    const rule = excludes.findLast(({ pattern }) => pattern.matches(path, isDirectory) && (!pattern.negated || pattern.anchored || above.excludedBy === undefined));
    const found: Verdict = {
      ...(rule === undefined ? inherited(path, isDirectory, above) : rule.pattern.negated ? { excludedBy: undefined, takenBackBy: rule } : { excludedBy: rule, takenBackBy: undefined }),
      includedBy: above.includedBy ?? includes.find((pattern) => pattern.matches(path, isDirectory)),
    };
    if (isDirectory) remember(directories, path, found);
    return found;
  }

  /** Where no exclusion is about the path itself. */
  function inherited(path: string, isDirectory: boolean, above: Verdict): Pick<Verdict, 'excludedBy' | 'takenBackBy'> {
    const said = above.excludedBy === undefined && above.takenBackBy === undefined ? ignoreRules.decide(path, isDirectory) : undefined;
    return said?.ignored === true ? { excludedBy: said, takenBackBy: undefined } : above;
  }

  return {
    key: JSON.stringify([KEY_VERSION, options.include, DEFAULT_EXCLUDES, options.exclude, ...(ignoreFiles.length === 0 ? [] : [hasher.hash(Buffer.from(JSON.stringify(ignoreFiles)))])]),
    decide(path, isDirectory) {
      const { excludedBy, takenBackBy, includedBy } = verdict(path, isDirectory);
      if (excludedBy !== undefined) return { included: false, ...describe(excludedBy) };
      if (includes.length > 0 && includedBy === undefined) return { included: path === '', rule: path === '' ? 'the root' : 'not in include' };
      if (takenBackBy !== undefined) return { included: true, ...describe(takenBackBy) };
      const said = ignoreRules.decide(path, isDirectory);
      if (said !== undefined) return { included: true, ...describe(said) };
      if (includedBy === undefined) return { included: true, rule: 'everything that is not excluded' };
      return { included: true, rule: `include "${includedBy.text}"`, by: { origin: 'include', pattern: includedBy.text } };
    },
    mayContain(directory) {
      const { excludedBy, includedBy } = verdict(directory, true);
      const wanted = includes.length === 0 || includedBy !== undefined || includes.some((pattern) => pattern.mayMatchBelow(directory));
      return wanted && (excludedBy === undefined || reachingBack.some(({ pattern }) => pattern.mayMatchBelow(directory)));
    },
  };
}

/** Do these globs, by the rules of `exclude`, match the path or a directory above it? */
export function matchesAny(patterns: readonly string[], path: string): boolean {
  return createMatcher(patterns)(path);
}

/** `matchesAny` with the globs compiled once. */
export function createMatcher(patterns: readonly string[]): (path: string) => boolean {
  const parsed = patterns.map((text) => parsePattern(text));
  return (path) => {
    const prefixes = prefixesOf(path);
    const last = parsed.findLast((pattern) => prefixes.some((prefix) => pattern.matches(prefix, prefix !== path)));
    return last !== undefined && !last.negated;
  };
}

interface Rule {
  readonly pattern: Pattern;
  readonly origin: 'default' | 'exclude';
}

/** At most one of `excludedBy` and `takenBackBy`. */
interface Verdict {
  readonly excludedBy: Rule | IgnoreVerdict | undefined;
  readonly takenBackBy: Rule | undefined;
  readonly includedBy: Pattern | undefined;
}

const MAX_REMEMBERED = 50_000;

function remember(directories: Map<string, Verdict>, path: string, found: Verdict): void {
  if (directories.size >= MAX_REMEMBERED) directories.clear();
  directories.set(path, found);
}

function describe(decider: Rule | IgnoreVerdict): Pick<Decision, 'rule'> & { by: Decider } {
  if ('origin' in decider) {
    const { pattern: { text }, origin } = decider;
    return { rule: `${origin} "${text}"`, by: { origin, pattern: text } };
  }
  const { pattern, file, line } = decider;
  return { rule: `"${pattern}" in ${file}:${line}`, by: { origin: 'ignore-file', pattern, file, line } };
}

function isRoot(text: string): boolean {
  return text === '.' || text === './';
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
