import assert from 'node:assert/strict';
import { chmodSync, chownSync, lstatSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ByteString } from '@hyperdocker/base';
import { hostPath, sys, toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { lookupPath, openMemoryStore, walkTree } from '@hyperdocker/cas';
import { waitUntil } from '@hyperdocker/testkit';
import type { Filter } from '@hyperdocker/watch';
import { createFilter } from '@hyperdocker/watch';
import type { Ingested } from './ingest.ts';
import { Ingest } from './ingest.ts';

const EVERYTHING = createFilter({ include: [], exclude: [] });
/** Longer than what counts as young. */
const OLD_MS = 60;

class Project implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'hd-ingest-'));
  readonly files = join(this.dir, 'project');
  readonly store: Store;
  readonly #filter: Filter;
  #ingest: Ingest;

  constructor(files: Record<string, string>, options: { store?: Store; filter?: Filter } = {}) {
    this.store = options.store ?? openMemoryStore();
    this.#filter = options.filter ?? EVERYTHING;
    mkdirSync(this.files);
    this.write(files);
    this.#ingest = this.#open();
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

  scan(): Ingested {
    return this.#ingest.scan();
  }

  /** As a new process would. */
  reopen(): void {
    this.#ingest[Symbol.dispose]();
    this.#ingest = this.#open();
  }

  #open(): Ingest {
    return new Ingest({ store: this.store, projectDir: this.files, filter: this.#filter, statCacheFile: join(this.dir, 'stat.sqlite'), owner: { uid: 5, gid: 6 } });
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
    this.#ingest[Symbol.dispose]();
    rmSync(this.dir, { recursive: true, force: true });
  }
}

const FILES = { 'src/main.c': 'int main;', 'src/deep/er/x': '1', 'README.md': '# readme' };

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
