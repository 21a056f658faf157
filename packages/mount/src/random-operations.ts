import { chmodSync, chownSync, linkSync, lstatSync, mkdirSync, readdirSync, renameSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sys, toByteString } from '@hyperdocker/base';

/** HD_TEST_SEED, or another one at each run. */
export function seedOf(env: NodeJS.ProcessEnv): number {
  return Number(env['HD_TEST_SEED'] ?? Date.now() % 1_000_000);
}

/** Does twenty-odd things to the files below `dir`, the same for the same seed and files. Returns what it did. */
export function randomOperations(dir: string, seed: number): string[] {
  const random = generator(seed);
  const log: string[] = [];
  for (let i = 0; i < 25; i++) {
    const operation = pick(random, OPERATIONS);
    const done = operation(new Site(dir, random));
    if (done !== undefined) log.push(done);
  }
  return log;
}

/** mulberry32. */
function generator(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function pick<T>(random: () => number, values: readonly T[]): T {
  return values[Math.floor(random() * values.length)]!;
}

class Site {
  readonly dir: string;
  readonly random: () => number;
  readonly #paths: FoundPath[];

  constructor(dir: string, random: () => number) {
    this.dir = dir;
    this.random = random;
    this.#paths = pathsBelow(dir);
  }

  any(kind?: 'file' | 'dir'): string | undefined {
    const found = this.#paths.filter((entry) => kind === undefined || entry.kind === kind);
    return found.length === 0 ? undefined : pick(this.random, found).path;
  }

  /** A name that may or may not be taken. */
  name(): string {
    return join(this.random() < 0.3 ? this.dir : (this.any('dir') ?? this.dir), pick(this.random, ['f1', 'f2', 'sub', 'd1', 'd4', 'n1', 'n2', 'ü x']));
  }

  free(): string {
    const name = this.name();
    if (lstatSync(name, { throwIfNoEntry: false }) !== undefined) rmSync(name, { recursive: true });
    return name;
  }
}

interface FoundPath { path: string; kind: 'file' | 'dir' | 'other' }

/** In order, without following links. */
function pathsBelow(dir: string): FoundPath[] {
  return readdirSync(dir).sort().flatMap((name): FoundPath[] => {
    const path = join(dir, name);
    const stats = lstatSync(path);
    if (stats.isDirectory()) return [{ path, kind: 'dir' }, ...pathsBelow(path)];
    return [{ path, kind: stats.isFile() ? 'file' : 'other' }];
  });
}

/** Each returns what it did, or undefined where there was nothing to do it to. */
const OPERATIONS: readonly ((site: Site) => string | undefined)[] = [
  (site) => withPath(site.free(), 'write', (path) => writeFileSync(path, `r${site.random()}`)),
  (site) => withPath(site.any('file'), 'overwrite', (path) => writeFileSync(path, `o${site.random()}`)),
  (site) => withPath(site.any('file'), 'append', (path) => writeFileSync(path, '+', { flag: 'a' })),
  (site) => withPath(site.any('file'), 'truncate', (path) => truncateSync(path, 1)),
  (site) => withPath(site.any(), 'remove', (path) => rmSync(path, { recursive: true })),
  (site) => withPath(site.free(), 'mkdir', (path) => mkdirSync(path, { mode: 0o750 })),
  (site) => withPath(site.any('dir'), 'clear and make again', (path) => {
    rmSync(path, { recursive: true });
    mkdirSync(path);
  }),
  (site) => move(site, site.any('file')),
  (site) => move(site, site.any('dir')),
  (site) => move(site, site.any('dir')),
  (site) => withPath(site.any('file'), 'link', (path) => {
    const to = site.name();
    if (lstatSync(to, { throwIfNoEntry: false }) === undefined) linkSync(path, to);
  }),
  (site) => withPath(site.free(), 'symlink', (path) => symlinkSync('../f1', path)),
  (site) => withPath(site.any('file'), 'chmod', (path) => chmodSync(path, pick(site.random, [0o600, 0o755, 0o4755]))),
  (site) => withPath(site.any('dir'), 'chmod', (path) => chmodSync(path, pick(site.random, [0o700, 0o1777]))),
  (site) => withPath(site.any('file'), 'chown', (path) => chownSync(path, 12, 34)),
  (site) => withPath(site.any(), 'touch', (path) => sys().setTimes(path, 1n, 1_600_000_000_000_000_001n)),
  (site) => withPath(site.any('file'), 'setxattr', (path) => sys().setXattr(path, toByteString('user.x'), Buffer.from(String(site.random())))),
  (site) => withPath(site.free(), 'mkfifo', (path) => sys().makeNode(path, 0o010644, 0, 0)),
];

function withPath(path: string | undefined, what: string, act: (path: string) => void): string | undefined {
  if (path === undefined) return undefined;
  act(path);
  return `${what} ${path}`;
}

function move(site: Site, from: string | undefined): string | undefined {
  const to = site.name();
  if (from === undefined || to === from || to.startsWith(`${from}/`) || from.startsWith(`${to}/`)) return undefined;
  if (lstatSync(to, { throwIfNoEntry: false }) !== undefined) rmSync(to, { recursive: true });
  renameSync(from, to);
  return `move ${from} ${to}`;
}
