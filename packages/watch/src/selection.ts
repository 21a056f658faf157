import { parsePattern } from './pattern.ts';

/** Paths that are taken by globs, as those of `exclude`, out of a tree that others fill: of what comes up there only some is meant. */
export interface Selection {
  /** The last pattern that matches the path, or a directory above it, decides. One of a name holds only in directories that are known, one of a path anywhere. */
  takes(path: string): boolean;
  /** May this directory hold something that is taken? */
  mayContain(directory: string): boolean;
}

/** @param isKnown says of a directory, '' for the root, whether patterns of names are meant for it */
export function createSelection(patterns: readonly string[], isKnown: (directory: string) => boolean): Selection {
  const parsed = patterns.map((text) => parsePattern(text === '**' ? '/**' : text));
  const far = parsed.filter(({ negated, anchored }) => anchored && !negated);
  return {
    takes(path) {
      const prefixes = prefixesOf(path);
      const last = parsed.findLast((pattern) => prefixes.some((prefix) => pattern.matches(prefix, prefix !== path)));
      return last !== undefined && !last.negated && (last.anchored || isKnown(prefixes.at(-2) ?? ''));
    },
    mayContain: (directory) => isKnown(directory) || far.some((pattern) => pattern.mayMatchBelow(directory)),
  };
}

/** `a/b/c` → `a`, `a/b`, `a/b/c`. */
export function prefixesOf(path: string): string[] {
  const names = path.split('/');
  return names.map((_, index) => names.slice(0, index + 1).join('/'));
}
