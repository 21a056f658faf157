import { posix } from 'node:path';
import { shellQuote } from './shell-quote.ts';

/** COPY or ADD of files of the build context. */
export interface ContextCopy {
  line: number;
  keyword: string;
  /** Relative to the context, as written. */
  sources: string[];
  /** Absolute; a final slash is kept. */
  destination: string;
}

export type CopyOutcome =
  /** The project is at the working directory, and so these files are where the Dockerfile wants them. */
  | { kind: 'in-place'; doubt: string | undefined }
  | { kind: 'step'; command: string; message: string };

/** Docker treats a source that is a directory unlike one that is a file; a text alone can only guess which it is. */
type Guess = 'directory' | 'file' | 'unclear';

const FILE_NAMES = /^(\.?[^.]+\.[^/]+|[A-Z][A-Za-z]*file|LICENSE|README|COPYING|NOTICE|\.[a-z]+rc)$/;

/** What becomes of a copy where the project is at `workdir` (absolute). */
export function translateCopy(copy: ContextCopy, workdir: string): CopyOutcome {
  const intoDirectory = copy.destination.endsWith('/') || copy.sources.length > 1;
  const destination = posix.join('/', copy.destination).replace(/(.)\/$/, '$1');
  const parts = copy.sources.map((source) => ({ path: projectPath(source), guess: guessKind(source) }));
  const extracts = copy.keyword === 'ADD' && parts.some(({ path }) => isArchive(path));
  if (!extracts && parts.every(({ path, guess }) => isInPlace(path, guess, destination, workdir, intoDirectory))) {
    const unclear = parts.find(({ path, guess }) => guess === 'unclear' && posix.join(workdir, path) !== destination);
    return { kind: 'in-place', doubt: unclear === undefined ? undefined : `${unclear.path} stays where it is in the project; if it is a directory, Docker would have put what it holds into ${destination}` };
  }
  const commands = parts.map(({ path, guess }) => copyCommand(copy.keyword, path, guess, destination, intoDirectory));
  return { kind: 'step', command: commands.join(' && '), message: `copied by a build step, because the project itself is at ${workdir}` };
}

/** Relative to the project, without `./` and final slashes; empty for all of it. */
export function projectPath(source: string): string {
  const path = posix.join('/', source).slice(1).replace(/\/$/, '');
  return path;
}

export function hasGlob(source: string): boolean {
  return /[*?[]/.test(source);
}

function guessKind(source: string): Guess {
  const path = projectPath(source);
  if (path === '' || source.endsWith('/')) return 'directory';
  return hasGlob(source) || FILE_NAMES.test(posix.basename(path)) ? 'file' : 'unclear';
}

function isInPlace(path: string, guess: Guess, destination: string, workdir: string, intoDirectory: boolean): boolean {
  if (!hasGlob(path) && !(guess === 'file' && intoDirectory) && posix.join(workdir, path) === destination) return true;
  if (guess === 'directory') return false;
  // `COPY package.json ./`, and also `COPY package.json .` and `COPY package.json /app`.
  return (intoDirectory || destination === workdir) && posix.join(workdir, posix.dirname(path)) === destination;
}

function isArchive(path: string): boolean {
  return /\.(tar|tar\.(gz|bz2|xz|zst)|tgz|tbz2|txz)$/.test(path);
}

function copyCommand(keyword: string, path: string, guess: Guess, destination: string, intoDirectory: boolean): string {
  const from = shellPattern(path);
  const to = shellQuote(destination);
  if (keyword === 'ADD' && isArchive(path)) return `mkdir -p ${to} && tar -xf ${from} -C ${to}`;
  if (guess === 'unclear') {
    const [directory, file] = (['directory', 'file'] as const).map((known) => copyCommand(keyword, path, known, destination, intoDirectory));
    return `if [ -d ${from} ]; then ${directory ?? ''}; else ${file ?? ''}; fi`;
  }
  if (guess === 'directory') return `mkdir -p ${to} && cp -R ${path === '' ? '.' : `${from}/.`} ${to}`;
  if (intoDirectory || hasGlob(path)) return `mkdir -p ${to} && cp ${from} ${destination === '/' ? '/' : `${to}/`}`;
  const parent = posix.dirname(destination);
  return `${parent === '/' ? '' : `mkdir -p ${shellQuote(parent)} && `}cp ${from} ${to}`;
}

/** Quoted but for its wildcards. */
function shellPattern(path: string): string {
  return path.split(/([*?[\]]+)/).map((part, i) => (i % 2 === 1 || part === '' ? part : shellQuote(part))).join('');
}
