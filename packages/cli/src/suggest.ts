import { suggest } from '@hyperdocker/base';

/** The one of `known` that `word` is most likely a slip of, or the beginning of, if any is near enough. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  const names = [...known];
  return suggest(word, names) ?? names.find((name) => word.length > 1 && name.startsWith(word));
}
