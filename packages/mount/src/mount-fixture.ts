import { lstatSync, readFileSync, readdirSync, readlinkSync } from 'node:fs';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { fromBuffer, hasher, hostPath, joinBytes, sys } from '@hyperdocker/base';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { walkTree } from '@hyperdocker/cas';
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
