import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { EnvSpec, ServiceSpec } from '@hyperdocker/spec';
import type { Filter } from '@hyperdocker/watch';
import { createMatcher } from '@hyperdocker/watch';

/** A place in a file of the project whose text the page shows: another text there has to show on the page. */
export interface ServedText {
  /** Relative to the project. */
  file: string;
  text: string;
  /** What stands there, once in the file. */
  phrase: string;
}

/** A file that a build step reads, and what it says. */
export interface DependencyFile { file: string; text: string }

const MAX_TEXT_BYTES = 256 * 1024;
/** Names that tell of dependencies, the likeliest to be edited by hand first. */
const DEPENDENCY_FILES = [/(^|\/)requirements[^/]*\.txt$/, /(^|\/)package\.json$/, /(^|\/)pyproject\.toml$/, /(^|\/)go\.mod$/, /(^|\/)Cargo\.toml$/, /(^|\/)Gemfile$/, /(^|\/)composer\.json$/, /(^|\/)pom\.xml$/, /(^|\/)build\.gradle/, /(^|\/)CMakeLists\.txt$/, /(^|\/)Makefile$/];

/** The service that is looked at: the first that has a port and runs without being asked for. @throws HdError DEMO_NO_SERVICE */
export function servingService(spec: EnvSpec): ServiceSpec & { port: number } {
  const service = spec.services.find(({ port, profiles }) => port !== undefined && profiles.length === 0);
  if (service?.port === undefined) throw new HdError('DEMO_NO_SERVICE', 'the demo needs a service that answers HTTP at a port', { hint: 'give [services.<name>] a `port`, or name another project' });
  return { ...service, port: service.port };
}

/** Files of the project, relative to it, that the filter lets through. */
export function projectFiles(dir: string, filter: Filter, below = ''): string[] {
  return readdirSync(join(dir, below), { withFileTypes: true }).flatMap((entry) => {
    const path = below === '' ? entry.name : `${below}/${entry.name}`;
    if (entry.isDirectory()) return filter.mayContain(path) ? projectFiles(dir, filter, path) : [];
    return entry.isFile() && filter.decide(path, false).included ? [path] : [];
  }).sort();
}

/**
 * Texts that a page shows and a file has just once. First those of files that the service's first pattern matches, and of these the longest: the likeliest to be words for
 * people, not names for machines. Whether an edit really shows has to be tried.
 */
export function servedTexts(projectDir: string, files: readonly string[], service: Pick<ServiceSpec, 'watch'>, page: string): ServedText[] {
  const patterns = (service.watch.length === 0 ? ['**'] : service.watch).map((pattern) => createMatcher([pattern]));
  const rankOf = (file: string): number => patterns.findIndex((matches) => matches(file));
  const phrases = phrasesOf(page);
  const found = files.filter((file) => rankOf(file) >= 0 && !file.endsWith('hd.toml')).flatMap((file) => {
    const text = readText(join(projectDir, file));
    if (text === undefined) return [];
    const phrase = phrases.find((candidate) => text.split(candidate).length === 2);
    return phrase === undefined ? [] : [{ file, text, phrase }];
  });
  return found.sort((a, b) => rankOf(a.file) - rankOf(b.file) || b.phrase.length - a.phrase.length);
}

/** Of what the steps read, what speaks of dependencies; else the first. Not the served file. */
export function dependencyFile(projectDir: string, reads: readonly string[], served: string): DependencyFile | undefined {
  const candidates = reads.filter((file) => file !== served && file !== 'hd.toml').map((file) => ({ file, rank: DEPENDENCY_FILES.findIndex((pattern) => pattern.test(file)) }));
  candidates.sort((a, b) => (a.rank < 0 ? Infinity : a.rank) - (b.rank < 0 ? Infinity : b.rank) || 0);
  for (const { file } of candidates) {
    const text = readText(join(projectDir, file));
    if (text !== undefined) return { file, text };
  }
  return undefined;
}

/** The file with the mark after the text that the page shows. */
export function withMark({ text, phrase }: ServedText, mark: string): string {
  return text.replace(phrase, () => `${phrase} ${mark}`);
}

/** The file with a mark in it that changes nothing of what it means: a comment, or white space where there are none. */
export function withRemark({ file, text }: DependencyFile, mark: string): string {
  const name = file.split('/').at(-1) ?? file;
  const line = text.endsWith('\n') || text === '' ? '' : '\n';
  if (/\.(txt|toml|ya?ml|cfg|ini|py|rb|sh|mk|cmake|conf|properties)$/.test(name) || /^(Makefile|Gemfile|Rakefile|Dockerfile|Pipfile)/.test(name)) return `${text}${line}# ${mark}\n`;
  if (/\.([cm]?[jt]sx?|c|h|cc|cpp|go|rs|java|kt|gradle|mod)$/.test(name)) return `${text}${line}// ${mark}\n`;
  return `${text}${line}${whiteSpace(mark)}\n`;
}

/** Different for different marks. */
function whiteSpace(mark: string): string {
  return [...Buffer.from(mark)].map((byte) => byte.toString(2).padStart(8, '0').replaceAll('0', ' ').replaceAll('1', '\t')).join('');
}

/** What a page says between its tags and quotes, the longest first. */
function phrasesOf(page: string): string[] {
  const text = page.replace(/<(script|style)\b[\s\S]*?<\/\1>/gi, '\n').replace(/<[^>]*>/g, '\n');
  const phrases = text.split(/[\n"'`<>{}()[\]\\|=&;]+/).map((phrase) => phrase.trim()).filter((phrase) => phrase.length >= 4 && phrase.length <= 120 && /[A-Za-z]{3}/.test(phrase));
  return [...new Set(phrases)].sort((a, b) => b.length - a.length);
}

/** Undefined: no text, or too long for one that people edit. */
function readText(path: string): string | undefined {
  if ((statSync(path, { throwIfNoEntry: false })?.size ?? Infinity) > MAX_TEXT_BYTES) return undefined;
  const bytes = readFileSync(path);
  return bytes.includes(0) ? undefined : bytes.toString('utf8');
}
