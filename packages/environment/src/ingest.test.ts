import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs, { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock, test } from 'node:test';
import fc from 'fast-check';
import type { ByteString } from '@hyperdocker/base';
import { hostPath, sys, toByteString } from '@hyperdocker/base';
import type { Store, Tree } from '@hyperdocker/cas';
import { lookupPath, openMemoryStore, openStore, walkTree } from '@hyperdocker/cas';
import { waitUntil } from '@hyperdocker/testkit';
import type { Filter } from '@hyperdocker/watch';
import { createFilter } from '@hyperdocker/watch';
import type { Ingested, IngestOptions } from './ingest.ts';
import { Ingest, statMs } from './ingest.ts';

const EVERYTHING = createFilter({ include: [], exclude: [] });
/** Longer than what counts as young. */
const OLD_MS = 60;

class Project implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'hd-ingest-'));
  readonly files = join(this.dir, 'project');
  readonly cacheFile = join(this.dir, 'stat.cache');
  readonly store: Store;
  #options: IngestOptions;
  #ingest: Ingest;

  constructor(files: Record<string, string>, options: Partial<IngestOptions> = {}) {
    this.#options = { store: openMemoryStore(), projectDir: this.files, filter: EVERYTHING, statCacheFile: this.cacheFile, owner: { uid: 5, gid: 6 }, ...options };
    this.store = this.#options.store;
    mkdirSync(this.files);
    this.write(files);
    this.#ingest = new Ingest(this.#options);
  }

  at(path: string): string {
    return join(this.files, path);
  }

  write(files: Record<string, string>): void {
    for (const [path, text] of Object.entries(files)) {
      mkdirSync(join(this.at(path), '..'), { recursive: true });
      writeFileSync(this.at(path), text);
    }
  }

  /** Is everything above it a directory of the project? */
  isBelowDirectories(path: string): boolean {
    return above(path).every((dir) => lstatSync(this.at(dir), { throwIfNoEntry: false })?.isDirectory() === true);
  }

  /** Removes what stands at `path`, and in its way there. */
  makeWay(path: string): void {
    for (const dir of above(path)) {
      if (lstatSync(this.at(dir), { throwIfNoEntry: false })?.isDirectory() === true) continue;
      rmSync(this.at(dir), { force: true });
      mkdirSync(this.at(dir));
    }
    rmSync(this.at(path), { recursive: true, force: true });
  }

  scan(): Ingested {
    return this.#ingest.scan();
  }

  update(paths: string[]): Ingested {
    return this.#ingest.update(paths);
  }

  /** By someone who knows nothing of it. */
  fresh(): Ingested {
    return new Ingest({ ...this.#options, store: openMemoryStore(), statCacheFile: join(this.dir, 'other.cache') }).scan();
  }

  /** As a new process would. */
  reopen(options: Partial<IngestOptions> = {}): void {
    this.#options = { ...this.#options, ...options };
    this.#ingest = new Ingest(this.#options);
  }

  /** Waits until the clock has moved on from every change so far. */
  async age(): Promise<void> {
    const youngest = Math.max(...readdirSync(this.files, { recursive: true, encoding: 'utf8' }).map((path) => lstatSync(this.at(path)).ctimeMs));
    await waitUntil('the files are old', () => (Date.now() > youngest + OLD_MS ? true : undefined));
  }

  shownMtime(path: string): bigint {
    return lookupPath(this.store, this.scan().projected, toByteString(path))?.meta?.mtimeNs ?? 0n;
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true, force: true });
  }
}

/** `a/b/c`: `a`, `a/b`. */
function above(path: string): string[] {
  return path.split('/').slice(0, -1).map((_, index, names) => names.slice(0, index + 1).join('/'));
}

const FILES = { 'src/main.c': 'int main;', 'src/deep/er/x': '1', 'README.md': '# readme' };

test('after a scan that read many files, what is known of them is what the cache says, and edits are found as before', () => {
  using project = new Project(Object.fromEntries(Array.from({ length: 5_100 }, (_, i) => [`${i % 50}/f${i}`, `text ${i}`])));
  const first = project.scan();
  assert.deepEqual([first.files, first.hashed], [5_100, 5_100]);
  project.write({ '7/f7': 'another text' });
  rmSync(project.at('8/f8'));
  const updated = project.update(['7/f7', '8/f8']);
  assert.deepEqual([updated.files, updated.source], [5_099, project.fresh().source]);
  project.write({ '9/new': 'new' });
  assert.equal(project.scan().source, project.fresh().source);
});

test('umask, owner and time of a checkout change no root', () => {
  const store = openMemoryStore();
  const roots = [0o002, 0o022, 0o077].map((umask, i) => {
    const old = process.umask(umask);
    try {
      using project = new Project(FILES, { store });
      utimesSync(project.at('src/main.c'), 1000 + i, 2000 + i);
      if (process.getuid?.() === 0) chownSync(project.at('README.md'), 1000 + i, 1000 + i);
      chmodSync(project.at('src/deep'), [0o700, 0o755, 0o775][i] ?? 0);
      return project.scan().source;
    } finally {
      process.umask(old);
    }
  });
  assert.equal(new Set(roots).size, 1);
});

test('content, exec bit, kind, link target, names and empty directories do', () => {
  using project = new Project(FILES);
  const roots = new Set([project.scan().source]);
  const changes: (() => void)[] = [
    () => project.write({ 'README.md': '# Readme' }),
    () => chmodSync(project.at('README.md'), 0o744),
    () => mkdirSync(project.at('empty')),
    () => symlinkSync('README.md', project.at('link')),
    () => {
      rmSync(project.at('link'));
      symlinkSync('src', project.at('link'));
    },
    () => renameSync(project.at('README.md'), project.at('README')),
    () => {
      rmSync(project.at('README'));
      mkdirSync(project.at('README'));
    },
  ];
  for (const [i, change] of changes.entries()) {
    change();
    roots.add(project.scan().source);
    assert.equal(roots.size, i + 2, change.toString());
  }
});

test('the projected tree has an owner and times; the source has neither', () => {
  using project = new Project(FILES);
  const { source, projected, files, bytes } = project.scan();
  assert.deepEqual([files, bytes], [3, Object.values(FILES).join('').length]);
  assert.deepEqual([...walkTree(project.store, source)].filter(({ entry }) => entry.meta !== undefined), []);
  for (const { path, entry } of walkTree(project.store, projected)) assert.deepEqual([entry.meta?.uid, entry.meta?.gid], [5, 6], path);
  assert.equal(lookupPath(project.store, projected, toByteString('README.md'))?.meta?.mtimeNs, lstatSync(project.at('README.md'), { bigint: true }).mtimeNs);
});

test('only what changed is read, also by the next process', async () => {
  using project = new Project(FILES);
  await project.age();
  assert.equal(project.scan().hashed, 3);
  assert.equal(project.scan().hashed, 0);
  project.reopen();
  assert.equal(project.scan().hashed, 0);
  project.write({ 'src/main.c': 'int main();' });
  await project.age();
  assert.equal(project.scan().hashed, 1);
  renameSync(project.at('src/deep'), project.at('src/moved'));
  assert.equal(project.scan().hashed, 1, 'another path');
  rmSync(project.at('src/moved'), { recursive: true });
  const { hashed, files } = project.scan();
  assert.deepEqual([hashed, files], [0, 2]);
});

test('a file that is written again right after a scan, with the same size, is seen', () => {
  using project = new Project({ f: '000' });
  const seen = new Set<string>();
  for (let i = 0; i < 50; i++) {
    writeFileSync(project.at('f'), String(i).padStart(3, '0'));
    seen.add(project.scan().source);
  }
  assert.equal(seen.size, 50);
});

test('also when the time is set back', async () => {
  using project = new Project({ f: 'old' });
  await project.age();
  const before = project.scan();
  const { atime, mtime } = lstatSync(project.at('f'));
  writeFileSync(project.at('f'), 'new');
  utimesSync(project.at('f'), atime, mtime);
  assert.notEqual(project.scan().source, before.source);
});

test('touching, copying over and checking out the same bytes keep the projected tree', async () => {
  using project = new Project(FILES);
  await project.age();
  const { projected } = project.scan();
  utimesSync(project.at('README.md'), 4_000_000_000, 4_000_000_000);
  assert.equal(project.scan().projected, projected);
  project.write({ 'README.md': FILES['README.md'] });
  assert.equal(project.scan().projected, projected);
  rmSync(project.at('README.md'));
  project.write({ 'README.md': FILES['README.md'] });
  project.reopen();
  assert.equal(project.scan().projected, projected);
});

test('new content is always shown newer, whatever the host says', () => {
  using project = new Project({ f: 'first' });
  const shown = [project.shownMtime('f')];
  const put = (text: string, seconds?: number): void => {
    project.write({ f: text });
    if (seconds !== undefined) utimesSync(project.at('f'), seconds, seconds);
    shown.push(project.shownMtime('f'));
  };
  put('second');
  put('first', 1000);
  put('third', 500);
  assert.deepEqual(shown, shown.toSorted((a, b) => (a < b ? -1 : 1)));
  assert.equal(new Set(shown).size, shown.length);
});

test('new content is shown newer even after a time in the future', () => {
  using project = new Project({ f: 'from tomorrow' });
  utimesSync(project.at('f'), 4_000_000_000, 4_000_000_000);
  const before = project.shownMtime('f');
  project.write({ f: 'from today' });
  assert(project.shownMtime('f') > before);
});

test('an excluded directory is not walked', () => {
  const filter = createFilter({ include: [], exclude: ['node_modules', '*.log'] });
  const asked: string[] = [];
  const listening: Filter = { ...filter, decide: (path, isDirectory) => (asked.push(path), filter.decide(path, isDirectory)), mayContain: (dir) => filter.mayContain(dir) };
  using project = new Project({ 'src/a': '', 'src/x.log': '', 'node_modules/pkg/index.js': '', '.git/HEAD': '' }, { filter: listening });
  const { source, files } = project.scan();
  assert.deepEqual([...walkTree(project.store, source)].map(({ path }) => path), ['src', 'src/a']);
  assert.equal(files, 1);
  assert.deepEqual(asked.filter((path) => path.startsWith('node_modules/') || path.startsWith('.git/')), []);
});

test('what is taken back from an excluded directory is there, and nothing else of it', () => {
  using project = new Project({ 'build/keep/a': '', 'build/other/b': '', 'build/c': '' }, { filter: createFilter({ include: [], exclude: ['build', '!build/keep'] }) });
  assert.deepEqual([...walkTree(project.store, project.scan().source)].map(({ path }) => path), ['build', 'build/keep', 'build/keep/a']);
});

test('names are bytes; pipes and sockets of the host are left out', () => {
  using project = new Project({ 'ü 🦊\n': 'text' });
  const strange = 'invalid\xff' as ByteString;
  writeFileSync(hostPath(project.files, strange), 'x');
  symlinkSync(Buffer.from('to\xfe', 'latin1'), project.at('link'));
  sys().makeNode(project.at('pipe'), 0o010644, 0, 0);
  const { source } = project.scan();
  assert.deepEqual([...walkTree(project.store, source)].map(({ path }) => path), [strange, 'link', toByteString('ü 🦊\n')].toSorted());
  const link = lookupPath(project.store, source, toByteString('link'));
  assert(link?.kind === 'symlink' && link.target === 'to\xfe');
  project.reopen();
  assert.equal(project.scan().source, source);
});

test('a project that is gone is an error that says so', () => {
  using project = new Project(FILES);
  rmSync(project.files, { recursive: true });
  assert.throws(() => project.scan(), { code: 'PROJECT_UNREADABLE' });
});

/** How often a function of `node:fs` is called. */
function countCalls(name: 'lstatSync' | 'readdirSync', work: () => void): number {
  const counter = mock.method(fs, name);
  syncBuiltinESMExports();
  try {
    work();
    return counter.mock.callCount();
  } finally {
    counter.mock.restore();
    syncBuiltinESMExports();
  }
}

test('an update of one path reads one file, and looks at nothing beside the way to it', async () => {
  const store = openMemoryStore();
  const trees: Tree[] = [];
  const putTree = store.putTree.bind(store);
  store.putTree = (entries) => (trees.push(entries), putTree(entries));
  const files = Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`a/b${i % 3}/c${i % 30}/f${i}`, String(i)]));
  using project = new Project(files, { store });
  project.scan();
  project.write({ 'a/b0/c0/f0': 'changed' });
  await project.age();
  trees.length = 0;
  let updated: Ingested | undefined;
  const stats = countCalls('lstatSync', () => assert.equal(countCalls('readdirSync', () => (updated = project.update(['a/b0/c0/f0']))), 0));
  const depth = 4;
  assert.deepEqual([updated?.hashed, updated?.files], [1, 300]);
  assert(stats <= depth + 1, `${stats} calls of lstat`);
  assert.equal(trees.length, 2 * depth, 'the directories above, as source and as projected');
  assert.equal(updated?.source, project.fresh().source);
});

/** Edits as tools make them. Each tells the paths that a watcher would name. */
type Edit = (project: Project) => string[];
const PLACES = ['a', 'b', 'a/x', 'a/y', 'b/x', 'a/x/deep', 'a/x/deep/er', 'keep/log', 'out', 'out/kept', 'out/kept/f', 'out/other', 'x.log'];
const place = fc.constantFrom(...PLACES);
const edits: fc.Arbitrary<Edit> = fc.oneof(
  fc.tuple(place, fc.constantFrom('', '1', '22', '333')).map(([path, text]): Edit => (project) => (project.makeWay(path), writeFileSync(project.at(path), text), [path])),
  place.map((path): Edit => (project) => {
    if (project.isBelowDirectories(path)) rmSync(project.at(path), { recursive: true, force: true });
    return [path];
  }),
  place.map((path): Edit => (project) => (project.makeWay(path), mkdirSync(project.at(path)), [path])),
  fc.tuple(place, place).map(([from, to]): Edit => (project) => {
    const isThere = project.isBelowDirectories(from) && lstatSync(project.at(from), { throwIfNoEntry: false }) !== undefined;
    if (!isThere || from === to || to.startsWith(`${from}/`) || from.startsWith(`${to}/`)) return [];
    project.makeWay(to);
    renameSync(project.at(from), project.at(to));
    return [from, to];
  }),
  fc.tuple(place, place).map(([path, target]): Edit => (project) => (project.makeWay(path), symlinkSync(target, project.at(path)), [path])),
  place.map((path): Edit => (project) => {
    const stats = project.isBelowDirectories(path) ? lstatSync(project.at(path), { throwIfNoEntry: false }) : undefined;
    if (stats?.isFile() === true) chmodSync(project.at(path), stats.mode ^ 0o111);
    return [path];
  }),
);

test('update of what changed comes to what a scan of everything does', () => {
  const filter = createFilter({ include: [], exclude: ['*.log', 'out', '!out/kept'] });
  fc.assert(
    fc.property(fc.array(fc.record({ edits: fc.array(edits, { minLength: 1, maxLength: 4 }), reopen: fc.boolean() }), { minLength: 1, maxLength: 8 }), (rounds) => {
      using project = new Project({ 'a/x/f': '1', 'b/g': '2', 'out/kept/h': '3', 'x.log': '' }, { filter });
      project.scan();
      for (const round of rounds) {
        if (round.reopen) project.reopen();
        const paths = round.edits.flatMap((edit) => edit(project));
        // A new process begins with a scan, as the supervisor does.
        if (round.reopen) project.scan();
        const { source, files, bytes } = project.update(paths);
        const fresh = project.fresh();
        assert.deepEqual([source, files, bytes], [fresh.source, fresh.files, fresh.bytes]);
        assert.equal(project.scan().source, source);
      }
    }),
    { numRuns: 150 },
  );
});

test('what an update came to is known to the next process: shown times too', async () => {
  using project = new Project(FILES);
  utimesSync(project.at('README.md'), 1_500_000_000, 1_500_000_000);
  await project.age();
  project.scan();
  project.write({ 'README.md': 'newer' });
  utimesSync(project.at('README.md'), 1_400_000_000, 1_400_000_000);
  await project.age();
  const updated = project.update(['README.md']);
  project.reopen();
  const { hashed, ...scanned } = project.scan();
  assert.deepEqual({ ...scanned, hashed: 1 }, updated);
  assert.equal(hashed, 0);
});

test('a stat cache that is cut off, damaged or of something else is as none', async () => {
  using project = new Project(FILES);
  await project.age();
  const { source } = project.scan();
  project.write({ 'src/deep/er/x': '22' });
  await project.age();
  const updated = project.update(['src/deep/er/x']);
  const whole = readFileSync(project.cacheFile);
  for (const length of [0, 5, 16, 30, whole.length - 1]) {
    writeFileSync(project.cacheFile, whole.subarray(0, length));
    project.reopen();
    assert.equal(project.scan().source, updated.source, `${length} bytes`);
  }
  for (let at = 0; at < whole.length; at += 7) {
    const damaged = Buffer.from(whole);
    damaged[at] = (damaged[at] ?? 0) ^ 0x40;
    writeFileSync(project.cacheFile, damaged);
    project.reopen();
    assert.equal(project.scan().source, updated.source, `byte ${at}`);
  }
  assert.notEqual(source, updated.source);
});

test('a store that has lost what the stat cache speaks of gets it anew', async () => {
  using project = new Project(FILES);
  await project.age();
  const before = project.scan();
  project.store.gc();
  assert(!project.store.hasTree(before.source));
  assert.deepEqual(project.scan(), before);
  project.store.gc();
  project.reopen();
  assert.deepEqual(project.scan(), before);
  assert(project.store.hasTree(before.projected));
});

test('another filter or owner makes other trees of the same facts', async () => {
  using project = new Project({ ...FILES, 'build/out.o': 'x' });
  await project.age();
  const all = project.scan();
  project.reopen({ filter: createFilter({ include: [], exclude: ['build'] }) });
  const some = project.scan();
  assert.deepEqual([some.files, some.hashed], [3, 0]);
  project.reopen({ filter: EVERYTHING, owner: { uid: 8, gid: 8 } });
  const again = project.scan();
  assert.deepEqual([again.source, again.hashed], [all.source, 1]);
  assert.equal(lookupPath(project.store, again.projected, toByteString('README.md'))?.meta?.uid, 8);
});

test('times as numbers are what lstat says', () => {
  using project = new Project({ f: '' });
  for (const seconds of [0, 1.5, 1_600_000_000.123_456_7, 4_000_000_000.999_999, -1.25]) {
    utimesSync(project.at('f'), seconds, seconds);
    const { mtimeNs, ctimeNs } = lstatSync(project.at('f'), { bigint: true });
    const { mtimeMs, ctimeMs } = lstatSync(project.at('f'));
    assert.deepEqual([statMs(mtimeNs), statMs(ctimeNs)], [mtimeMs, ctimeMs]);
  }
});

test('threads store the same as one does', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-ingest-store-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const names = Array.from({ length: 1500 }, (_, i) => `d${i % 40}/f${i}`);
  const files = Object.fromEntries(names.map((name, i) => [name, `${i % 700} `.repeat(i % 97)]));
  const large = Buffer.alloc(3 << 20, 'large');
  using alone = new Project({ ...files, large: large.toString() });
  const expected = alone.scan();
  const storeDir = join(dir, 'store');
  {
    using store = openStore(storeDir, { nodeLinks: () => [] });
    using project = new Project({ ...files, large: large.toString() }, { store, storeDir });
    const { source, files: count, hashed } = project.scan();
    assert.deepEqual([source, count, hashed], [expected.source, 1501, 1501]);
  }
  using reopened = openStore(storeDir, { nodeLinks: () => [] });
  for (const { path, entry } of walkTree(reopened, expected.source)) {
    if (entry.kind === 'file') assert.equal(reopened.getBlob(entry.digest).toString(), path === 'large' ? large.toString() : files[path], path);
  }
  assert.deepEqual(reopened.fsck().problems, []);
});

test('memory does not grow with the size of the largest file', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-ingest-memory-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const peakBytes = (name: string, sizeBytes: number): number => {
    const project = join(dir, name);
    mkdirSync(project);
    for (let i = 0; i < 600; i++) writeFileSync(join(project, `f${i}`), `${i} `.repeat(i));
    const fd = fs.openSync(join(project, 'large'), 'w');
    for (let at = 0; at < sizeBytes; at += 10 << 20) fs.writeSync(fd, `somewhere in a hole: ${at}`, at);
    fs.ftruncateSync(fd, sizeBytes);
    fs.closeSync(fd);
    return Number(execFileSync(process.execPath, [join(import.meta.dirname, 'ingest.child.ts'), project, mkdtempSync(join(dir, 'store-'))], { encoding: 'utf8' }));
  };
  const [small, large] = [peakBytes('small', 50 << 20), peakBytes('large', 1 << 30)];
  assert(large < 300e6, `${large} bytes`);
  assert(large < small + 64e6, `${small} bytes for a file of 50 MB, ${large} for one of 1 GiB`);
});
