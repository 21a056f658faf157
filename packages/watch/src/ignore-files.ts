import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { isErrno, toByteString } from '@hyperdocker/base';
import { wildmatch } from './wildmatch.ts';

/** A file such as `.gitignore`. `path`: relative to the project's root. */
export interface IgnoreFile { readonly path: string; readonly text: string }

/** What a line of an ignore file says of a path. */
export interface IgnoreVerdict {
  readonly ignored: boolean;
  readonly pattern: string;
  readonly file: string;
  /** 1-based. */
  readonly line: number;
}

/**
 * What ignore files say, by git's rules: the file nearest to a path decides, in it the last line that matches, and what is below an ignored directory cannot be brought back.
 * Git's own exception, files that it tracks already, is not known here.
 */
export class IgnoreRules {
  /** By the directory that they are in. */
  readonly #rules = new Map<string, Rule[]>();
  readonly #directories = new Map<string, IgnoreVerdict | undefined>();

  constructor(files: readonly IgnoreFile[] = []) {
    for (const file of files) this.add(file);
  }

  add(file: IgnoreFile): void {
    const directory = parentOf(file.path);
    this.#rules.set(directory, [...(this.#rules.get(directory) ?? []), ...parseIgnoreFile(file)]);
  }

  /** Undefined: nothing is said. @param path relative to the project's root; not '' */
  decide(path: string, isDirectory: boolean): IgnoreVerdict | undefined {
    if (this.#rules.size === 0) return undefined;
    if (isDirectory && this.#directories.has(path)) return this.#directories.get(path);
    const parent = parentOf(path);
    const above = parent === '' ? undefined : this.decide(parent, true);
    const verdict = above?.ignored === true ? above : this.#decide(path, isDirectory);
    if (isDirectory) {
      if (this.#directories.size >= MAX_REMEMBERED) this.#directories.clear();
      this.#directories.set(path, verdict);
    }
    return verdict;
  }

  #decide(path: string, isDirectory: boolean): IgnoreVerdict | undefined {
    for (let directory = path; directory !== ''; ) {
      directory = parentOf(directory);
      const inside = directory === '' ? path : path.slice(directory.length + 1);
      const rule = this.#rules.get(directory)?.findLast(({ matches }) => matches(inside, isDirectory));
      if (rule !== undefined) return rule.verdict;
    }
    return undefined;
  }
}

const MAX_REMEMBERED = 50_000;

interface Rule {
  /** @param path relative to the directory of the file */
  matches(path: string, isDirectory: boolean): boolean;
  readonly verdict: IgnoreVerdict;
}

function parseIgnoreFile({ path, text }: IgnoreFile): Rule[] {
  const lines = text.replace(/^\uFEFF/, '').split('\n').map((line) => line.replace(/\r$/, ''));
  return lines.flatMap((line, index) => (line === '' || line.startsWith('#') ? [] : (parseRule(withoutTrailingSpaces(line), { file: path, line: index + 1 }) ?? [])));
}

function parseRule(line: string, place: { file: string; line: number }): Rule | undefined {
  const negated = line.startsWith('!');
  const body = toByteString(negated ? line.slice(1) : line) as string;
  const directoriesOnly = body.endsWith('/');
  const glob = directoriesOnly ? body.slice(0, -1) : body;
  if (glob === '') return undefined;
  const isMatch = glob.includes('/') ? pathMatcher(glob.replace(/^\//, '')) : nameMatcher(glob);
  return {
    matches: (path, isDirectory) => (isDirectory || !directoriesOnly) && isMatch(toByteString(path)),
    verdict: { ignored: !negated, pattern: line, ...place },
  };
}

function pathMatcher(glob: string): (path: string) => boolean {
  return isLiteral(glob) ? (path) => path === glob : (path) => wildmatch(glob, path);
}

function nameMatcher(glob: string): (path: string) => boolean {
  const isMatch = pathMatcher(glob);
  return (path) => isMatch(path.slice(path.lastIndexOf('/') + 1));
}

function isLiteral(glob: string): boolean {
  return !/[*?[\\]/.test(glob);
}

/** A backslash keeps the space that follows it. */
function withoutTrailingSpaces(line: string): string {
  const kept = /^(?:\\.|[^\\])*?(?= *$)/s.exec(line)?.[0];
  return kept === undefined || line.slice(kept.length).trim() !== '' ? line : kept;
}

/**
 * The ignore files of a project, those nearest to its root first. What is ignored is not searched for more.
 * @param mayEnter which directories may belong to the project
 */
export function readIgnoreFiles(root: string, names: readonly string[], mayEnter: (directory: string) => boolean): IgnoreFile[] {
  const found: IgnoreFile[] = [];
  if (names.length === 0) return found;
  const rules = new IgnoreRules();
  const directories = [''];
  for (let directory = directories.shift(); directory !== undefined; directory = directories.shift()) {
    const entries = list(join(root, directory));
    for (const name of names) {
      if (!entries.some((entry) => entry.name === name && entry.isFile())) continue;
      const path = directory === '' ? name : `${directory}/${name}`;
      const text = read(join(root, path));
      if (text === undefined) continue;
      found.push({ path, text });
      rules.add({ path, text });
    }
    for (const entry of entries) {
      const path = directory === '' ? entry.name : `${directory}/${entry.name}`;
      if (entry.isDirectory() && mayEnter(path) && rules.decide(path, true)?.ignored !== true) directories.push(path);
    }
  }
  return found;
}

function list(directory: string) {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch (error) {
    // The one who takes the files in says so, where it matters.
    if (isErrno(error, 'ENOENT', 'ENOTDIR', 'EACCES')) return [];
    throw error;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'EACCES', 'EISDIR')) return undefined;
    throw error;
  }
}

function parentOf(path: string): string {
  return path.slice(0, Math.max(0, path.lastIndexOf('/')));
}
