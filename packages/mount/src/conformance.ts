/** What a tree has to be as a file system, and what has to come back of what is written over it, whichever way it is shown: one suite for all adapters. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, existsSync, lstatSync, mkdirSync, openSync, readSync, rmSync, statSync, statfsSync, writeFileSync, writeSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { hostPath, sys, toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, applyDelta, lookupPath } from '@hyperdocker/cas';
import { captureUpper } from './capture.ts';
import { unmount } from './mount-at.ts';
import type { Seen } from './mount-fixture.ts';
import { metaOf, seenInTree, seenOnHost, strangeTree, workTree } from './mount-fixture.ts';
import { mountOverlay } from './overlay.ts';
import { addOperationSites, runOperations } from './posix-operations.ts';
import { FIXED_MTIME_NS } from './projection.ts';
import { randomOperations, seedOf } from './random-operations.ts';

export interface Adapter {
  name: string;
  /** A tree as a read-only directory. The store has been flushed. */
  show(tree: TreeDigest): Promise<Shown>;
}
export interface Shown {
  dir: string;
  /** Nobody uses it any more. */
  release(): Promise<void>;
}
export interface Bench {
  store: Store;
  /** An empty directory on the disk that anybody may look into. */
  newDir(name: string): string;
}

const NO_SKIP: ReadonlySet<ByteString> = new Set();
const noPerl: string | false = spawnSync('perl', ['-e', '1']).status === 0 ? false : 'perl is not installed';
const GIB = 2 ** 30;

/** Call in a mount namespace of one's own. */
export function declareConformance(bench: Bench, adapter: Adapter): void {
  describe(adapter.name, () => {
    const stage = new Stage(bench, adapter);
    declareReading(stage);
    declareSizes(stage);
    declareWriting(stage);
  });
}

/** Shows trees, and layers over them. */
class Stage {
  readonly bench: Bench;
  readonly #adapter: Adapter;

  constructor(bench: Bench, adapter: Adapter) {
    this.bench = bench;
    this.#adapter = adapter;
  }

  async shown(tree: TreeDigest, use: (dir: string) => void | Promise<void>): Promise<void> {
    this.bench.store.flush();
    const { dir, release } = await this.#adapter.show(tree);
    try {
      await use(dir);
    } finally {
      await release();
    }
  }

  /** With a writable layer. */
  async overlaid(lower: string, use: (merged: string, upper: string) => void | Promise<void>, after: (upper: string) => void = () => {}): Promise<void> {
    const dir = this.bench.newDir('overlay');
    const overlay = { lower, upper: join(dir, 'upper'), work: join(dir, 'work'), merged: join(dir, 'merged') };
    mountOverlay(overlay);
    try {
      await use(overlay.merged, overlay.upper);
    } finally {
      await unmount(overlay.merged);
    }
    after(overlay.upper);
    rmSync(dir, { recursive: true });
  }

  /** Runs `change` in an overlay on `tree`, and returns the tree that it made, with what was seen in the overlay. */
  async changed(tree: TreeDigest, lower: string, change: (merged: string) => void, skip = NO_SKIP): Promise<{ after: TreeDigest; delta: TreeDigest; seen: Seen }> {
    const { store } = this.bench;
    let seen: Seen = new Map();
    let delta = tree;
    const run = (merged: string): void => {
      change(merged);
      seen = seenOnHost(merged);
    };
    await this.overlaid(lower, run, (upper) => (delta = captureUpper(store, upper, tree, skip)));
    return { delta, after: applyDelta(store, tree, delta), seen };
  }
}

function declareReading(stage: Stage): void {
  const { store } = stage.bench;
  test('every path is what the tree says', async () => {
    const tree = strangeTree(store);
    const linked = (dir: string): void => {
      const inodes = ['hard/one', 'hard/two', 'three'].map((name) => lstatSync(join(dir, name)));
      assert.deepEqual(inodes.map(({ ino, nlink }) => [ino, nlink]), Array(3).fill([inodes[0]?.ino, 3]), 'three names, one inode');
    };
    await stage.shown(tree, async (dir) => {
      assert.deepEqual(seenOnHost(dir), seenInTree(store, tree));
      linked(dir);
      await stage.overlaid(dir, (merged) => {
        assert.deepEqual(seenOnHost(merged), seenInTree(store, tree));
        linked(merged);
      });
    });
  });

  test('entries without a time or an owner', async () => {
    const tree = new TreeBuilder(store);
    tree.set(toByteString('made/by/nobody'), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from('x')), size: 1 });
    const digest = tree.finish();
    await stage.shown(digest, (dir) => {
      assert.deepEqual(seenOnHost(dir), seenInTree(store, digest));
      for (const path of [dir, join(dir, 'made')]) assert.equal(lstatSync(path, { bigint: true }).mtimeNs, FIXED_MTIME_NS);
    });
  });

  test('the same inode numbers each time, also in listings', async () => {
    const tree = workTree(store);
    const inodes = (dir: string): Map<string, number> => new Map([...seenOnHost(dir).keys()].map((path) => [path, lstatSync(hostPath(dir, path)).ino]));
    let before: Map<string, number> | undefined;
    for (let round = 0; round < 2; round++) {
      await stage.shown(tree, (dir) => {
        const now = inodes(dir);
        before ??= now;
        assert.deepEqual(now, before);
        const listed = execFileSync('ls', ['-i', '-1', '-f', join(dir, 'd1')], { encoding: 'utf8' }).trim().split('\n').map((line) => line.trim().split(/\s+/) as [string, string]);
        for (const [ino, name] of listed) if (/^f\d$/.test(name)) assert.equal(Number(ino), now.get(`d1/${name}`), name);
      });
    }
  });
}

function declareSizes(stage: Stage): void {
  const { store } = stage.bench;
  test('attributes: long values, long lists, none', async () => {
    const builder = new TreeBuilder(store);
    const xattrs = Array.from({ length: 40 }, (_, i) => [toByteString(`user.${'name'.repeat(10)}-${String(i).padStart(2, '0')}`), Buffer.from(`value ${i}`)] as const);
    const file = { kind: 'file' as const, mode: 0o644, digest: store.putBlob(Buffer.from('x')) as BlobDigest, size: 1 };
    builder.set(toByteString('many'), { ...file, meta: metaOf({ xattrs }) });
    builder.set(toByteString('long'), { ...file, meta: metaOf({ xattrs: [[toByteString('user.long'), Buffer.alloc(3500, 'l')]] }) });
    builder.set(toByteString('none'), { ...file, meta: metaOf({}) });
    builder.set(toByteString('dir'), { kind: 'dir', mode: 0o755, meta: metaOf({ xattrs: [[toByteString('trusted.t'), Buffer.from('t')], [toByteString('user.d'), Buffer.from('d')]] }) });
    builder.set(toByteString('able'), { ...file, mode: 0o755, meta: metaOf({ xattrs: [[toByteString('security.capability'), Buffer.from('0100000200040000000000000000000000000000', 'hex')]] }) });
    await stage.shown(builder.finish(), async (dir) => {
      const look = (at: string): void => {
        // More than the buffer that is tried first: the kernel says ERANGE, and is asked again.
        assert.deepEqual(sys().listXattrs(join(at, 'many')).sort(), xattrs.map(([name]) => name).sort());
        for (const [name, value] of xattrs) assert.deepEqual(sys().getXattr(join(at, 'many'), name), Buffer.from(value));
        assert.equal(sys().getXattr(join(at, 'long'), toByteString('user.long'))?.length, 3500);
        assert.deepEqual(sys().listXattrs(join(at, 'none')), []);
        assert.equal(sys().getXattr(join(at, 'none'), toByteString('user.long')), undefined);
        assert.deepEqual(sys().listXattrs(join(at, 'dir')).sort(), ['trusted.t', 'user.d']);
        assert.equal(sys().getXattr(join(at, 'able'), toByteString('security.capability'))?.length, 20);
      };
      look(dir);
      await stage.overlaid(dir, look);
    });
  });

  test('a hundred thousand entries: each once, and again from any place', { skip: noPerl }, async () => {
    const builder = new TreeBuilder(store);
    const digest = store.putBlob(Buffer.from('x')) as BlobDigest;
    for (let i = 0; i < 100_000; i++) builder.set(toByteString(`wide/entry-${i}`), { kind: 'file', mode: 0o644, digest, size: 1 });
    builder.set(toByteString('wide/dir'), { kind: 'dir', mode: 0o755 });
    const script = `
      opendir(my $d, $ARGV[0]) or die; my (@names, @places);
      while (1) { my $at = telldir($d); my $name = readdir($d); last unless defined $name; push @names, $name; push @places, $at; }
      my %seen; $seen{$_}++ for @names; my $twice = grep { $_ > 1 } values %seen;
      my @wrong = grep { seekdir($d, $places[$_]); readdir($d) ne $names[$_] } map { int($_ * $#names / 300) } 0..300;
      rewinddir($d); my $again = 0; $again++ while defined readdir($d);
      print scalar(@names), " $twice ", scalar(@wrong), " $again";`;
    await stage.shown(builder.finish(), async (dir) => {
      assert.equal(execFileSync('perl', ['-e', script, join(dir, 'wide')], { encoding: 'utf8' }), '100003 0 0 100003');
      await stage.overlaid(dir, (merged) => {
        rmSync(join(merged, 'wide/entry-7'));
        writeFileSync(join(merged, 'wide/new'), '');
        assert.equal(execFileSync('perl', ['-e', script, join(merged, 'wide')], { encoding: 'utf8' }), '100003 0 0 100003');
        assert.equal(existsSync(join(merged, 'wide/entry-99999')), true);
      });
    });
  });

  test('a file of more than four GiB, mostly holes: every place in it, its end, holes and data', async () => {
    const { tree, size, marks } = (largeFiles.get(store) ?? largeFiles.set(store, makeLargeFile(stage.bench)).get(store))!;
    const check = (path: string): void => {
      assert.equal(statSync(path).size, size);
      const open = openSync(path, 'r');
      const read = (at: number, length: number): string => {
        const buffer = Buffer.alloc(length);
        return buffer.toString('latin1', 0, readSync(open, buffer, 0, length, at));
      };
      for (const at of marks) assert.equal(read(at, 6), 'mark!\n', String(at));
      assert.equal(read(2 ** 32 - 5, 12), '\0\0mark!\n\0\0\0\0');
      assert.deepEqual([read(size - 3, 100), read(size, 100), read(size + 2 ** 33, 100)], ['k!\n', '', '']);
      closeSync(open);
      if (noPerl !== false) return;
      // Whoever copies sparse files asks so. All of it may be data; what has bytes must be.
      const [hole, data] = execFileSync('perl', ['-e', 'open(my $f, "<", $ARGV[0]) or die; print join " ", map { sysseek($f, $_->[0], $_->[1]) // "none" } [0, 4], [$ARGV[1], 3]', path, String(marks[3])], { encoding: 'utf8' }).split(' ').map(Number);
      assert(hole !== undefined && hole > 0 && hole <= size, `first hole ${hole}`);
      assert(data !== undefined && data <= marks[3]!, `data from ${data}`);
    };
    await stage.shown(tree, async (dir) => {
      check(join(dir, 'large'));
      await stage.overlaid(dir, (merged) => check(join(merged, 'large')));
    });
  });

  test('what the file system says of itself', async () => {
    await stage.shown(workTree(store), async (dir) => {
      const names = (at: string): number => Number(execFileSync('stat', ['-f', '-c', '%l', at], { encoding: 'utf8' }));
      assert.equal(names(dir), 255);
      assert.equal(statfsSync(dir).bsize, 4096);
      await stage.overlaid(dir, (merged, upper) => {
        assert.equal(names(merged), 255);
        assert.equal(statfsSync(merged).blocks, statfsSync(upper).blocks, 'what is free is what can be written');
      });
    });
  });
}

function declareWriting(stage: Stage): void {
  const { store, newDir } = stage.bench;
  test('what is written over it comes back as a delta: each kind of change by name', async () => {
    const tree = workTree(store);
    await stage.shown(tree, async (lower) => {
      const { after: result, delta, seen } = await stage.changed(tree, lower, (merged) => {
        const at = (path: string): string => join(merged, path);
        const sh = (command: string): void => void execFileSync('sh', ['-ec', command], { cwd: merged });
        writeFileSync(at('new'), 'new');
        writeFileSync(at('d1/f1'), 'overwritten');
        sh('echo appended >> d1/f2; chmod 4711 d1/f3; chown 7:8 d2/f1; touch -d 1999-01-01T00:00:00.123456789Z d2/f2');
        sh('mv d1/f4 d2/moved; rm d2/f3; rm -r d3; mkdir d3; echo only > d3/only');
        sh('mv d4 renamed; echo into > renamed/into; rm renamed/f1; mkdir deep; mv renamed/sub deep/from-renamed; echo x > deep/from-renamed/x');
        sh('rm -r d5; ln -s target d5; rm link; mkdir link; touch link/in');
        sh('ln hard-a hard-new; ln d6/f1 d6/linked; echo both >> d6/linked; echo broken > hard-b');
        sh('mkfifo fifo; mknod null c 1 3; mknod disk b 259 70000; mkdir -m 1777 tmp; mkdir empty-dir; rm -r d6/sub');
        sys().setXattr(at('d6/f2'), toByteString('user.note'), Buffer.from([0, 255]));
        sys().setXattr(at('d6'), toByteString('user.dir'), Buffer.from('x'));
        writeFileSync(hostPath(merged, 'bad\xff\nname' as ByteString), 'strange');
        assert.throws(() => sys().makeNode(at('whiteout'), 0o020000, 0, 0), { code: 'SYSTEM_CALL' }, 'a step cannot forge a whiteout');
      });
      assert.deepEqual(seenInTree(store, result), seen);
      await stage.shown(result, (dir) => assert.deepEqual(seenOnHost(dir), seen));
      assert.equal(lookupPath(store, delta, toByteString('d2/f3'))?.kind, 'whiteout');
      assert.equal(lookupPath(store, delta, toByteString('d5/f1')), undefined);
      const d3 = lookupPath(store, delta, toByteString('d3'));
      assert(d3?.kind === 'dir' && d3.opaque === true);
      assert.equal(lookupPath(store, delta, toByteString('untouched')), undefined, 'only what was written');
      const [linked, original] = ['d6/linked', 'd6/f1'].map((path) => lookupPath(store, result, toByteString(path))?.meta);
      assert(linked !== undefined && linked.linkGroup > 0 && linked.linkGroup === original?.linkGroup && linked.links === 2);
    });
  });

  test('what the container runtime puts there for itself is not captured', async () => {
    const tree = workTree(store);
    await stage.shown(tree, async (lower) => {
      const change = (merged: string): void => {
        mkdirSync(join(merged, 'proc'));
        mkdirSync(join(merged, 'run/hd'), { recursive: true });
        writeFileSync(join(merged, 'run/hd/certificates'), '');
        writeFileSync(join(merged, 'run/kept'), '');
      };
      const { delta } = await stage.changed(tree, lower, change, new Set(['proc', 'run/hd'].map(toByteString)));
      assert.deepEqual([...seenInTree(store, delta).keys()], ['run', 'run/kept']);
    });
  });

  test('a socket that a step leaves', async () => {
    const tree = workTree(store);
    await stage.shown(tree, async (lower) => {
      await stage.overlaid(lower, async (merged, upper) => {
        const server = createServer().listen(join(merged, 's'));
        await once(server, 'listening');
        // Taken while it listens: closing removes it.
        assert.equal(lookupPath(store, captureUpper(store, upper, tree, NO_SKIP), toByteString('s'))?.kind, 'socket');
        server.close();
        await once(server, 'close');
        assert.equal(existsSync(join(upper, 's')), false);
      });
    });
  });

  test('random operations over random results: the delta is the merged view', async (t) => {
    const seed = seedOf(process.env);
    t.diagnostic(`seed ${seed}: HD_TEST_SEED=${seed} runs the same again`);
    let tree = workTree(store);
    for (let generation = 0; generation < 10; generation++) {
      let next = tree;
      await stage.shown(tree, async (lower) => {
        for (let round = 0; round < 5; round++) {
          let log: string[] = [];
          const { after: result, seen } = await stage.changed(tree, lower, (merged) => (log = randomOperations(merged, seed + generation * 100 + round)));
          assert.deepEqual(seenInTree(store, result), seen, `seed ${seed}, generation ${generation}, round ${round}:\n${log.join('\n')}`);
          next = result;
        }
      });
      tree = next;
    }
  });

  test('operations of POSIX on what is in the tree: as on overlayfs over plain directories, and but for what overlayfs is known for as on these', async () => {
    const builder = new TreeBuilder(store);
    addOperationSites(builder, (path, text, mode, meta) => builder.set(path, { kind: 'file', mode, digest: store.putBlob(Buffer.from(text)) as BlobDigest, size: text.length, meta: metaOf(meta ?? {}) }));
    const tree = builder.finish();
    await stage.shown(tree, async (dir) => {
      const [plain, lower] = [newDir('plain'), newDir('lower')];
      for (const copy of [plain, lower]) copyTree(dir, copy);
      assert.deepEqual([...seenOnHost(lower)], [...seenOnHost(dir)], 'the copy is one');
      let onPlainOverlay: Record<string, string> = {};
      let onOurs: Record<string, string> = {};
      await stage.overlaid(lower, (merged) => void (onPlainOverlay = runOperations(merged)));
      await stage.overlaid(dir, (merged) => void (onOurs = runOperations(merged)));
      assert.deepEqual(onOurs, onPlainOverlay);
      const onPlain = runOperations(plain);
      assert.deepEqual(Object.keys(onPlain).filter((name) => onPlain[name] !== onOurs[name]), OF_OVERLAYFS);
      for (const path of [plain, lower]) rmSync(path, { recursive: true });
    });
  });
}

interface LargeFile { tree: TreeDigest; size: number; marks: number[] }
/** Hashed once for all adapters. */
const largeFiles = new WeakMap<Store, LargeFile>();

/** With `mark!` and a line end at some places, and nothing elsewhere. */
function makeLargeFile({ store, newDir }: Bench): LargeFile {
  const source = join(newDir('source'), 'large');
  const size = 4 * GIB + 3 * 2 ** 20 + 17;
  const marks = [0, 2 ** 31 - 3, 2 ** 32 - 3, 2 ** 32 + 2 ** 20, size - 6];
  const fd = openSync(source, 'w');
  for (const at of marks) writeSync(fd, 'mark!\n', at);
  closeSync(fd);
  const builder = new TreeBuilder(store);
  builder.set(toByteString('large'), { kind: 'file', mode: 0o644, digest: store.putFile(source).digest, size });
  rmSync(source);
  return { tree: builder.finish(), size, marks };
}

/** Where overlayfs does otherwise than the file system below it: docs/posix.md. */
const OF_OVERLAYFS: readonly string[] = [];

/** With owners, times, attributes, hard links and devices. */
function copyTree(from: string, to: string): void {
  execFileSync('cp', ['-a', `${from}/.`, to]);
  chmodSync(to, 0o755);
}
