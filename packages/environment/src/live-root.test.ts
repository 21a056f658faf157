/** Edits from outside put in place under a running environment, on real overlays. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, chmodSync, chownSync, closeSync, existsSync, lstatSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, describe, test } from 'node:test';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { sys, toByteString } from '@hyperdocker/base';
import { TreeBuilder, openStore } from '@hyperdocker/cas';
import { FuseHost } from '@hyperdocker/mount';
import { inMountNamespace } from '@hyperdocker/testkit';
import { seenInTree, seenOnHost } from '../../mount/src/mount-fixture.ts';
import type { AppliedTree, Clash, LiveRootOptions } from './live-root.ts';
import { LiveRoot } from './live-root.ts';

/** Text, an executable's text (`#!`), a link (`→target`), or a directory (null). */
type Files = Record<string, string | null>;

if (inMountNamespace(import.meta.filename)) {
  const root = mkdtempSync(join(tmpdir(), 'hd-live-'));
  const storeDir = join(root, 'store');
  const store = openStore(storeDir);
  after(() => {
    store[Symbol.dispose]();
    rmSync(root, { recursive: true, force: true });
  });
  let count = 0;

  const treeOf = (files: Files): TreeDigest => {
    const builder = new TreeBuilder(store);
    const meta = { uid: 5, gid: 6, mtimeNs: 1_700_000_000_000_000_001n, xattrs: [], linkGroup: 0, links: 1 };
    const parents = new Set(Object.keys(files).flatMap((path) => path.split('/').slice(0, -1).map((_, i, parts) => parts.slice(0, i + 1).join('/'))));
    for (const path of parents) builder.set(toByteString(path), { kind: 'dir', mode: 0o755, meta });
    for (const [path, text] of Object.entries(files)) {
      const at = toByteString(path);
      if (text === null) builder.set(at, { kind: 'dir', mode: 0o755, meta });
      else if (text.startsWith('→')) builder.set(at, { kind: 'symlink', mode: 0o777, target: toByteString(text), meta });
      else builder.set(at, { kind: 'file', mode: text.startsWith('#!') ? 0o755 : 0o644, digest: store.putBlob(Buffer.from(text)), size: Buffer.byteLength(text), meta });
    }
    return builder.finish();
  };

  class World implements AsyncDisposable {
    readonly live: LiveRoot;
    readonly dir: string;
    constructor(live: LiveRoot, dir: string) {
      this.live = live;
      this.dir = dir;
    }
    at(path: string): string {
      return join(this.live.merged, path);
    }
    read(path: string): string {
      return readFileSync(this.at(path), 'utf8');
    }
    /** Every path is the project's, unless told otherwise. */
    apply(files: Files, isSource = (_path: ByteString): boolean => true): Clash[] {
      return this.live.apply(treeOf(files), isSource).clashes;
    }
    /** Nothing from inside: the root is exactly what was applied. */
    assertShows(files: Files): void {
      const contents = (seen: Map<ByteString, string>): string[] => [...seen].map(([path, words]) => `${path} ${words}`).filter((line) => !/^\S* dir/.test(line));
      assert.deepEqual(contents(seenOnHost(this.live.merged)), contents(seenInTree(store, treeOf(files))));
      assert.deepEqual([...seenOnHost(this.live.merged).keys()], [...seenInTree(store, treeOf(files)).keys()]);
    }
    async [Symbol.asyncDispose](): Promise<void> {
      await this.live.unmount();
      assert.equal(existsSync(join(this.dir, 'live')), false);
    }
  }

  const startOn = async (fuse: FuseHost | undefined, files: Files, overlay: 'disk' | 'memory' = 'disk'): Promise<World> => {
    const dir = join(root, String(count++));
    mkdirSync(dir);
    const projector = { store, storeDir, fuse, materializedDir: join(root, 'materialized') };
    mkdirSync(projector.materializedDir, { recursive: true });
    const live = await LiveRoot.mount(projector, { tree: treeOf(files), dir: join(dir, 'live'), clashesDir: join(dir, 'clashes'), overlay });
    return new World(live, dir);
  };

  const START: Files = { 'src/a': 'a1', 'src/b': 'b1', 'src/deep/c': 'c1', link: '→src/a', run: '#! 1', 'gone/x': '1', 'gone/y/z': '1' };
  const host = new FuseHost();
  after(() => host.close());

  for (const [adapter, fuse] of [['written out to disk', undefined], ['FUSE', host]] as const) {
    describe(adapter, () => {
      const start = (files: Files, overlay?: 'disk' | 'memory'): Promise<World> => startOn(fuse, files, overlay);

      for (const overlay of ['disk', 'memory'] as const) {
        test(`what was added, changed and removed outside is so inside: overlay on ${overlay}`, async () => {
          await using w = await start(START, overlay);
          w.assertShows(START);
          const next: Files = { 'src/a': 'a2, longer than before', 'src/b': 'b', 'src/deep/c': 'c1', 'src/new/d': 'd', 'new\nü 🦊': 'e', link: '→src/b', run: 'no longer executable', empty: null };
          assert.deepEqual(w.apply(next), []);
          w.assertShows(next);
          assert.deepEqual(w.apply(START), []);
          w.assertShows(START);
          assert.equal(w.live.applied, treeOf(START));
          assert.deepEqual(w.live.apply(treeOf(START), () => true).changes, []);
        });
      }

      test('files that become directories and links, and back', async () => {
        await using w = await start({ x: 'file', 'y/in/it': '1', z: '→x' });
        const next: Files = { 'x/now/a/dir': '1', y: 'file', 'z/in': '1' };
        assert.deepEqual(w.apply(next), []);
        w.assertShows(next);
        assert.deepEqual(w.apply({ x: '→y', 'y/other': '2', z: 'file' }), []);
        w.assertShows({ x: '→y', 'y/other': '2', z: 'file' });
      });

      test('a changed file keeps its inode: who has it open sees the new bytes', async () => {
        await using w = await start({ f: 'version 1' });
        w.apply({ f: 'version 2' });
        const { ino } = lstatSync(w.at('f'));
        const fd = openSync(w.at('f'), 'r');
        w.apply({ f: 'v 3' });
        assert.equal(readFileSync(fd, 'utf8'), 'v 3');
        closeSync(fd);
        assert.equal(lstatSync(w.at('f')).ino, ino);
      });

      test('a program, and what a step has made, get a new inode: who has the old one open keeps it', async () => {
        await using w = await start({ program: '#! 1', 'lib.so': '1' });
        w.apply({ program: '#! 2', 'lib.so': '2' }, () => false);
        const fds = ['program', 'lib.so'].map((path) => openSync(w.at(path), 'r'));
        assert.deepEqual(w.apply({ program: '#! 3', 'lib.so': '3' }, (path) => path === 'program'), []);
        assert.deepEqual(fds.map((fd) => readFileSync(fd, 'utf8')), ['#! 2', '2']);
        for (const fd of fds) closeSync(fd);
        w.assertShows({ program: '#! 3', 'lib.so': '3' });
      });

      test('what processes inside write stays', async () => {
        await using w = await start(START);
        writeFileSync(w.at('src/made-inside'), 'own');
        mkdirSync(w.at('gone/own'));
        const next: Files = { 'src/a': 'a2' };
        assert.deepEqual(w.apply(next), []);
        assert.equal(w.read('src/made-inside'), 'own');
        assert.deepEqual(readdirSync(w.at('gone')), ['own'], 'a directory that is not empty stays; what was removed from it is gone');
      });

      test('a clash: the version from outside is in place, the one from inside is kept and told of', async () => {
        await using w = await start(START);
        const inside: Record<string, string> = { 'src/a': 'changed inside', 'src/b': 'before it is removed', 'fresh': 'made inside' };
        for (const [path, text] of Object.entries(inside)) writeFileSync(w.at(path), text);
        const { 'src/b': _removed, ...rest } = START;
        const clashes = w.apply({ ...rest, 'src/a': 'changed outside', fresh: 'made outside' });
        assert.deepEqual([w.read('src/a'), w.read('fresh'), existsSync(w.at('src/b'))], ['changed outside', 'made outside', false]);
        assert.deepEqual(clashes.map(({ path }) => path).sort(), Object.keys(inside).sort());
        for (const { path, keptAt } of clashes) assert.equal(readFileSync(keptAt, 'utf8'), inside[path]);
      });

      test('the same bytes from both sides are no clash', async () => {
        await using w = await start({ f: '1', g: '1' });
        writeFileSync(w.at('f'), '2');
        writeFileSync(w.at('h'), '3');
        appendFileSync(w.at('g'), '');
        rmSync(w.at('g'));
        assert.deepEqual(w.apply({ f: '2', h: '3' }), []);
        w.assertShows({ f: '2', h: '3' });
      });

      test('the same bytes are not written once more: nobody inside sees an edit', async () => {
        await using w = await start({ f: '1', g: '1' });
        writeFileSync(w.at('f'), '2');
        chmodSync(w.at('f'), 0o644);
        chownSync(w.at('f'), 5, 6);
        sys().setTimes(w.at('f'), 0n, 1_700_000_000_000_000_001n);
        const before = lstatSync(w.at('f'), { bigint: true });
        w.apply({ f: '2', g: '2' });
        assert.equal(lstatSync(w.at('f'), { bigint: true }).ctimeNs, before.ctimeNs);
        w.assertShows({ f: '2', g: '2' });
      });

      test('two clashes of one file are two files', async () => {
        await using w = await start({ f: '1' });
        const kept = ['one', 'two'].flatMap((text) => {
          writeFileSync(w.at('f'), text);
          return w.apply({ f: `outside ${text}` }).map(({ keptAt }) => readFileSync(keptAt, 'utf8'));
        });
        assert.deepEqual(kept, ['one', 'two']);
        assert.equal(readdirSync(join(w.dir, 'clashes')).length, 2);
      });

      test('names as long as names can be', async () => {
        const name = 'n'.repeat(255);
        await using w = await start({ [name]: '1' });
        writeFileSync(w.at(name), 'inside');
        assert.deepEqual(w.apply({ [name]: '2' }).map(({ keptAt }) => readFileSync(keptAt, 'utf8')), ['inside']);
        w.apply({ [name]: '3' }, () => false);
        w.assertShows({ [name]: '3' });
      });

      test('files made inside are kept when their directory becomes a file outside', async () => {
        await using w = await start({ 'd/x': '1' });
        writeFileSync(w.at('d/made-inside'), 'own');
        const clashes = w.apply({ d: 'a file now' });
        assert.equal(w.read('d'), 'a file now');
        assert.deepEqual(clashes.map(({ path, keptAt }) => [path, readFileSync(keptAt, 'utf8')]), [['d/made-inside', 'own']]);
      });

      test('files made inside are kept when they stand in a directory where a file is changed outside', async () => {
        await using w = await start({ f: '1' });
        rmSync(w.at('f'));
        mkdirSync(w.at('f'));
        writeFileSync(w.at('f/own'), 'own');
        const clashes = w.apply({ f: '2' });
        assert.equal(w.read('f'), '2');
        assert.deepEqual(clashes.map(({ path, keptAt }) => [path, readFileSync(keptAt, 'utf8')]), [['f/own', 'own']]);
      });

      test('a link put in the place of a directory leads nowhere', async () => {
        await using w = await start({ 'd/changed': '1', 'd/removed': '1', 'd/sub/deep': '1', f: '1' });
        const victim = join(w.dir, 'host');
        const files = ['changed', 'removed', 'deep', 'target'];
        mkdirSync(join(victim, 'sub'), { recursive: true });
        for (const name of files) writeFileSync(join(victim, name), 'of the host');
        renameSync(w.at('d'), w.at('moved'));
        symlinkSync(victim, w.at('d'));
        rmSync(w.at('f'));
        symlinkSync(join(victim, 'target'), w.at('f'));
        w.apply({ 'd/changed': 'attack', 'd/added': 'attack', 'd/sub/deep': 'attack', f: '2' });
        assert.deepEqual(readdirSync(victim).sort(), [...files, 'sub'].sort());
        assert.deepEqual(readdirSync(join(victim, 'sub')), []);
        for (const name of files) assert.equal(readFileSync(join(victim, name), 'utf8'), 'of the host');
        assert.equal(lstatSync(w.at('f')).isFile(), true);
      });

      const noInotify = spawnSync('inotifywait', ['--help']).error === undefined ? false : 'inotifywait (inotify-tools) is not installed';
      test('watchers inside see edits from outside', { skip: noInotify }, async () => {
        await using w = await start({ 'src/changed': '1', 'src/removed': '1', 'src/dir/x': '1' });
        const watcher = spawn('inotifywait', ['-m', '-r', '--format', '%e %f', w.at('src')], { stdio: ['ignore', 'pipe', 'pipe'] });
        const ended = new Promise((resolve) => watcher.once('exit', resolve));
        try {
          for await (const line of createInterface(watcher.stderr)) if (line.includes('established')) break;
          w.apply({ 'src/changed': '2', 'src/added': '1', 'src/dir/x': '1', 'src/last': '' });
          const seen = new Set<string>();
          for await (const line of createInterface(watcher.stdout)) {
            seen.add(line);
            if (/^CLOSE_WRITE.* last$/.test(line)) break;
          }
          const events = [...seen];
          for (const pattern of [/^MODIFY changed$/, /^CLOSE_WRITE\S* changed$/, /^CREATE added$/, /^CLOSE_WRITE\S* added$/, /^DELETE removed$/]) {
            assert(events.some((line) => pattern.test(line)), `${pattern} in ${events.join(', ')}`);
          }
        } finally {
          watcher.kill();
          await ended;
        }
      });
    });
  }

  test('a root that another process had mounted: what was half put in place is finished, and what was written inside is there', async () => {
    const dir = join(root, String(count++));
    mkdirSync(dir);
    const [first, second] = [new FuseHost(), new FuseHost()];
    const projector = { store, storeDir, fuse: first, materializedDir: join(root, 'materialized') };
    const states: AppliedTree[] = [];
    const options: LiveRootOptions = { tree: treeOf(START), dir: join(dir, 'live'), clashesDir: join(dir, 'clashes'), overlay: 'disk', onApply: (state) => states.push(state) };
    const before = await LiveRoot.mount(projector, options);
    const at = (path: string): string => join(before.merged, path);
    writeFileSync(at('src/own'), 'own');
    // As a process leaves it that is killed between two changes.
    const next: Files = { 'src/a': 'a2', 'src/b': 'b2', new: 'n', link: '→src/b' };
    writeFileSync(at('src/a'), 'a2');
    rmSync(at('gone'), { recursive: true });
    const { live, clashes } = LiveRoot.adopt(projector, options, { applied: treeOf(START), applying: treeOf(next) }, () => true);
    assert.deepEqual(clashes, []);
    assert.deepEqual(states.at(-1), { applied: treeOf(next) });
    live.apply(treeOf({ ...next, 'src/a': 'a3' }), () => true);
    const shown = (): unknown[] => ['src/a', 'src/b', 'new', 'src/own'].map((path) => readFileSync(at(path), 'utf8'));
    assert.deepEqual(shown(), ['a3', 'b2', 'n', 'own']);
    assert.equal(existsSync(at('gone')), false);
    // Its server dies: another one, and the same files.
    renameSync(at('src'), at('renamed'));
    await first.close();
    await live.mountAnew({ ...projector, fuse: second });
    assert.deepEqual(['renamed/a', 'renamed/deep/c', 'renamed/own'].map((path) => existsSync(at(path)) && readFileSync(at(path), 'utf8')), ['a3', false, 'own']);
    assert.equal(existsSync(at('src')), false);
    await live.unmount();
    await second.close();
  });
}
