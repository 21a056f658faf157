/** What the kernel makes of our trees: FUSE, overlays on it, and what is read back from them. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { chmodSync, closeSync, existsSync, lstatSync, mkdirSync, mkdtempSync, openSync, readFileSync, readdirSync, renameSync, rmSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { processStartTime, sys, toByteString } from '@hyperdocker/base';
import { PROMOTE_BYTES, TreeBuilder, openStore } from '@hyperdocker/cas';
import { Asked } from '@hyperdocker/engine';
import { inMountNamespace, waitUntil } from '@hyperdocker/testkit';
import { declareConformance } from './conformance.ts';
import { FuseHost } from './fuse-host.ts';
import { materialize } from './materialize.ts';
import { seenInTree, seenOnHost, strangeTree, workTree } from './mount-fixture.ts';
import { unmount } from './mount-at.ts';
import { mountOverlay } from './overlay.ts';

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

  const materialized = newDir('materialized');
  chmodSync(root, 0o755);

  for (const tracing of [false, true]) {
    declareConformance({ store, newDir }, {
      name: tracing ? 'FUSE, while tracing' : 'FUSE',
      async show(tree) {
        const [dir, id] = [newDir('fuse'), `m${count++}`];
        await shared.mount(id, { tree, mountpoint: dir, storeDir, tracing });
        return { dir, release: async () => void (await shared.unmount(id)) };
      },
    });
  }
  declareConformance({ store, newDir }, { name: 'written out to disk', show: async (tree) => ({ dir: materialize(store, tree, materialized, storeDir), release: async () => {} }) });

  test('a materialized tree is made once, whatever the umask, and nothing half-made is left', () => {
    const tree = strangeTree(store);
    const dir = newDir('umask');
    const old = process.umask(0o077);
    try {
      assert.deepEqual(seenOnHost(materialize(store, tree, dir)), seenInTree(store, tree));
    } finally {
      process.umask(old);
    }
    assert.equal(statSync(join(dir, tree)).mode & 0o7777, 0o755);
    assert.equal(materialize(store, tree, dir), join(dir, tree), 'made once');
    assert.deepEqual(readdirSync(dir), [tree]);
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
