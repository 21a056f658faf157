/** Files from inside to the host, without a container: which come out, as whose, and what is never done. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, lstatSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, readlinkSync, renameSync, rmSync, statSync, symlinkSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { hasher, toByteString } from '@hyperdocker/base';
import { TreeBuilder, openMemoryStore } from '@hyperdocker/cas';
import type { PulledFile } from './api.ts';
import type { PullOptions } from './pull.ts';
import { Puller, decide } from './pull.ts';
import type { Version } from './version-at.ts';
import { ABSENT } from './version-at.ts';

/** A project on the host and the same inside, as they were given; each test then changes either. */
class World implements Disposable {
  readonly dir = mkdtempSync(join(tmpdir(), 'hd-pull-'));
  readonly store = openMemoryStore();
  readonly host = join(this.dir, 'host');
  readonly inside = join(this.dir, 'root/work');
  source: TreeDigest;
  applied: TreeDigest;
  #puller: Puller;

  constructor(files: Record<string, string>) {
    for (const side of [this.host, this.inside]) for (const [path, text] of Object.entries(files)) this.put(side, path, text);
    mkdirSync(this.host, { recursive: true });
    mkdirSync(this.inside, { recursive: true });
    this.source = this.tree(files);
    this.applied = this.tree(files, 'work/');
    this.#puller = this.#open();
  }

  put(side: string, path: string, text: string): void {
    mkdirSync(dirname(join(side, path)), { recursive: true });
    writeFileSync(join(side, path), text);
  }

  tree(files: Record<string, string>, prefix = ''): TreeDigest {
    const builder = new TreeBuilder(this.store);
    for (const [path, text] of Object.entries(files)) builder.set(toByteString(prefix + path), { kind: 'file', mode: 0o644, digest: this.store.putBlob(Buffer.from(text)), size: text.length });
    return builder.finish();
  }

  pull(paths: string[], options?: PullOptions): PulledFile[] {
    return this.#puller.pull({ source: this.source, applied: this.applied, workdir: 'work' as ByteString }, paths.map(toByteString), options);
  }

  /** Another supervisor's. */
  reopen(): void {
    this.#puller = this.#open();
  }

  read(path: string): string {
    return readFileSync(join(this.host, path), 'utf8');
  }

  #open(): Puller {
    return new Puller({ store: this.store, projectDir: this.host, insideDir: this.inside, clashesDir: join(this.dir, 'clashes'), recordFile: join(this.dir, 'pulled.json') });
  }

  [Symbol.dispose](): void {
    rmSync(this.dir, { recursive: true });
  }
}

const digest = (text: string): string => hasher.hash(Buffer.from(text));

test('three ways: every combination', () => {
  const versions: Version[] = [ABSENT, { kind: 'other' }, ...['a', 'b'].map((text): Version => ({ kind: 'file', digest: digest(text) as never, executable: false })), { kind: 'file', digest: digest('a') as never, executable: true }, { kind: 'link', target: 'a' as ByteString }];
  const any = fc.constantFrom(...versions);
  fc.assert(fc.property(any, any, any, (given, host, inside) => {
    const decision = decide(given, host, inside);
    const [same, kept] = [JSON.stringify(host) === JSON.stringify(inside), JSON.stringify(given) === JSON.stringify(inside)];
    if (inside.kind === 'absent' || inside.kind === 'other' || same || kept) assert.equal(decision, 'nothing');
    else assert.equal(decision, JSON.stringify(given) === JSON.stringify(host) ? 'write' : 'clash');
  }));
});

test('what changed inside alone comes out, whole, with its mode and time', () => {
  using w = new World({ 'a.lock': '1', same: 's', 'script.sh': 'x' });
  w.put(w.inside, 'a.lock', '2');
  w.put(w.inside, 'new/deep/b.lock', 'b');
  chmodSync(join(w.inside, 'new/deep/b.lock'), 0o4751);
  chmodSync(join(w.inside, 'script.sh'), 0o755);
  chmodSync(join(w.host, 'a.lock'), 0o600);
  utimesSync(join(w.inside, 'a.lock'), 1_700_000_000, 1_700_000_000.123);
  assert.deepEqual(w.pull(['a.lock', 'same', 'new/deep/b.lock', 'script.sh', 'not/there']), [
    { path: 'a.lock', host: digest('1'), inside: digest('2'), outcome: 'written', change: 'changed' },
    { path: 'new/deep/b.lock', host: null, inside: `${digest('b')} executable`, outcome: 'written', change: 'added' },
    { path: 'script.sh', host: digest('x'), inside: `${digest('x')} executable`, outcome: 'written', change: 'changed' },
  ]);
  assert.deepEqual(['a.lock', 'new/deep/b.lock', 'script.sh'].map((path) => [w.read(path), lstatSync(join(w.host, path)).mode & 0o7777]), [['2', 0o600], ['b', 0o751], ['x', 0o755]]);
  assert.equal(statSync(join(w.host, 'a.lock'), { bigint: true }).mtimeNs, statSync(join(w.inside, 'a.lock'), { bigint: true }).mtimeNs);
  assert.deepEqual(readdirSync(w.host).sort(), ['a.lock', 'new', 'same', 'script.sh']);
  assert.deepEqual(w.pull(['a.lock', 'new/deep/b.lock', 'script.sh']), []);
});

test('who the project belongs to, the files belong to', { skip: process.getuid?.() !== 0 ? 'needs root: other owners' : false }, async () => {
  const { chownSync } = await import('node:fs');
  using w = new World({ a: '1', b: '1' });
  chownSync(w.host, 1234, 1235);
  chownSync(join(w.host, 'b'), 7, 8);
  for (const path of ['a', 'b', 'new/c']) w.put(w.inside, path, '2');
  w.pull(['a', 'b', 'new/c']);
  assert.deepEqual(['a', 'b', 'new', 'new/c'].map((path) => [lstatSync(join(w.host, path)).uid, lstatSync(join(w.host, path)).gid]), [[0, 0], [7, 8], [1234, 1235], [1234, 1235]]);
});

test('a clash leaves both sides as they are and keeps the one inside; overwrite keeps the one on the host', () => {
  using w = new World({ f: 'given', gone: 'given' });
  w.put(w.inside, 'f', 'inside');
  w.put(w.host, 'f', 'host');
  w.put(w.inside, 'gone', 'inside');
  rmSync(join(w.host, 'gone'));
  const files = w.pull(['f', 'gone']);
  assert.deepEqual(files.map(({ path, outcome, host, inside }) => [path, outcome, host, inside]), [['f', 'clash', digest('host'), digest('inside')], ['gone', 'clash', null, digest('inside')]]);
  for (const file of files) assert.equal(readFileSync('keptAt' in file ? (file.keptAt ?? '') : '', 'utf8'), 'inside');
  assert.deepEqual([w.read('f'), readFileSync(join(w.inside, 'f'), 'utf8'), existsSync(join(w.host, 'gone'))], ['host', 'inside', false]);
  const [forced] = w.pull(['f'], { overwrite: true });
  assert(forced?.outcome === 'written' && forced.keptAt !== undefined);
  assert.deepEqual([w.read('f'), readFileSync(forced.keptAt, 'utf8')], ['inside', 'host']);
});

test('a dry run does nothing', () => {
  using w = new World({ f: '1', g: '1' });
  w.put(w.inside, 'f', '2');
  w.put(w.inside, 'g', '2');
  w.put(w.host, 'g', '3');
  assert.deepEqual(w.pull(['f', 'g'], { dryRun: true }).map(({ outcome }) => outcome), ['written', 'clash']);
  assert.deepEqual([w.read('f'), w.read('g'), readdirSync(w.dir).sort()], ['1', '3', ['host', 'root']]);
});

test('an edit of what a step lays over it is not lost to what the step wrote', () => {
  using w = new World({ lock: 'written by hand' });
  w.put(w.inside, 'lock', 'by the step');
  w.applied = w.tree({ lock: 'by the step' }, 'work/');
  assert.deepEqual(w.pull(['lock']).map(({ outcome }) => outcome), ['written']);
  w.source = w.tree({ lock: 'by the step' });
  w.put(w.host, 'lock', 'edited');
  w.source = w.tree({ lock: 'edited' });
  w.reopen();
  assert.deepEqual(w.pull(['lock']), []);
  w.put(w.inside, 'lock', 'by another run');
  assert.deepEqual(w.pull(['lock']).map(({ outcome }) => outcome), ['clash']);
  assert.equal(w.read('lock'), 'edited');
});

test('what was removed on the host stays so, until somebody asks for it', () => {
  using w = new World({ lock: '1', other: '1' });
  w.applied = w.tree({ lock: '2', other: '1' }, 'work/');
  w.put(w.inside, 'lock', '2');
  assert.deepEqual(w.pull(['lock']).map(({ outcome }) => outcome), ['written']);
  rmSync(join(w.host, 'lock'));
  w.source = w.tree({ other: '1' });
  assert.deepEqual(w.pull(['lock']), []);
  assert.deepEqual(w.pull(['lock'], { asked: true }).map(({ outcome }) => outcome), ['written']);
  assert.equal(w.read('lock'), '2');
});

test('links inside lead to no file of the host, and none on the host is followed', () => {
  using w = new World({ 'd/f': '1', 'e/f': '1' });
  const victim = join(w.dir, 'victim');
  mkdirSync(victim);
  writeFileSync(join(victim, 'f'), 'of the host');
  renameSync(join(w.inside, 'd'), join(w.inside, 'moved'));
  symlinkSync(victim, join(w.inside, 'd'));
  renameSync(join(w.host, 'e'), join(w.host, 'moved'));
  symlinkSync(victim, join(w.host, 'e'));
  w.put(w.inside, 'e/f', 'attack');
  w.put(w.inside, 'e/g', 'attack');
  for (const [name, target] of [['out', '/etc/passwd'], ['up', '../x'], ['within', 'd/../moved/f']] as const) symlinkSync(target, join(w.inside, name));
  assert.deepEqual(w.pull(['d/f', 'e/f', 'e/g', 'out', 'up', 'within']).map(({ path, outcome }) => [path, outcome]), [['e/f', 'clash'], ['e/g', 'refused'], ['out', 'refused'], ['up', 'refused'], ['within', 'written']]);
  assert.deepEqual([readdirSync(victim), readFileSync(join(victim, 'f'), 'utf8')], [['f'], 'of the host']);
  assert.equal(readlinkSync(join(w.host, 'within')), 'd/../moved/f');
});

test('what is gone inside, or is no file any more, stays on the host', () => {
  using w = new World({ a: '1', 'd/b': '1', c: '1' });
  rmSync(w.inside, { recursive: true });
  mkdirSync(join(w.inside, 'c'), { recursive: true });
  assert.deepEqual(w.pull(['a', 'd/b', 'd', 'c']), []);
  assert.deepEqual(['a', 'd/b', 'c'].map((path) => w.read(path)), ['1', '1', '1']);
  writeFileSync(join(w.inside, 'd'), 'a file now');
  assert.deepEqual(w.pull(['d']).map(({ outcome }) => outcome), ['refused']);
});

test('names of any bytes', () => {
  using w = new World({});
  const name = Buffer.from('a\n\u00e9\xff 🦊', 'utf8');
  writeFileSync(Buffer.concat([Buffer.from(`${w.inside}/`), name]), 'x');
  assert.deepEqual(w.pull([name.toString()]).map(({ outcome }) => outcome), ['written']);
  assert.equal(readFileSync(Buffer.concat([Buffer.from(`${w.host}/`), name]), 'utf8'), 'x');
});
