/** What the kernel makes of our trees: FUSE, overlays on it, and what is read back from them. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { chmodSync, closeSync, existsSync, lstatSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { hostPath, processStartTime, sys, toByteString } from '@hyperdocker/base';
import type { BuilderEntry, Meta, Store } from '@hyperdocker/cas';
import { PROMOTE_BYTES, TreeBuilder, applyDelta, lookupPath, openStore } from '@hyperdocker/cas';
import { Asked } from '@hyperdocker/engine';
import { inMountNamespace, waitUntil } from '@hyperdocker/testkit';
import { captureUpper } from './capture.ts';
import { FuseHost } from './fuse-host.ts';
import { materialize } from './materialize.ts';
import { seenInTree, seenOnHost } from './mount-fixture.ts';
import { unmount } from './mount-at.ts';
import { mountOverlay } from './overlay.ts';
import { FIXED_MTIME_NS } from './projection.ts';
import { randomOperations, seedOf } from './random-operations.ts';

const NO_SKIP: ReadonlySet<ByteString> = new Set();

if (inMountNamespace(import.meta.filename)) {
  const root = mkdtempSync(join(tmpdir(), 'hd-mounted-'));
  const storeDir = join(root, 'store');
  const store = openStore(storeDir);
  const hosts: FuseHost[] = [];
  after(async () => {
    for (const host of hosts) await host.close();
    store[Symbol.dispose]();
    rmSync(root, { recursive: true, force: true });
  });
  let count = 0;
  const newDir = (name: string): string => {
    const dir = join(root, `${name}-${count++}`);
    mkdirSync(dir);
    return dir;
  };
  const newHost = (options?: ConstructorParameters<typeof FuseHost>[0]): FuseHost => {
    const host = new FuseHost(options);
    hosts.push(host);
    return host;
  };
  const shared = newHost();

  const withMount = async (tree: TreeDigest, use: (dir: string) => void | Promise<void>, tracing = false): Promise<void> => {
    store.flush();
    const [dir, id] = [newDir('fuse'), `m${count++}`];
    await shared.mount(id, { tree, mountpoint: dir, storeDir, tracing });
    try {
      await use(dir);
    } finally {
      await shared.unmount(id);
    }
  };

  /** Runs `change` in an overlay on `tree`, and returns the tree that it made, with what was seen in the overlay. */
  const overlaid = async (tree: TreeDigest, lower: string, change: (merged: string) => void, skip = NO_SKIP): Promise<{ after: TreeDigest; delta: TreeDigest; seen: ReturnType<typeof seenOnHost> }> => {
    const dir = newDir('overlay');
    const overlay = { lower, upper: join(dir, 'upper'), work: join(dir, 'work'), merged: join(dir, 'merged') };
    mountOverlay(overlay);
    let seen;
    try {
      change(overlay.merged);
      seen = seenOnHost(overlay.merged);
    } finally {
      await unmount(overlay.merged);
    }
    const delta = captureUpper(store, overlay.upper, tree, skip);
    rmSync(dir, { recursive: true });
    return { delta, after: applyDelta(store, tree, delta), seen };
  };

  const materialized = newDir('materialized');

  test('every path of a mounted tree is what the tree says', async () => {
    const tree = strangeTree(store);
    await withMount(tree, (dir) => {
      assert.deepEqual(seenOnHost(dir), seenInTree(store, tree));
      const inodes = ['hard/one', 'hard/two', 'three'].map((name) => lstatSync(join(dir, name)));
      assert.deepEqual(inodes.map(({ ino, nlink }) => [ino, nlink]), Array(3).fill([inodes[0]?.ino, 3]), 'three names, one inode');
    });
    await withMount(tree, (dir) => assert.deepEqual(seenOnHost(dir), seenInTree(store, tree)), true);
  });

  test('a materialized tree is the same, whatever the umask', () => {
    const tree = strangeTree(store);
    const old = process.umask(0o077);
    let dir: string;
    try {
      dir = materialize(store, tree, materialized);
    } finally {
      process.umask(old);
    }
    assert.deepEqual(seenOnHost(dir), seenInTree(store, tree));
    assert.equal(statSync(dir).mode & 0o7777, 0o755);
    assert.equal(lstatSync(join(dir, 'hard/one')).ino, lstatSync(join(dir, 'three')).ino);
    assert.equal(materialize(store, tree, materialized), dir, 'made once');
    assert.deepEqual(readdirSync(materialized), [tree], 'nothing half-made is left');
  });

  test('entries without a time or an owner look the same in both', async () => {
    const tree = new TreeBuilder(store);
    tree.set(toByteString('made/by/nobody'), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from('x')), size: 1 });
    const digest = tree.finish();
    await withMount(digest, (dir) => {
      assert.deepEqual(seenOnHost(dir), seenOnHost(materialize(store, digest, materialized)));
      assert.equal(lstatSync(join(dir, 'made'), { bigint: true }).mtimeNs, FIXED_MTIME_NS);
      assert.equal(lstatSync(dir, { bigint: true }).mtimeNs, lstatSync(join(materialized, digest), { bigint: true }).mtimeNs);
    });
  });

  test('a mounted tree cannot be written to', async () => {
    await withMount(strangeTree(store), (dir) => {
      assert.throws(() => writeFileSync(join(dir, 'new'), ''), { code: 'EROFS' });
      assert.throws(() => writeFileSync(join(dir, 'empty'), 'x'), { code: 'EROFS' });
      assert.throws(() => unlinkSync(join(dir, 'empty')), { code: 'EROFS' });
      assert.throws(() => mkdirSync(join(dir, 'dir')), { code: 'EROFS' });
      assert.throws(() => renameSync(join(dir, 'empty'), join(dir, 'full')), { code: 'EROFS' });
    });
  });

  test('a directory that the store has lost is an error for who looks, and the rest stays', async () => {
    const tree = store.putTree([
      { kind: 'dir', name: toByteString('lost'), mode: 0o755, digest: 'ab'.repeat(32) as TreeDigest },
      { kind: 'file', name: toByteString('lost-file'), mode: 0o644, digest: 'cd'.repeat(32) as never, size: 4 },
      { kind: 'file', name: toByteString('there'), mode: 0o644, digest: store.putBlob(Buffer.from('1')), size: 1 },
    ]);
    await withMount(tree, (dir) => {
      assert.throws(() => readdirSync(join(dir, 'lost')), { code: 'EIO' });
      assert.throws(() => readFileSync(join(dir, 'lost-file')), { code: 'EIO' });
      assert.equal(readFileSync(join(dir, 'there'), 'utf8'), '1');
    });
  });

  test('bytes that the disk has damaged are an error, never served', async () => {
    const damagedDir = newDir('damaged');
    const [small, large] = [randomBytes(1000), randomBytes(PROMOTE_BYTES + 1000)];
    let tree: TreeDigest;
    {
      using damaged = openStore(damagedDir);
      const entry = (name: string, bytes: Buffer) => ({ kind: 'file' as const, name: toByteString(name), mode: 0o644, digest: damaged.putBlob(bytes), size: bytes.length });
      tree = damaged.putTree([entry('large', large), entry('small', small), entry('whole', Buffer.from('whole'))]);
      damaged.flush();
    }
    const found = readdirSync(damagedDir, { recursive: true, encoding: 'utf8' }).map((name) => join(damagedDir, name)).filter((path) => lstatSync(path).isFile());
    const flipped = found.flatMap((path) => [small, large].filter((bytes) => flipIn(path, bytes.subarray(0, 32))));
    assert.equal(flipped.length, 2);
    const [dir, host] = [newDir('damaged-mount'), newHost()];
    await host.mount('d', { tree, mountpoint: dir, storeDir: damagedDir, tracing: false });
    assert.throws(() => readFileSync(join(dir, 'small')), { code: 'EIO' });
    assert.throws(() => readFileSync(join(dir, 'large')), { code: 'EIO' });
    assert.equal(readFileSync(join(dir, 'whole'), 'utf8'), 'whole');
    await host.unmount('d');
    // Who reads it while being traced may go on as if it were empty: there is no trace of that.
    await host.mount('t', { tree, mountpoint: dir, storeDir: damagedDir, tracing: true });
    assert.equal(readFileSync(join(dir, 'whole'), 'utf8'), 'whole');
    assert.throws(() => readFileSync(join(dir, 'small')), { code: 'EIO' });
    await assert.rejects(host.unmount('t'), { code: 'FUSE_MOUNT' });
    await host.mount('again', { tree, mountpoint: dir, storeDir: damagedDir, tracing: true });
    readFileSync(join(dir, 'whole'));
    assert.equal((await host.unmount('again')).paths.has(toByteString('whole')), true, 'the host goes on');
  });

  test('a tree that is known to have no attributes: the kernel answers for it, and every path that was looked up counts as asked for them', async () => {
    const builder = new TreeBuilder(store);
    for (const name of ['before', 'asked', 'after', 'untouched']) builder.set(toByteString(name), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(name)), size: name.length });
    const tree = builder.finish();
    store.flush();
    const known = join(root, 'attribute-free');
    writeFileSync(known, `half a line\n${tree}\n`);
    const [host, lower, dir] = [newHost({ attributeFreeFile: known }), newDir('lower'), newDir('over')];
    await host.mount('free', { tree, mountpoint: lower, storeDir, tracing: true });
    lstatSync(join(lower, 'before'));
    assert.equal(sys().getXattr(join(lower, 'asked'), toByteString('user.none')), undefined);
    assert.deepEqual(sys().listXattrs(join(lower, 'asked')), []);
    const [upper, merged, mark] = [join(dir, 'upper'), join(dir, 'merged'), toByteString('user.mark')];
    mountOverlay({ lower, upper, work: join(dir, 'work'), merged });
    sys().setXattr(join(merged, 'after'), mark, Buffer.from('m'));
    assert.deepEqual([sys().getXattr(join(merged, 'after'), mark)?.toString(), readFileSync(join(merged, 'after'), 'utf8')], ['m', 'after']);
    await unmount(merged);
    const { paths } = await host.unmount('free');
    assert.deepEqual([...paths].filter(([, asked]) => asked & Asked.xattrs).map(([path]) => path), ['after', 'asked', 'before']);
  });

  test('a mount in use cannot be taken away, and can be later', async () => {
    const [dir, host] = [newDir('busy'), newHost()];
    const tree = strangeTree(store);
    store.flush();
    await host.mount('busy', { tree, mountpoint: dir, storeDir, tracing: false });
    const fd = openSync(join(dir, 'full'), 'r');
    await assert.rejects(host.unmount('busy'), { code: 'FUSE_MOUNT' });
    closeSync(fd);
    await host.unmount('busy');
    assert.deepEqual(readdirSync(dir), []);
  });

  test('where the server cannot start, files are an error and nobody hangs', async () => {
    const [dir, host] = [newDir('no-store'), newHost()];
    await host.mount('x', { tree: strangeTree(store), mountpoint: dir, storeDir: join(root, 'no-such-store'), tracing: false });
    assert.throws(() => readdirSync(dir), (error: NodeJS.ErrnoException) => ['ENOTCONN', 'ECONNABORTED'].includes(error.code ?? ''));
    await assert.rejects(host.unmount('x'), { code: 'FUSE_MOUNT' });
    await assert.rejects(host.mount('y', { tree: strangeTree(store), mountpoint: join(root, 'no-such-directory'), storeDir, tracing: false }), { code: 'FUSE_MOUNT' });
  });

  test('a host that is killed is told of, and leaves no server; closing one takes its mounts away', async () => {
    const dir = newDir('killed');
    const { promise: died, resolve } = Promise.withResolvers<void>();
    const host = newHost({ onDeath: resolve });
    const tree = strangeTree(store);
    store.flush();
    await host.mount('k', { tree, mountpoint: dir, storeDir, tracing: false });
    process.kill(host.pid, 'SIGKILL');
    await died;
    assert.throws(() => readdirSync(dir), { code: 'ENOTCONN' });
    await assert.rejects(host.mount('again', { tree, mountpoint: dir, storeDir, tracing: false }), { code: 'FUSE_HOST_DIED' });
    await unmount(dir);
    const closed = newHost({ onDeath: () => assert.fail('it was asked to') });
    await closed.mount('c', { tree, mountpoint: dir, storeDir, tracing: false });
    await closed.close();
    assert.deepEqual(readdirSync(dir), []);
  });

  test('a host with something to keep outlives its owner, serves the next one, and ends by itself when nobody comes', async () => {
    const [kept, other, socket, mark] = [newDir('kept'), newDir('other'), join(root, 'owner'), join(root, 'nobody-came')];
    const tree = workTree(store);
    store.flush();
    const first = newHost({ onDeath: () => assert.fail('it lives') });
    for (const [id, mountpoint] of [['kept', kept], ['other', other]] as const) await first.mount(id, { tree, mountpoint, storeDir, tracing: false });
    const keep = { mounts: ['kept'], socket, waitMs: 60_000, after: ['touch', mark] };
    await first.keep(keep);
    assert.equal(statSync(socket).mode & 0o777, 0o600);
    first.release();
    const second = await FuseHost.adopt(socket, first.pid);
    assert.equal(readFileSync(join(kept, 'f1'), 'utf8'), 'of f1');
    await waitUntil('what was not to be kept is gone', () => (readdirSync(other).length === 0 ? true : undefined));
    await assert.rejects(second.unmount('other'), { code: 'FUSE_MOUNT' });
    await second.mount('third', { tree, mountpoint: other, storeDir, tracing: true });
    readFileSync(join(other, 'f2'));
    assert.equal((await second.unmount('third')).paths.has(toByteString('f2')), true);
    await second.keep({ ...keep, waitMs: 1 });
    second.release();
    await waitUntil('it has ended', () => (existsSync(mark) && processStartTime(first.pid) === undefined ? true : undefined));
    assert.deepEqual(readdirSync(kept), []);
    assert.equal(existsSync(socket), false);
    await assert.rejects(FuseHost.adopt(socket, first.pid), { code: 'FUSE_HOST_DIED' });
  });

  test('a host that is no longer to keep anything ends with its owner', async () => {
    const [dir, socket] = [newDir('released'), join(root, 'owner-2')];
    const host = newHost();
    await host.mount('kept', { tree: workTree(store), mountpoint: dir, storeDir, tracing: false });
    const keep = { mounts: ['kept'], socket, waitMs: 60_000, after: [] };
    await host.keep(keep);
    await host.keep({ ...keep, mounts: [] });
    assert.equal(existsSync(socket), false);
    host.release();
    await waitUntil('it has ended', () => (processStartTime(host.pid) === undefined ? true : undefined));
    assert.deepEqual(readdirSync(dir), []);
  });

  test('what is written over a mounted tree comes back as a delta: each kind of change by name', async () => {
    const tree = workTree(store);
    await withMount(tree, async (lower) => {
      const { after: result, delta, seen } = await overlaid(tree, lower, (merged) => {
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
      assert.deepEqual(seenOnHost(materialize(store, result, materialized)), seen);
      await withMount(result, (dir) => assert.deepEqual(seenOnHost(dir), seen));
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
    await withMount(tree, async (lower) => {
      const change = (merged: string): void => {
        mkdirSync(join(merged, 'proc'));
        mkdirSync(join(merged, 'run/hd'), { recursive: true });
        writeFileSync(join(merged, 'run/hd/certificates'), '');
        writeFileSync(join(merged, 'run/kept'), '');
      };
      const { delta } = await overlaid(tree, lower, change, new Set(['proc', 'run/hd'].map(toByteString)));
      assert.deepEqual([...seenInTree(store, delta).keys()], ['run', 'run/kept']);
    });
  });

  test('a socket that a step leaves', async () => {
    const tree = workTree(store);
    await withMount(tree, async (lower) => {
      const dir = newDir('socket');
      const overlay = { lower, upper: join(dir, 'upper'), work: join(dir, 'work'), merged: join(dir, 'merged') };
      mountOverlay(overlay);
      const server = createServer().listen(join(overlay.merged, 's'));
      await once(server, 'listening');
      // Taken while it listens: closing removes it.
      assert.equal(lookupPath(store, captureUpper(store, overlay.upper, tree, NO_SKIP), toByteString('s'))?.kind, 'socket');
      server.close();
      await once(server, 'close');
      await unmount(overlay.merged);
      assert.equal(existsSync(join(overlay.upper, 's')), false);
    });
  });

  test('random operations over random results: the delta is the merged view', async (t) => {
    const seed = seedOf(process.env);
    t.diagnostic(`seed ${seed}: HD_TEST_SEED=${seed} runs the same again`);
    let tree = workTree(store);
    for (let generation = 0; generation < 10; generation++) {
      let next = tree;
      await withMount(tree, async (lower) => {
        for (let round = 0; round < 5; round++) {
          let log: string[] = [];
          const { after: result, seen } = await overlaid(tree, lower, (merged) => (log = randomOperations(merged, seed + generation * 100 + round)));
          const context = `seed ${seed}, generation ${generation}, round ${round}:\n${log.join('\n')}`;
          assert.deepEqual(seenInTree(store, result), seen, context);
          assert.deepEqual(seenOnHost(materialize(store, result, materialized)), seen, context);
          rmSync(join(materialized, result), { recursive: true });
          next = result;
        }
      });
      tree = next;
    }
  });
}

/** Damages the first place in a file that holds `bytes`. False: there is none. */
function flipIn(path: string, bytes: Buffer): boolean {
  const content = readFileSync(path);
  const offset = content.indexOf(bytes);
  if (offset < 0) return false;
  content[offset]! ^= 1;
  chmodSync(path, 0o644);
  writeFileSync(path, content);
  return true;
}

function metaOf(meta: Partial<Meta>): Meta {
  return { uid: 0, gid: 0, mtimeNs: 1_700_000_000_123_456_789n, xattrs: [], linkGroup: 0, links: 1, ...meta };
}

/** One of everything. */
function strangeTree(store: Store): TreeDigest {
  const tree = new TreeBuilder(store);
  const file = (path: string, bytes: Buffer, mode = 0o644, meta: Partial<Meta> = {}): void =>
    tree.set(path as ByteString, { kind: 'file', mode, digest: store.putBlob(bytes), size: bytes.length, meta: metaOf(meta) });
  const other = (path: string, entry: BuilderEntry): void => tree.set(path as ByteString, { ...entry, meta: metaOf({ uid: 3, gid: 4 }) });
  file('empty', Buffer.alloc(0));
  file('full', Buffer.from('full'));
  file('large', Buffer.alloc(PROMOTE_BYTES * 2 + 12345, 'large content '));
  file('mode', Buffer.from('#!/bin/sh\n'), 0o4755);
  file('owned', Buffer.from('x'), 0o640, { uid: 1000, gid: 4_000_000_000 });
  file('old', Buffer.from('x'), 0o644, { mtimeNs: -1_500_000_000n });
  file('new', Buffer.from('x'), 0o644, { mtimeNs: 4_200_000_000_000_000_001n });
  file('attributes', Buffer.from('x'), 0o444, { xattrs: [['user.a', Buffer.from([0, 1, 255])], ['user.empty', Buffer.alloc(0)], ['user.long', Buffer.alloc(3000, 'l')]].map(([k, v]) => [k as ByteString, v as Buffer] as const) });
  file('caps', Buffer.from('x'), 0o755, { xattrs: [['security.capability' as ByteString, Buffer.from('0100000200040000000000000000000000000000', 'hex')]] });
  for (const name of ['hard/one', 'hard/two', 'three']) file(name, Buffer.from('one inode'), 0o600, { linkGroup: 99, links: 3 });
  file('with space', Buffer.from('x'));
  file('new\nline', Buffer.from('x'));
  file('invalid\xff\xfe', Buffer.from('x'));
  file(toByteString('emoji 🦊'), Buffer.from('x'));
  file('n'.repeat(255), Buffer.from('x'));
  file(`${'deep/'.repeat(60)}end`, Buffer.from('deep'));
  for (let i = 0; i < 3000; i++) file(`wide/entry-${i}-${'x'.repeat(i % 40)}`, Buffer.from(String(i % 10)));
  other('empty-dir', { kind: 'dir', mode: 0o1777 });
  other('private', { kind: 'dir', mode: 0o700 });
  other('link', { kind: 'symlink', mode: 0o777, target: '/absolute/target' as ByteString });
  other('odd-link', { kind: 'symlink', mode: 0o777, target: `../${'t'.repeat(200)}\xff/../.` as ByteString });
  other('fifo', { kind: 'fifo', mode: 0o600 });
  other('socket', { kind: 'socket', mode: 0o666 });
  other('null', { kind: 'char', mode: 0o666, major: 1, minor: 3 });
  other('disk', { kind: 'block', mode: 0o660, major: 259, minor: 70_000 });
  return tree.finish();
}

/** Something to work on. */
function workTree(store: Store): TreeDigest {
  const tree = new TreeBuilder(store);
  const file = (path: string, meta: Partial<Meta> = {}, text = `of ${path}`): void =>
    tree.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: Buffer.byteLength(text), meta: metaOf(meta) });
  for (const dir of ['', 'd1/', 'd2/', 'd3/', 'd4/', 'd5/', 'd6/', 'd1/sub/', 'd4/sub/', 'd4/sub/deep/', 'd6/sub/', 'untouched/']) for (let i = 1; i <= 4; i++) file(`${dir}f${i}`);
  for (const path of ['hard-a', 'hard-b', 'd2/hard-c']) file(path, { linkGroup: 5, links: 3 }, 'linked');
  tree.set(toByteString('link'), { kind: 'symlink', mode: 0o777, target: toByteString('d1'), meta: metaOf({}) });
  file('d1/ü\n');
  return tree.finish();
}
