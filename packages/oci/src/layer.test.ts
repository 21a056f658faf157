import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { linkSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { gzipSync, zstdCompressSync } from 'node:zlib';
import fc from 'fast-check';
import { HdError, sys, toByteString } from '@hyperdocker/base';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { applyDelta, lookupPath, openMemoryStore, walkTree } from '@hyperdocker/cas';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { applyLayer, decompressed, imageTree, importTar, writeLayer } from './index.ts';
import { tar } from './test-tar.ts';
import type { TestMember } from './test-tar.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-layer-test-'));
after(() => rmSync(world, { recursive: true }));
const isRoot = process.getuid?.() === 0;

/** All paths with what they are, for comparing. */
function listing(store: Store, tree: TreeDigest): string[] {
  return [...walkTree(store, tree)].map(({ path, entry }) => `${path}${entry.kind === 'dir' ? '/' : entry.kind === 'symlink' ? ` -> ${entry.target}` : entry.kind === 'file' ? `=${store.getBlob(entry.digest).toString('latin1')}` : ` ${entry.kind}`}`);
}

function at(store: Store, tree: TreeDigest, path: string): TreeEntry {
  const entry = lookupPath(store, tree, toByteString(path));
  assert(entry !== undefined, path);
  return entry;
}

async function apply(...layers: TestMember[][]): Promise<string[]> {
  const store = openMemoryStore();
  return listing(store, await imageTree(store, layers.map((members) => [tar(members)])));
}

for (const format of ['pax', 'gnu']) {
  test(`what GNU tar writes, --format=${format}`, { skip: isRoot ? false : 'needs root for devices and owners' }, async () => {
    const dir = mkdtempSync(join(world, 'golden-'));
    const long = `${'d'.repeat(120)}/${'e'.repeat(120)}`;
    mkdirSync(join(dir, long), { recursive: true });
    writeFileSync(join(dir, long, 'deep'), 'deep');
    writeFileSync(join(dir, 'a'), 'A', { mode: 0o644 });
    linkSync(join(dir, 'a'), join(dir, 'b'));
    symlinkSync('x'.repeat(150), join(dir, 'longlink'));
    writeFileSync(Buffer.concat([Buffer.from(`${dir}/`), Buffer.from([0x6e, 0xff, 0xfe])]), 'bytes');
    writeFileSync(join(dir, 'naïve 🚀'), '');
    writeFileSync(join(dir, 'big'), '');
    truncateSync(join(dir, 'big'), 9 << 20);
    writeFileSync(join(dir, 'setuid'), 'S');
    execFileSync('chown', ['1234:3000000', join(dir, 'setuid')]);
    execFileSync('chmod', ['4755', join(dir, 'setuid')]);
    sys().makeNode(join(dir, 'null'), 0o020666, 1, 3);
    sys().makeNode(join(dir, 'fifo'), 0o010600, 0, 0);
    sys().setTimes(join(dir, 'a'), 0n, 1_600_000_000_123_456_789n);
    sys().setXattr(join(dir, 'a'), toByteString('user.note'), Buffer.from([1, 0, 10, 61]));
    const file = `${dir}.tar`;
    execFileSync('tar', ['-C', dir, `--format=${format}`, ...(format === 'pax' ? ['--xattrs'] : []), '-cf', file, '.']);
    const store = openMemoryStore();
    const tree = await importTar(store, [execFileSync('cat', [file], { maxBuffer: 64 << 20 })], { tempDir: world });

    const a = at(store, tree, 'a');
    assert(a.kind === 'file' && a.size === 1);
    assert.equal(a.meta?.mtimeNs, format === 'pax' ? 1_600_000_000_123_456_789n : 1_600_000_000_000_000_000n);
    assert.deepEqual(a.meta.xattrs.map(([name, value]) => [name, [...value]]), format === 'pax' ? [['user.note', [1, 0, 10, 61]]] : []);
    assert.equal(a.meta.links, 2);
    assert.equal(a.meta.linkGroup, at(store, tree, 'b').meta?.linkGroup);
    assert.equal(at(store, tree, `${long}/deep`).kind, 'file');
    assert.equal(at(store, tree, 'naïve 🚀').kind, 'file');
    assert(lookupPath(store, tree, 'n\xff\xfe' as ByteString) !== undefined);
    const setuid = at(store, tree, 'setuid');
    assert.deepEqual([setuid.mode, setuid.meta?.uid, setuid.meta?.gid], [0o4755, 1234, 3000000]);
    const device = at(store, tree, 'null');
    assert(device.kind === 'char' && device.major === 1 && device.minor === 3);
    assert.equal(at(store, tree, 'fifo').kind, 'fifo');
    const link = at(store, tree, 'longlink');
    assert(link.kind === 'symlink' && link.target.length === 150);
    const big = at(store, tree, 'big');
    assert(big.kind === 'file' && store.blobSize(big.digest) === 9 << 20);

    const again = await importTar(store, writeLayer(store, tree));
    assert.equal(again, tree);
    const unpacked = mkdtempSync(join(world, 'unpacked-'));
    writeFileSync(`${unpacked}.tar`, Buffer.concat([...writeLayer(store, tree)]));
    // GNU tar warns that it does not know hdrcharset, which tells other readers that names are bytes.
    execFileSync('tar', ['-C', unpacked, '--xattrs', '--xattrs-include=*', '-xpf', `${unpacked}.tar`], { stdio: ['ignore', 'pipe', 'ignore'] });
    assert.equal(execFileSync('diff', ['-r', '--no-dereference', '-x', 'null', '-x', 'fifo', dir, unpacked]).toString(), '');
  });
}

test('any cut of the input gives the same tree', async () => {
  const bytes = tar([{ name: './' }, { name: 'dir/' }, { name: `dir/${'n'.repeat(150)}`, data: 'x'.repeat(1500) }, { name: 'b', type: '1', link: `dir/${'n'.repeat(150)}` }]);
  const whole = await importTar(openMemoryStore(), [bytes]);
  await fc.assert(fc.asyncProperty(fc.array(fc.integer({ min: 1, max: bytes.length - 1 }), { maxLength: 6 }), async (cuts) => {
    const places = [0, ...cuts.toSorted((x, y) => x - y), bytes.length];
    const pieces = places.slice(1).map((end, i) => bytes.subarray(places[i], end));
    assert.equal(await importTar(openMemoryStore(), pieces), whole);
  }), { numRuns: 50 });
});

for (const [what, layers, expected] of [
  ['a whiteout removes', [[{ name: 'a', data: '1' }, { name: 'b', data: '2' }], [{ name: '.wh.a' }]], ['b=2']],
  ['a whiteout removes a directory', [[{ name: 'd/' }, { name: 'd/a', data: '1' }], [{ name: '.wh.d' }]], []],
  ['a whiteout spares its own layer, in either order', [[{ name: 'a', data: '1' }], [{ name: 'a', data: '2' }, { name: '.wh.a' }]], ['a=2']],
  ['a whiteout of nothing', [[{ name: 'a', data: '1' }], [{ name: 'x/.wh.y' }]], ['a=1']],
  ['opaque hides older layers only', [[{ name: 'd/' }, { name: 'd/a', data: '1' }, { name: 'd/s/x', data: '1' }], [{ name: 'd/' }, { name: 'd/b', data: '2' }, { name: 'd/.wh..wh..opq' }, { name: 'd/c', data: '3' }]], ['d/', 'd/b=2', 'd/c=3']],
  ['AUFS leftovers are nothing', [[{ name: '.wh..wh.plnk/' }, { name: '.wh..wh.aufs' }, { name: 'a', data: '1' }]], ['a=1']],
  ['a file replaces a directory and back', [[{ name: 'd/' }, { name: 'd/a', data: '1' }], [{ name: 'd', data: '2' }], [{ name: 'd/' }, { name: 'd/b', data: '3' }]], ['d/', 'd/b=3']],
  ['the last of duplicates wins', [[{ name: 'a', data: '1' }, { name: 'a', data: '2' }]], ['a=2']],
  ['a re-listed directory keeps what it holds', [[{ name: 'd/' }, { name: 'd/a', data: '1' }], [{ name: 'd/', mode: 0o700 }]], ['d/', 'd/a=1']],
  ['leading slashes and dots', [[{ name: '/a', data: '1' }, { name: './b', data: '2' }, { name: './/c/./d', data: '3' }]], ['a=1', 'b=2', 'c/', 'c/d=3']],
  ['through a link in a lower layer', [[{ name: 'usr/bin/' }, { name: 'bin', type: '2', link: 'usr/bin' }], [{ name: 'bin/x', data: '1' }, { name: 'bin/.wh.y' }]], ['bin -> usr/bin', 'usr/', 'usr/bin/', 'usr/bin/x=1']],
  ['an absolute link stays inside', [[{ name: 'l', type: '2', link: '/etc' }, { name: 'l/passwd', data: '1' }]], ['etc/', 'etc/passwd=1', 'l -> /etc']],
  ['a link upwards stays inside', [[{ name: 'd/l', type: '2', link: '../../../../x' }, { name: 'd/l/a', data: '1' }]], ['d/', 'd/l -> ../../../../x', 'x/', 'x/a=1']],
  ['a file does not write through a link', [[{ name: 'l', type: '2', link: '/etc/passwd' }, { name: 'l', data: '1' }]], ['l=1']],
  ['a directory replaces a link', [[{ name: 'l', type: '2', link: '/etc' }, { name: 'l/' }, { name: 'l/a', data: '1' }]], ['l/', 'l/a=1']],
  ['a hard link into a lower layer', [[{ name: 'a', data: '1' }], [{ name: 'b', type: '1', link: './a' }]], ['a=1', 'b=1']],
  ['a hard link outlives its target', [[{ name: 'a', data: '1' }, { name: 'b', type: '1', link: 'a' }], [{ name: '.wh.a' }]], ['b=1']],
] as [string, TestMember[][], string[]][]) {
  test(`layers: ${what}`, async () => assert.deepEqual(await apply(...layers), expected));
}

test('links count names, over layers, and are numbered in path order', async () => {
  const store = openMemoryStore();
  const tree = await imageTree(store, [[tar([{ name: 'z', data: '1' }, { name: 'y', type: '1', link: 'z' }, { name: 'x', data: '2' }])], [tar([{ name: 'a', type: '1', link: 'x' }, { name: 'b', type: '1', link: 'z' }])]]);
  const groups = ['a', 'b', 'x', 'y', 'z'].map((name) => at(store, tree, name).meta).map((meta) => [meta?.linkGroup, meta?.links]);
  assert.deepEqual(groups, [[1, 2], [2, 3], [1, 2], [2, 3], [2, 3]]);
  const after = await applyLayer(store, tree, [tar([{ name: 'x', data: 'new' }, { name: '.wh.y' }])]);
  assert.deepEqual(['a', 'b', 'x', 'z'].map((name) => at(store, after, name).meta?.links), [1, 2, 1, 2]);
});

test('one layer after another is the image', async () => {
  const store = openMemoryStore();
  const layers = [tar([{ name: 'd/a', data: '1' }, { name: 'e', type: '1', link: 'd/a' }]), tar([{ name: 'd/.wh.a' }, { name: 'f', type: '1', link: 'e' }])];
  let tree = await importTar(store, [layers[0] ?? Buffer.alloc(0)]);
  tree = await applyLayer(store, tree, [layers[1] ?? Buffer.alloc(0)]);
  assert.equal(tree, await imageTree(store, layers.map((layer) => [layer])));
});

test('a delta written as a layer does what the delta does', async () => {
  const store = openMemoryStore();
  const base = await importTar(store, [tar([{ name: 'a', data: '1' }, { name: 'd/x', data: '2' }, { name: 'o/x', data: '2' }])]);
  const meta = { uid: 0, gid: 0, mtimeNs: 5n, xattrs: [], linkGroup: 0, links: 1 };
  const name = toByteString;
  const inner = store.putTree([{ name: name('y'), kind: 'fifo', mode: 0o600, meta }]);
  const delta = store.putTree([
    { name: name('a'), kind: 'whiteout', mode: 0 },
    { name: name('d'), kind: 'dir', mode: 0o755, meta, digest: inner },
    { name: name('o'), kind: 'dir', mode: 0o755, meta, digest: inner, opaque: true },
  ]);
  const merged = await applyLayer(store, base, writeLayer(store, delta));
  assert.equal(merged, applyDelta(store, base, delta));
  assert.deepEqual(listing(store, merged), ['d/', 'd/x=2', 'd/y fifo', 'o/', 'o/y fifo']);
});

const good = tar([{ name: 'a', data: 'x'.repeat(600) }]);
const flipped = Buffer.from(good);
flipped[0] = 0x62;
for (const [what, bytes] of [
  ['..', tar([{ name: '../a', data: '1' }])],
  ['.. inside', tar([{ name: 'a/../../b', data: '1' }])],
  ['absolute with ..', tar([{ name: '/../a', data: '1' }])],
  ['a hard link with ..', tar([{ name: 'a', type: '1', link: '../../etc/passwd' }])],
  ['a hard link to nothing', tar([{ name: 'a', type: '1', link: 'b' }])],
  ['a hard link to a directory', tar([{ name: 'd/' }, { name: 'a', type: '1', link: 'd' }])],
  ['a hard link to the root', tar([{ name: 'a', type: '1', link: '/' }])],
  ['a whiteout of ..', tar([{ name: '.wh...' }])],
  ['a whiteout of nothing', tar([{ name: 'd/.wh.' }])],
  ['a root that is a file', tar([{ name: '.', data: '1' }])],
  ['below a file', tar([{ name: 'a', data: '1' }, { name: 'a/b', data: '2' }])],
  ['a circle of links', tar([{ name: 'a', type: '2', link: 'b' }, { name: 'b', type: '2', link: 'a' }, { name: 'a/x', data: '1' }])],
  ['a link without target', tar([{ name: 'a', type: '2', link: '' }])],
  ['a name of 300 bytes', tar([{ name: 'n'.repeat(300), data: '1' }])],
  ['a path of 5000 bytes', tar([{ name: 'n/'.repeat(2500), data: '' }])],
  ['an unknown type', tar([{ name: 'a', type: 'Q' }])],
  ['a flipped byte', flipped],
  ['a cut header', good.subarray(0, 100)],
  ['a cut body', good.subarray(0, 700)],
  ['a size that the archive does not hold', tar([{ name: 'a', data: 'x', size: 8 ** 11 - 1 }])],
  ['a size that no file has', tar([{ name: 'a', type: 'x', data: paxRecord('size', '9999999999999999999') }, { name: 'a', data: 'x' }])],
  ['a sparse file of 8 TiB', tar([{ name: 'a', type: 'x', data: paxRecord('GNU.sparse.major', '1') + paxRecord('GNU.sparse.realsize', '8796093022208') }, { name: 'a', data: 'x' }])],
  ['sparse parts that overlap', tar([sparseRecords('0,2,1,2', 9), { name: 'a', data: 'xxxx' }])],
  ['a sparse part behind the end', tar([sparseRecords('8,2', 9), { name: 'a', data: 'xx' }])],
  ['a sparse file with more data than parts', tar([sparseRecords('0,1', 9), { name: 'a', data: 'xx' }])],
  ['a sparse file with fewer data than parts', tar([sparseRecords('0,3', 9), { name: 'a', data: 'xx' }])],
  ['a sparse list that is none', tar([sparseRecords('0,x', 9), { name: 'a', data: 'xx' }])],
  ['a sparse list that ends between two numbers', tar([sparseRecords('0,1,5', 9), { name: 'a', data: 'x' }])],
  ['a sparse directory', tar([sparseRecords('', 9), { name: 'a/' }])],
  ['a sparse file of an unknown format', tar([{ name: 'a', type: 'x', data: paxRecord('GNU.sparse.major', '2') + paxRecord('GNU.sparse.realsize', '9') }, { name: 'a', data: 'x' }])],
  ['a sparse file whose list never ends', tar([{ name: 'a', type: 'x', data: paxRecord('GNU.sparse.major', '1') + paxRecord('GNU.sparse.realsize', '9') }, { name: 'a', data: '3\n0\n1\n' }])],
  ['a sparse file of 10^15 parts', tar([{ name: 'a', type: 'x', data: paxRecord('GNU.sparse.major', '1') + paxRecord('GNU.sparse.realsize', '9') }, { name: 'a', data: `${10 ** 15}\n`.padEnd(512, '1\n') }])],
  ['a device with impossible numbers', tar([{ name: 'a', type: 'x', data: paxRecord('uid', '-5') }, { name: 'a', type: '3' }])],
  ['a hard link over its own way', tar([{ name: 'l', type: '2', link: '/' }, { name: 'l/a', type: '1', link: 'l/../../etc/passwd' }])],
  ['a gigantic PAX header', tar([{ name: 'a', type: 'x', size: 8 ** 10 }])],
  ['a damaged PAX record', tar([{ name: 'a', type: 'x', data: '99 path=x\n' }, { name: 'a', data: '1' }])],
  ['no tar', Buffer.from('<html>'.repeat(200))],
] as const) {
  test(`hostile layer: ${what}`, async () => {
    const store = openMemoryStore();
    await assert.rejects(importTar(store, [bytes], { tempDir: world }), (error: unknown) => error instanceof HdError && error.code === 'LAYER_INVALID');
  });
}

test('links that double the depth end in an error, not in a stack overflow', async () => {
  const members: TestMember[] = [{ name: `${'d/'.repeat(1000)}`, type: '5' }, { name: 's', type: '2', link: 'd/'.repeat(1000) }];
  for (let i = 0; i < 10; i++) members.push({ name: `s/${'d/'.repeat(1000)}`, type: '5' }, { name: 's', type: '2', link: `s${i}` }, { name: `s${i}`, type: '2', link: 'd/'.repeat(2000) });
  await assert.rejects(apply(members), (error: unknown) => error instanceof HdError && error.code === 'LAYER_INVALID');
});

test('random bytes and random damage never do worse than LAYER_INVALID', async () => {
  const sample = tar([{ name: 'dir/' }, { name: `dir/${'n'.repeat(150)}`, data: 'hello' }, { name: 'l', type: '2', link: 'dir' }, { name: 'l/x', data: '1' }, { name: '.wh.y' }]);
  await fc.assert(fc.asyncProperty(fc.array(fc.tuple(fc.nat(sample.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }), fc.boolean(), async (changes, repair) => {
    const bytes = Buffer.from(sample);
    for (const [place, value] of changes) bytes[place] = value;
    if (repair) repairChecksums(bytes);
    await importTar(openMemoryStore(), [bytes], { tempDir: world }).catch((error: unknown) => {
      if (!(error instanceof HdError && error.code === 'LAYER_INVALID')) throw error;
    });
  }), { numRuns: 400 });
});

/** A length that counts itself. */
/** Of the member after it, in format 0.1. */
function sparseRecords(map: string, sizeBytes: number): TestMember {
  return { name: 'p', type: 'x', data: paxRecord('GNU.sparse.size', String(sizeBytes)) + paxRecord('GNU.sparse.map', map) };
}

function paxRecord(key: string, value: string): string {
  const rest = ` ${key}=${value}\n`;
  let length = rest.length + 1;
  while (`${length}${rest}`.length !== length) length++;
  return `${length}${rest}`;
}

for (const [what, pack] of [['gzip', gzipSync], ['zstd', zstdCompressSync]] as const) {
  test(`a decompression bomb in ${what} is named, and takes no room`, async () => {
    const dir = mkdtempSync(join(world, 'bomb-'));
    const file = join(dir, 'layer');
    writeFileSync(file, pack(Buffer.concat([tar([{ name: 'zeros', size: 64 << 20 }]).subarray(0, 512), Buffer.alloc((64 << 20) + 1024)])));
    const store = openMemoryStore();
    await assert.rejects(importTar(store, decompressed(file, { name: 'layer 1', expandedBytesMax: 1 << 20 }), { tempDir: dir }), (error: unknown) => error instanceof HdError && error.code === 'LAYER_INVALID' && /layer 1 is a decompression bomb/.test(error.message));
    assert.deepEqual(readdirSync(dir), ['layer']);
    await importTar(store, decompressed(file, { name: 'layer 1' }), { tempDir: dir });
  });
}

test('duplicate entries: the last one counts, with its kind, mode and links', async () => {
  assert.deepEqual(await apply([{ name: 'a', data: '1' }, { name: 'b', type: '1', link: 'a' }, { name: 'a', type: '2', link: '/etc/shadow' }, { name: 'a', data: '2' }, { name: 'a/', type: '5' }, { name: 'a/x', data: '3' }]), ['a/', 'a/x=3', 'b=1']);
});

test('devices are entries like others: nothing is made on the host', async () => {
  const store = openMemoryStore();
  const tree = await importTar(store, [tar([{ name: 'dev/sda', type: '4' }, { name: 'dev/null', type: '3' }])]);
  assert.deepEqual(listing(store, tree), ['dev/', 'dev/null char', 'dev/sda block']);
});

function repairChecksums(bytes: Buffer): void {
  for (let place = 0; place + 512 <= bytes.length; place += 512) {
    if (bytes.toString('latin1', place + 257, place + 262) !== 'ustar') continue;
    bytes.write('        ', place + 148, 'latin1');
    const sum = bytes.subarray(place, place + 512).reduce((total, byte) => total + byte, 0);
    bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, place + 148, 'latin1');
  }
}
