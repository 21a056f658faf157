import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Encoder, HdError, hasher } from '@hyperdocker/base';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import type { Meta, Tree, TreeEntry } from './contract.ts';
import { TREE_DOMAIN, decodeTree, encodeTree } from './tree-codec.ts';

const BLOB = '11'.repeat(32) as BlobDigest;
const TREE = '22'.repeat(32) as TreeDigest;
const bytes = (text: string): ByteString => text as ByteString;
const META: Meta = { uid: 1000, gid: 100, mtimeNs: 1_700_000_000_123_456_789n, xattrs: [[bytes('user.a'), Buffer.from([0, 255])]], linkGroup: 7, links: 2 };

const EVERY_KIND: Tree = [
  { name: bytes('block'), kind: 'block', mode: 0o660, major: 8, minor: 1 },
  { name: bytes('char'), kind: 'char', mode: 0o666, major: 1, minor: 3, meta: { ...META, linkGroup: 0, links: 1, xattrs: [] } },
  { name: bytes('dir'), kind: 'dir', mode: 0o1777, digest: TREE },
  { name: bytes('dir.opaque'), kind: 'dir', mode: 0o755, digest: TREE, opaque: true },
  { name: bytes('fifo'), kind: 'fifo', mode: 0o600 },
  { name: bytes('file'), kind: 'file', mode: 0o644, digest: BLOB, size: 2 ** 40, meta: META },
  { name: bytes('gone'), kind: 'whiteout', mode: 0 },
  { name: bytes('link'), kind: 'symlink', mode: 0o777, target: bytes('../a\xff') },
  { name: bytes('socket'), kind: 'socket', mode: 0o755, meta: { ...META, mtimeNs: -5n, linkGroup: 0, links: 1 } },
  { name: bytes('\xff\xfe not UTF-8'), kind: 'file', mode: 0o755, digest: BLOB, size: 0 },
];

/** These must never change: every stored tree is named by them. */
const GOLDEN: [what: string, tree: Tree, digest: string][] = [
  ['the empty tree', [], '765bca3690edc97c1570c3038181c8fd7748deb88ff60f154e89547687bed9ea'],
  ['one source file', [{ name: bytes('a'), kind: 'file', mode: 0o644, digest: BLOB, size: 3 }], 'b193182536705525ed46d00cfc227b9ddea6a771d3dae5328d727809b6dcc9e4'],
  ['every kind', EVERY_KIND, '070eb5b33bbef38e7644bc1fcaeb6fbc919284a4dbdbb75d5df0250e48ffbcda'],
];
for (const [what, tree, digest] of GOLDEN) {
  test(`golden digest: ${what}`, () => assert.equal(hasher.hash(encodeTree(tree)), digest));
}

test('a tree comes back as it was', () => {
  assert.deepEqual(decodeTree(encodeTree(EVERY_KIND)), EVERY_KIND);
});

test('order of the input and what has no meaning do not change the encoding', () => {
  assert.deepEqual(encodeTree(EVERY_KIND.toReversed()), encodeTree(EVERY_KIND));
  const unlinked = (links: number): Tree => [{ name: bytes('f'), kind: 'fifo', mode: 0, meta: { ...META, linkGroup: 0, links } }];
  assert.deepEqual(encodeTree(unlinked(0)), encodeTree(unlinked(1)));
  assert.deepEqual(encodeTree([{ name: bytes('w'), kind: 'whiteout', mode: 0o644 }]), encodeTree([{ name: bytes('w'), kind: 'whiteout', mode: 0 }]));
});

const fifo = (name: string, more: Partial<TreeEntry> = {}): TreeEntry => ({ name: bytes(name), kind: 'fifo', mode: 0o600, ...more }) as TreeEntry;
for (const [what, tree] of [
  ['an empty name', [fifo('')]],
  ['.', [fifo('.')]],
  ['..', [fifo('..')]],
  ['a slash', [fifo('a/b')]],
  ['NUL', [fifo('a\0')]],
  ['a name twice', [fifo('a'), fifo('a')]],
  ['a kind in the mode', [fifo('a', { mode: 0o100644 })]],
  ['an attribute of overlayfs', [fifo('a', { meta: { ...META, xattrs: [[bytes('trusted.overlay.opaque'), Buffer.from('y')]] } })]],
  ['attributes out of order', [fifo('a', { meta: { ...META, xattrs: [[bytes('user.b'), Buffer.alloc(0)], [bytes('user.a'), Buffer.alloc(0)]] } })]],
] as [string, Tree][]) {
  test(`encoding asserts against ${what}`, () => assert.throws(() => encodeTree(tree), { name: 'AssertionFailure' }));
}

/** A tree of one fifo, with parts replaced. */
function raw(parts: { domain?: string; count?: number; name?: string; kind?: number; mode?: number; flags?: number; tail?: (encoder: Encoder) => void }): Buffer {
  const encoder = new Encoder(parts.domain ?? TREE_DOMAIN).uint(parts.count ?? 1);
  encoder.byteString(bytes(parts.name ?? 'a')).uint(parts.kind ?? 6).uint(parts.mode ?? 0o600).uint(parts.flags ?? 0);
  parts.tail?.(encoder);
  return encoder.finish();
}
const second = (name: string) => (encoder: Encoder) => void encoder.byteString(bytes(name)).uint(6).uint(0).uint(0);
const meta = (fill: (encoder: Encoder) => Encoder) => ({ flags: 1, tail: (encoder: Encoder) => void fill(encoder) });

const REJECTED: [what: string, encoded: Buffer][] = [
  ['nothing', Buffer.alloc(0)],
  ['another domain', raw({ domain: 'hd.tree/2' })],
  ['more entries than it holds', raw({ count: 2 })],
  ['absurdly many entries', raw({ count: 2 ** 40 })],
  ['fewer entries than it holds', raw({ count: 0 })],
  ['bytes after the end', Buffer.concat([raw({}), Buffer.of(0)])],
  ['a count in a longer form', Buffer.concat([new Encoder(TREE_DOMAIN).finish(), Buffer.of(0x80, 0)])],
  ['an empty name', raw({ name: '' })],
  ['.', raw({ name: '.' })],
  ['..', raw({ name: '..' })],
  ['a slash', raw({ name: 'a/b' })],
  ['NUL', raw({ name: 'a\0b' })],
  ['names out of order', raw({ count: 2, name: 'b', tail: second('a') })],
  ['a name twice', raw({ count: 2, tail: second('a') })],
  ['kind 0', raw({ kind: 0 })],
  ['an unknown kind', raw({ kind: 9 })],
  ['mode over 0o7777', raw({ mode: 0o10000 })],
  ['unknown flags', raw({ flags: 4 })],
  ['flags beyond 32 bits', raw({ flags: 2 ** 32 })],
  ['an opaque fifo', raw({ flags: 2 })],
  ['a whiteout with a mode', raw({ kind: 8, mode: 0o600 })],
  ['a whiteout with meta', raw({ kind: 8, mode: 0, ...meta((e) => e.uint(0).uint(0).uint(0).uint(0).uint(0)) })],
  ['a file without its digest', raw({ kind: 1 })],
  ['a cut digest', raw({ kind: 2, tail: (e) => void e.uint(1) })],
  ['a link to nothing', raw({ kind: 3, tail: (e) => void e.bytes(Buffer.alloc(0)) })],
  ['a link target with NUL', raw({ kind: 3, tail: (e) => void e.bytes(Buffer.of(0)) })],
  ['a device number over 32 bits', raw({ kind: 4, tail: (e) => void e.uint(2 ** 32).uint(0) })],
  ['meta that ends early', raw(meta((e) => e.uint(0)))],
  ['an owner over 32 bits', raw(meta((e) => e.uint(2 ** 32).uint(0).uint(0).uint(0).uint(0)))],
  ['a link group of no links', raw(meta((e) => e.uint(0).uint(0).uint(0).uint(1).uint(0).uint(0)))],
  ['an attribute twice', raw(meta((e) => e.uint(0).uint(0).uint(0).uint(0).uint(2).byteString(bytes('user.a')).uint(0).byteString(bytes('user.a')).uint(0)))],
  ['an attribute of overlayfs', raw(meta((e) => e.uint(0).uint(0).uint(0).uint(0).uint(1).byteString(bytes('trusted.overlay.x')).uint(0)))],
];
for (const [what, encoded] of REJECTED) {
  test(`decoding refuses ${what}`, () => {
    assert.throws(() => decodeTree(encoded), (error: unknown) => error instanceof HdError && error.code === 'CORRUPT_OBJECT');
  });
}
