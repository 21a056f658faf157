/** `hd cas`, on homes that are made here: what environments leave in the store, without running any. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { processStartTime } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, openStore } from '@hyperdocker/cas';
import { nodeLinks, putEnv } from '@hyperdocker/engine';
import type { EnvPaths, Home } from '@hyperdocker/environment';
import { envPaths, envRef, openHome, sweepMaterialized } from '@hyperdocker/environment';
import { mountProblem } from '@hyperdocker/testkit';
import { parseCommandLine } from './args.ts';
import { COMMANDS } from './commands.ts';
import { renderError } from './errors.ts';
import type { Terminal } from './terminal.ts';
import { makePaint } from './terminal.ts';

const DAY_MS = 24 * 60 * 60 * 1000;

interface Gc { manifestsRemoved: number; chunksRemoved: number; bytesFreed: number; storedBytes: number; gaveUp: { kind: string; name: string; project?: string }[]; lostRefs: string[]; limitBytes: number | null }
interface Stats { storedBytes: number; dedupRatio: number; compressionRatio: number; shares: { kind: string; name: string; uniqueBytes: number; sharedBytes: number; fileBytes?: number; state?: string }[]; profiles?: { profile: string; inUse: boolean; chunks: number; packedBytes: number }[] }
interface Fsck { objectsChecked: number; problems: { kind: string; digest: string; problem: string; repaired: boolean; environments: { id: string; project?: string }[] }[] }

class World {
  readonly dir = mkdtempSync(join(tmpdir(), 'hd-cas-'));
  readonly home: Home = openHome({ HD_HOME: join(this.dir, 'home') });
  env: NodeJS.ProcessEnv = {};

  /** `hd cas …` in this process: starting another one would take most of the time. */
  async hd(...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
    let [stdout, stderr] = ['', ''];
    const paint = makePaint(false);
    const terminal: Terminal = {
      out: (text) => void (stdout += text), err: (text) => void (stderr += text),
      outPaint: paint, errPaint: paint, isInteractive: false, live: undefined, closed: new AbortController().signal,
    };
    try {
      const line = parseCommandLine(['cas', ...args], COMMANDS, this.dir);
      assert(line.kind === 'run');
      const { run } = await line.command.load();
      return { status: await run({ ...line, env: { HD_HOME: this.home.dir, ...this.env }, terminal }), stdout, stderr };
    } catch (error) {
      const { text, exitCode } = renderError(error, paint, { debug: false });
      return { status: exitCode, stdout, stderr: stderr + text };
    }
  }

  async json<T>(...args: string[]): Promise<T> {
    const { stdout, stderr } = await this.hd(...args, '--json');
    assert.notEqual(stdout, '', stderr);
    return JSON.parse(stdout) as T;
  }

  /** A project with these files, and the refs that a build of it leaves; the environment holds `shared` beside them. */
  environment(name: string, files: Record<string, Buffer>, options: { shared?: Buffer; usedDaysAgo?: number; running?: boolean } = {}): EnvPaths {
    const project = join(this.dir, name);
    mkdirSync(project);
    const paths = envPaths(this.home, { dir: project, specFile: join(project, 'hd.toml') });
    mkdirSync(paths.dir, { recursive: true });
    using store = openStore(this.home.storeDir, { nodeLinks });
    const source = treeOf(store, files);
    const tree = treeOf(store, { ...Object.fromEntries(Object.entries(files).map(([path, bytes]) => [`app/${path}`, bytes])), ...(options.shared === undefined ? {} : { 'usr/shared': options.shared }) });
    for (const [path, bytes] of Object.entries(files)) {
      mkdirSync(join(project, path, '..'), { recursive: true });
      writeFileSync(join(project, path), bytes);
    }
    for (const what of ['source', 'tree'] as const) store.setRef(envRef(paths.id, what), { kind: 'tree', digest: what === 'tree' ? tree : source });
    store.setRef(envRef(paths.id, 'root'), { kind: 'node', digest: putEnv(store, { name, packages: [], files: source, steps: [] }) });
    const usedMs = Date.now() - (options.usedDaysAgo ?? 0) * DAY_MS;
    writeFileSync(paths.note, JSON.stringify({ version: 1, project, usedMs }));
    this.#age(paths.id, usedMs);
    if (options.running === true) writeFileSync(paths.stateFile, JSON.stringify({ version: 1, pid: process.pid, startTime: processStartTime(process.pid), project, name: paths.id, runtime: '', runtimeRoot: '' }));
    return paths;
  }

  /** As if the refs had been moved then; their checksums, which cover the time, are left out as in files of the first version. */
  #age(id: string, atMs: number): void {
    using db = new DatabaseSync(join(this.home.storeDir, 'refs.sqlite'));
    db.prepare('UPDATE refs SET at_ms = ?, crc = NULL WHERE name LIKE ?').run(atMs, `env/${id}/%`);
  }

  /** Flips a bit in the payload of an object, wherever it is. */
  damage(digest: string): void {
    using db = new DatabaseSync(join(this.home.storeDir, 'index.sqlite'), { readOnly: true });
    const rows = db.prepare('SELECT id, offset FROM objects JOIN packs ON packs.number = objects.pack WHERE digest = ?').all(Buffer.from(digest, 'hex')) as { id: string; offset: number }[];
    assert(rows.length > 0);
    for (const { id, offset } of rows) {
      const path = join(this.home.storeDir, 'packs', `${id}.pack`);
      const bytes = readFileSync(path);
      bytes[offset + 53]! ^= 4;
      chmodSync(path, 0o644);
      writeFileSync(path, bytes);
    }
  }

  digestOf(paths: EnvPaths, name: string): BlobDigest {
    using store = openStore(this.home.storeDir, { nodeLinks, readOnly: true });
    const entry = store.getTree(store.getRef(envRef(paths.id, 'source'))!.target.digest as TreeDigest).find((child) => child.name === name);
    assert(entry?.kind === 'file');
    return entry.digest;
  }
}

function world(context: TestContext): World {
  const made = new World();
  context.after(() => rmSync(made.dir, { recursive: true }));
  return made;
}

function treeOf(store: Store, files: Record<string, Buffer>): TreeDigest {
  const builder = new TreeBuilder(store);
  for (const [path, bytes] of Object.entries(files)) builder.set(path as ByteString, { kind: 'file', mode: 0o644, digest: store.putBlob(bytes), size: bytes.length });
  return builder.finish();
}

/** Does not compress. */
function noise(sizeBytes: number, seed: number): Buffer {
  const words = new Uint32Array(Math.ceil(sizeBytes / 4));
  let state = seed;
  for (let index = 0; index < words.length; index++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[index] = state;
  }
  return Buffer.from(words.buffer).subarray(0, sizeBytes);
}

const MB = 2 ** 20;

test('gc and stats begin with the lines of the original, and tell ratios and shares', async (context) => {
  const w = world(context);
  const shared = noise(2 * MB, 9);
  w.environment('one', { 'a.bin': noise(MB, 1), 'text.txt': Buffer.from('compresses well '.repeat(20_000)) }, { shared });
  w.environment('two', { 'b.bin': noise(MB / 2, 2) }, { shared, usedDaysAgo: 3 });
  {
    using store = openStore(w.home.storeDir, { nodeLinks });
    store.putBlob(noise(3 * MB, 7));
    treeOf(store, { garbage: Buffer.from('garbage') });
  }
  const dry = await w.hd('gc', '--dry-run');
  assert.match(dry.stdout, /^Garbage collection would remove:\n {2}Manifests removed: 1\n {2}Chunks removed: \d+\n {2}Bytes freed: [\d.]+ (KB|MB)\n/, dry.stderr);
  const gc = await w.hd('gc');
  assert.match(gc.stdout, /^Garbage collection complete:\n {2}Manifests removed: 1\n {2}Chunks removed: \d+\n {2}Bytes freed: [\d.]+ (KB|MB)\n {2}Stored: 3\.\d MB \(limit [\d.]+ GB\)\n {2}Dedup: 1\.5\d .*\n {2}Compression: 1\.0\d\n {2}Shares:\n/);
  const stats = await w.hd('stats');
  assert.match(stats.stdout, /^CAS Statistics:\n {2}Chunks: 4\n {2}Manifests: \d+\n/);
  assert.match(stats.stdout, /^ {4}environment one-\w+ +1\.0 MB unique +2\.0 MB shared +3\.3 MB of files +last used \d s ago, .*one$/m);
  assert.match(stats.stdout, /^ {4}environment two-\w+ +51\d\.\d KB unique +2\.0 MB shared +2\.5 MB of files +last used 3 days ago, .*two$/m);
  const { shares, dedupRatio, compressionRatio } = await w.json<Stats>('stats');
  assert.deepEqual(shares.map(({ kind, fileBytes }) => [kind, fileBytes]), [['environment', 3 * MB + 320_000], ['environment', 2.5 * MB]]);
  assert(dedupRatio > 1.4 && compressionRatio > 1);
});

test('stats of a store with a damaged tree tells what it can, and that there is damage', async (context) => {
  const w = world(context);
  const damaged = w.environment('damaged', { a: noise(MB, 1) });
  w.environment('whole', { b: noise(MB, 2) });
  assert.doesNotMatch((await w.hd('stats')).stdout, /Damaged/);
  using store = openStore(w.home.storeDir, { nodeLinks, readOnly: true });
  w.damage(store.getRef(envRef(damaged.id, 'tree'))!.target.digest);
  const { status, stdout } = await w.hd('stats');
  assert.equal(status, 0);
  assert.match(stdout, /^ {2}Damaged: yes/m);
  assert.match(stdout, /^ {4}environment whole-\w+ +1\.0 MB unique/m);
});

test('gc removes trees that were written out as files, but those under a mount and new ones', { skip: mountProblem() ?? false }, async (context) => {
  const w = world(context);
  w.environment('one', { a: noise(MB, 1) });
  const [unused, young, mounted] = ['0', '1', '2'].map((digit) => join(w.home.materializedDir, digit.repeat(64))) as [string, string, string];
  for (const dir of [unused, mounted]) {
    mkdirSync(dir);
    writeFileSync(join(dir, 'file'), noise(MB, 3));
  }
  const [upper, work, merged] = ['upper', 'work', 'merged'].map((name) => join(w.dir, name)) as [string, string, string];
  for (const dir of [upper, work, merged]) mkdirSync(dir);
  // As a supervisor does: in a namespace of its own.
  const holder = spawn('unshare', ['--mount', '--propagation', 'private', 'sh', '-c', `mount -t overlay overlay -o lowerdir=${mounted},upperdir=${upper},workdir=${work} ${merged} && echo mounted && read _`], { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = once(holder, 'exit');
  using _mount = { [Symbol.dispose]: () => holder.stdin.end() };
  await once(holder.stdout, 'data');
  const laterMs = Date.now() + 2 * 60 * 60_000;
  assert.equal(sweepMaterialized(w.home, { dryRun: true }), 0, 'all are young');
  assert(sweepMaterialized(w.home, { dryRun: true, nowMs: laterMs }) >= MB);
  mkdirSync(young);
  assert(sweepMaterialized(w.home, { dryRun: false, nowMs: laterMs }) >= MB);
  assert.deepEqual(readdirSync(w.home.materializedDir), [mounted.slice(-64)]);
  assert.match((await w.hd('gc')).stdout, /^Garbage collection complete:/);
  holder.stdin.end();
  await ended;
});

test('what gc and stats report of the disk agrees with `du`', async (context) => {
  const w = world(context);
  for (let i = 0; i < 4; i++) w.environment(`app${i}`, { 'large.bin': noise(5 * MB, i + 1), 'small.txt': Buffer.from(`small ${i}`) });
  const du = (...options: string[]): number => Number(execFileSync('du', ['-s', '-B1', ...options, w.home.storeDir], { encoding: 'utf8' }).split('\t')[0]);
  const agrees = (bytes: number, with_: number): void => assert(Math.abs(bytes - with_) < 0.01 * with_, `${bytes} and ${with_}`);
  agrees((await w.json<Stats>('stats')).storedBytes, du());
  agrees((await w.json<Stats>('stats')).storedBytes, du('--apparent-size'));
  const before = du();
  const dry = await w.json<Gc>('gc', '--max', '12MB', '--dry-run');
  const gc = await w.json<Gc>('gc', '--max', '12MB');
  assert.equal(gc.gaveUp.length, 2);
  agrees(dry.storedBytes, gc.storedBytes);
  agrees(gc.storedBytes, du());
  agrees(gc.bytesFreed, before - du());
});

test('over its limit, what was used longest ago goes first, and what runs never goes', async (context) => {
  const w = world(context);
  const old = w.environment('old', { f: noise(MB, 1) }, { usedDaysAgo: 30, running: true });
  const middle = w.environment('middle', { f: noise(MB, 2) }, { usedDaysAgo: 20 });
  const recent = w.environment('recent', { f: noise(MB, 3) }, { usedDaysAgo: 10 });
  const gone = w.environment('gone', { f: noise(MB, 4) }, { usedDaysAgo: 1 });
  rmSync(join(w.dir, 'gone'), { recursive: true });
  const given = async (max: string): Promise<string[]> => (await w.json<Gc>('gc', '--max', max)).gaveUp.map(({ name }) => name);
  assert.deepEqual(await given('10MB'), []);
  assert.deepEqual(await given('3500KB'), [gone.id]);
  const text = (await w.hd('gc', '--max', '2.5 MB')).stdout;
  assert.match(text, new RegExp(`^ {2}Given up: environment ${middle.id} \\(.*middle\\), last used 20 days ago$`, 'm'));
  assert.deepEqual(await given('10KB'), [recent.id]);
  assert.match((await w.hd('gc', '--max', '10KB')).stdout, /\(limit 10\.0 KB: the rest is in use\)/);
  using store = openStore(w.home.storeDir, { nodeLinks });
  assert.deepEqual([...new Set(store.listRefs('env/').map(({ name }) => name.split('/')[1]))], [old.id]);
  assert.deepEqual(store.fsck().problems, []);
});

test('the limit comes from HD_STORE_MAX, and what is no size is refused', async (context) => {
  const w = world(context);
  const wrong = await w.hd('gc', '--max', 'much');
  assert.deepEqual([wrong.status, wrong.stderr], [2, 'hd: --max needs a size, not "much"\n  hint: such as 20GB or 800M, or none\n']);
  assert.equal((await w.json<Gc>('gc', '--max', 'none')).limitBytes, null);
  assert.equal((await w.json<Gc>('gc', '--max', '1.5GiB')).limitBytes, 1.5 * 2 ** 30);
  w.env = { HD_STORE_MAX: '3G' };
  assert.match((await w.hd('stats')).stdout, /\(limit 3\.0 GB\)/);
  w.env = { HD_STORE_MAX: 'a lot' };
  assert.match((await w.hd('stats')).stderr, /^hd: HD_STORE_MAX=a lot is not a size\n {2}hint: such as 20GB/);
});

test('stats --explain tells what the other chunking profile would cost', async (context) => {
  const w = world(context);
  const large = noise(6 * MB, 5);
  w.environment('one', { 'v1.db': large, 'v2.db': Buffer.concat([large.subarray(0, 3 * MB), Buffer.from('inserted'), large.subarray(3 * MB)]) });
  const { profiles = [] } = await w.json<Stats>('stats', '--explain');
  assert.deepEqual(profiles.map(({ profile, inUse }) => [profile, inUse]), [['fine', false], ['standard', true]]);
  const [fine, standard] = profiles as [NonNullable<Stats['profiles']>[0], NonNullable<Stats['profiles']>[0]];
  assert(fine.chunks > 5 * standard.chunks && fine.packedBytes < standard.packedBytes);
  assert.match((await w.hd('stats', '--explain')).stdout, /^ {2}Chunking profiles:\n {4}fine +\d[\d,]+ chunks .*-\d+\.\d % space, \+\d+\.\d % chunks {2}cut and compressed in .*\n {4}standard .*in use; cut/m);
});

test('fsck names the file and the environment that damage touches, and repairs from the project, also where the file has moved', async (context) => {
  const w = world(context);
  const [small, large] = [Buffer.from('the file that is damaged'), noise(3 * MB, 3)];
  const paths = w.environment('shop', { 'kept.txt': small, 'large.bin': large });
  assert.match((await w.hd('fsck')).stdout, /^\d+ objects checked, all right\.\n$/);
  const digest = w.digestOf(paths, 'kept.txt');
  w.damage(digest);
  const found = await w.hd('fsck');
  assert.equal(found.status, 1);
  assert.match(found.stdout, new RegExp(`^blob ${digest}: its record .* is damaged .*\\n {4}environment ${paths.id} \\(${join(w.dir, 'shop')}\\): kept.txt\\n {4}environment ${paths.id} .*: /app/kept.txt\\n`));
  assert.match(found.stderr, /hint: `hd cas fsck --repair`/);
  const { problems } = await w.json<Fsck>('fsck');
  assert.deepEqual(problems.map(({ environments }) => environments), [[{ id: paths.id, project: join(w.dir, 'shop') }]]);
  rmSync(join(w.dir, 'shop/kept.txt'));
  mkdirSync(join(w.dir, 'shop/elsewhere'));
  writeFileSync(join(w.dir, 'shop/elsewhere/renamed'), small);
  const repaired = await w.hd('fsck', '--repair');
  assert.match(repaired.stdout, /\(repaired\)[\s\S]*all repaired\.\n$/, repaired.stderr);
  assert.equal(repaired.status, 0);
  assert.match((await w.hd('fsck')).stdout, /all right/);
});

test('what no file has any more is told as lost, keeps gc off, and can be given up', async (context) => {
  const w = world(context);
  const paths = w.environment('shop', { lost: Buffer.from('lost for good'), kept: Buffer.from('kept') });
  w.environment('other', { f: Buffer.from('other') });
  w.damage(w.digestOf(paths, 'lost'));
  rmSync(join(w.dir, 'shop/lost'));
  const repaired = await w.hd('fsck', '--repair');
  assert.equal(repaired.status, 1);
  assert.match(repaired.stdout, /not repaired\.\n$/);
  assert.match(repaired.stderr, /hint: what is lost is made again by `hd build`/);
  const gc = await w.hd('gc');
  assert.equal(gc.status, 1);
  assert.match(gc.stderr, /^hd: env\/shop-\w+\/\w+ is not whole, so nothing was removed/);
  const { lostRefs } = await w.json<Gc>('gc', '--drop-lost');
  assert.deepEqual(lostRefs.sort(), ['root', 'source', 'tree'].map((what) => `env/${paths.id}/${what}`));
  assert.match((await w.hd('fsck')).stdout, /all right/);
});

test('an index is made again, and a sample reads a part', async (context) => {
  const w = world(context);
  w.environment('many', Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`f${i}`, Buffer.from(`file ${i}`)])));
  const [pack] = readdirSync(join(w.home.storeDir, 'packs'));
  assert(statSync(join(w.home.storeDir, 'packs', pack!)).size > 0);
  assert.match((await w.hd('fsck', '--rebuild-index')).stdout, /^Index made again: 303 objects\.\n303 objects checked, all right\.\n$/);
  const { objectsChecked } = await w.json<Fsck>('fsck', '--sample', '20%');
  assert(objectsChecked > 10 && objectsChecked < 150, `${objectsChecked}`);
  const wrong = await w.hd('fsck', '--sample', 'half');
  assert.deepEqual([wrong.status, wrong.stderr.split('\n')[0]], [2, 'hd: --sample needs a percentage, not "half"']);
});

test('stats tell what is beside the store, and gc drops of it what it is asked to', async (context) => {
  const w = world(context);
  assert.doesNotMatch((await w.hd('stats')).stdout, /Beside the store/);
  const { dir } = w.environment('one', { a: noise(1000, 1) });
  for (const path of [join(dir, 'volumes/data'), join(w.home.dir, 'caches/0123'), w.home.partialDir]) mkdirSync(path, { recursive: true });
  writeFileSync(join(dir, 'volumes/data/file'), noise(MB, 1));
  writeFileSync(join(w.home.dir, 'caches/0123/file'), noise(MB, 2));
  writeFileSync(join(w.home.partialDir, `${'a'.repeat(64)}.1-0-0`), noise(MB, 3));
  assert.match((await w.hd('stats')).stdout, / {2}Beside the store:\n {4}volume data +[\d.]+ MB +of .*\/one\n {4}1 cache +[\d.]+ MB .*`hd cas gc --caches`.*\n {4}parts of downloads +[\d.]+ MB +1 layer; /);
  assert.doesNotMatch((await w.hd('gc')).stdout, /Parts of downloads|Caches of builds/);
  assert.match((await w.hd('gc', '--caches', '--partial')).stdout, /Parts of downloads: [\d.]+ MB freed\n {2}Caches of builds: [\d.]+ MB freed\n/);
  const { beside } = await w.json<{ beside: { volumes: { name: string }[]; caches: { count: number }; partials: { count: number } } }>('stats');
  assert.deepEqual([beside.volumes.map(({ name }) => name), beside.caches.count, beside.partials.count], [['data'], 0, 0]);
});
