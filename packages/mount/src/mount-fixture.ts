import { lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { fromBuffer, hasher, hostPath, joinBytes, sys, toByteString } from '@hyperdocker/base';
import type { BuilderEntry, Meta, Store, TreeEntry } from '@hyperdocker/cas';
import { PROMOTE_BYTES, TreeBuilder, walkTree } from '@hyperdocker/cas';
import { FIXED_MTIME_NS } from './projection.ts';

/** What anybody can see of each path, in words. Link counts are left out: overlays count by layer. */
export type Seen = Map<ByteString, string>;

/** Every path below a directory of the host. */
export function seenOnHost(dir: string): Seen {
  const seen: Seen = new Map();
  const visit = (path: ByteString): void => {
    for (const name of readdirSync(hostPath(dir, path), { encoding: 'buffer' }).map(fromBuffer).sort()) {
      const child = joinBytes(path, name);
      seen.set(child, hostEntry(hostPath(dir, child)));
      if (lstatSync(hostPath(dir, child)).isDirectory()) visit(child);
    }
  };
  visit('' as ByteString);
  return seen;
}

/** The same words for what a tree says. */
export function seenInTree(store: Store, tree: TreeDigest): Seen {
  return new Map([...walkTree(store, tree)].map(({ path, entry }) => [path, treeEntry(entry)]));
}

function hostEntry(path: string | Buffer): string {
  const stats = lstatSync(path, { bigint: true });
  const xattrs = sys().listXattrs(path).sort().map((name) => `${name}=${sys().getXattr(path, name)?.toString('hex')}`);
  const kind = stats.isFile() ? 'file' : stats.isDirectory() ? 'dir' : stats.isSymbolicLink() ? 'symlink' : stats.isFIFO() ? 'fifo' : stats.isSocket() ? 'socket' : stats.isCharacterDevice() ? 'char' : 'block';
  const rdev = stats.rdev;
  const device = kind === 'char' || kind === 'block' ? `${(rdev >> 8n) & 0xfffn}:${(rdev & 0xffn) | ((rdev >> 12n) & 0xfff00n)}` : '';
  const target = kind === 'symlink' ? fromBuffer(readlinkSync(path, { encoding: 'buffer' })) : '';
  const content = kind === 'file' ? `${stats.size} ${hasher.hash(readFileSync(path))}` : '';
  return words(kind, Number(stats.mode & 0o7777n), Number(stats.uid), Number(stats.gid), stats.mtimeNs, xattrs, device || target || content);
}

function treeEntry(entry: TreeEntry): string {
  const meta = entry.meta;
  const xattrs = (meta?.xattrs ?? []).map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`);
  const special = entry.kind === 'file' ? `${entry.size} ${entry.digest}` : entry.kind === 'symlink' ? entry.target : entry.kind === 'char' || entry.kind === 'block' ? `${entry.major}:${entry.minor}` : '';
  return words(entry.kind, entry.mode, meta?.uid ?? 0, meta?.gid ?? 0, meta?.mtimeNs ?? FIXED_MTIME_NS, xattrs, special);
}

function words(kind: string, mode: number, uid: number, gid: number, mtimeNs: bigint, xattrs: string[], special: string): string {
  return `${kind} ${mode.toString(8)} ${uid}:${gid} ${mtimeNs} [${xattrs.join(' ')}] ${special}`;
}

export function metaOf(meta: Partial<Meta>): Meta {
  return { uid: 0, gid: 0, mtimeNs: 1_700_000_000_123_456_789n, xattrs: [], linkGroup: 0, links: 1, ...meta };
}

/** One of everything. */
export function strangeTree(store: Store): TreeDigest {
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
export function workTree(store: Store): TreeDigest {
  const tree = new TreeBuilder(store);
  const file = (path: string, meta: Partial<Meta> = {}, text = `of ${path}`): void =>
    tree.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: Buffer.byteLength(text), meta: metaOf(meta) });
  for (const dir of ['', 'd1/', 'd2/', 'd3/', 'd4/', 'd5/', 'd6/', 'd1/sub/', 'd4/sub/', 'd4/sub/deep/', 'd6/sub/', 'untouched/']) for (let i = 1; i <= 4; i++) file(`${dir}f${i}`);
  for (const path of ['hard-a', 'hard-b', 'd2/hard-c']) file(path, { linkGroup: 5, links: 3 }, 'linked');
  tree.set(toByteString('link'), { kind: 'symlink', mode: 0o777, target: toByteString('d1'), meta: metaOf({}) });
  file('d1/ü\n');
  return tree.finish();
}
