import { availableParallelism } from 'node:os';
import { chmodSync, closeSync, existsSync, ftruncateSync, lchownSync, linkSync, mkdirSync, openSync, renameSync, rmSync, symlinkSync, writeFileSync, writeSync } from 'node:fs';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { Gang, HdError, assert, hostPath, joinBytes, sys, toBuffer, unreachable } from '@hyperdocker/base';
import type { DirEntry, EntryKind, FileEntry, Store, TreeEntry } from '@hyperdocker/cas';
import { FIXED_MTIME_NS } from './projection.ts';

/**
 * A tree as real files, for machines without FUSE. The directory is named by the tree's digest and never written to again,
 * so it is made once and may be the lower of any number of overlays. A half-made one is never visible under its name.
 * @param storeDir where the store is, for threads to help with large trees; without it nobody does
 */
export function materialize(store: Store, tree: TreeDigest, cacheDir: string, storeDir?: string): string {
  const target = `${cacheDir}/${tree}`;
  if (existsSync(target)) return target;
  const partial = `${target}.${process.pid}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial, { recursive: true, mode: 0o755 });
  try {
    materializeInto(store, partial, layOut(store, '' as ByteString, tree), storeDir === undefined ? undefined : { storeDir, tree });
  } catch (error) {
    // What could be read is no part of anything, and may be what fills the disk.
    rmSync(partial, { recursive: true, force: true });
    throw error;
  }
  chmodSync(partial, 0o755); // whatever the umask is
  sys().setTimes(partial, FIXED_MTIME_NS, FIXED_MTIME_NS);
  try {
    renameSync(partial, target);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    if (!existsSync(target)) throw new HdError('MATERIALIZE', `cannot make ${target}`, { cause: error });
  }
  return target;
}

/** Writes one entry at `path` below `dir`, replacing nothing: the caller has removed what was there. */
export function materializeEntry(store: Store, dir: string, path: ByteString, entry: TreeEntry): void {
  const layout = emptyLayout();
  addEntry(store, layout, path, entry);
  materializeInto(store, dir, layout);
}

/** Below this, threads would start for work that is done before they are there. */
const MIN_SHARED_BYTES = 8 << 20;
const MIN_SHARED_FILES = 500;
const MAX_THREADS = 8;
const UNIT_BYTES = 1 << 20;
const UNIT_FILES = 128;
/** Larger files are written in parts. */
const WHOLE_BYTES = 1 << 20;
/** Zeros of this length and alignment become holes in files that are written in parts. */
const HOLE_BYTES = 64 << 10;
const ZEROS = Buffer.alloc(HOLE_BYTES);

interface Placed<E extends TreeEntry = TreeEntry> { path: ByteString; entry: E }
interface Unit { bytes: number; files: Placed<FileEntry>[] }
/** What is to be made, by the order in which it can be. */
export interface Layout {
  directories: Placed<DirEntry>[];
  others: Placed<Exclude<TreeEntry, FileEntry | DirEntry>>[];
  units: Unit[];
  links: { path: ByteString; to: ByteString }[];
  /** The first name of each group of hard links. */
  linked: Map<number, ByteString>;
  files: number;
  bytes: number;
}

/** What the helpers are told. */
export interface MaterializeWork { storeDir: string; tree: TreeDigest; dir: string }

/** The same for everyone who lays out the same tree. */
export function layOut(store: Store, path: ByteString, tree: TreeDigest): Layout {
  const layout = emptyLayout();
  for (const entry of store.getTree(tree)) addEntry(store, layout, joinBytes(path, entry.name), entry);
  // A large one that comes last would be waited for by all.
  layout.units.sort((a, b) => (a.bytes < 2 * UNIT_BYTES && b.bytes < 2 * UNIT_BYTES ? 0 : b.bytes - a.bytes));
  return layout;
}

/** Of a helper and of the caller alike. `replace`: something may be there. */
export function writeUnit(store: Store, dir: string, { units }: Layout, unit: number, replace = false): void {
  for (const { path, entry } of units[unit]?.files ?? []) {
    const host = hostPath(dir, path);
    if (replace) rmSync(host, { force: true });
    writeBlob(store, host, entry);
    setMetadata(host, entry);
  }
}

function emptyLayout(): Layout {
  return { directories: [], others: [], units: [], links: [], linked: new Map(), files: 0, bytes: 0 };
}

function addEntry(store: Store, layout: Layout, path: ByteString, entry: TreeEntry): void {
  if (entry.kind === 'dir') {
    layout.directories.push({ path, entry });
    for (const child of store.getTree(entry.digest)) addEntry(store, layout, joinBytes(path, child.name), child);
  } else if (entry.kind === 'file') addFile(layout, path, entry);
  else layout.others.push({ path, entry });
}

function addFile(layout: Layout, path: ByteString, entry: FileEntry): void {
  const group = entry.meta?.linkGroup ?? 0;
  const first = group === 0 ? undefined : layout.linked.get(group);
  if (first !== undefined) {
    layout.links.push({ path, to: first });
    return;
  }
  if (group !== 0) layout.linked.set(group, path);
  let unit = layout.units.at(-1);
  if (unit === undefined || unit.bytes >= UNIT_BYTES || unit.files.length >= UNIT_FILES) layout.units.push((unit = { bytes: 0, files: [] }));
  unit.files.push({ path, entry });
  unit.bytes += entry.size;
  layout.files++;
  layout.bytes += entry.size;
}

function materializeInto(store: Store, dir: string, layout: Layout, shared?: { storeDir: string; tree: TreeDigest }): void {
  for (const { path } of layout.directories) mkdirSync(hostPath(dir, path), { mode: 0o700 });
  const gang = shared === undefined ? undefined : startHelpers(store, dir, layout, shared);
  if (gang === undefined) for (const unit of layout.units.keys()) writeUnit(store, dir, layout, unit);
  else gang.finish((unit, again) => writeUnit(store, dir, layout, unit, again));
  for (const { path, to } of layout.links) linkSync(hostPath(dir, to), hostPath(dir, path));
  for (const { path, entry } of layout.others) writeOther(hostPath(dir, path), entry);
  // What is in a directory changes its time, and its mode may not let it be changed.
  for (const { path, entry } of layout.directories.toReversed()) setMetadata(hostPath(dir, path), entry);
}

/** Undefined: it is not worth it. */
function startHelpers(store: Store, dir: string, layout: Layout, { storeDir, tree }: { storeDir: string; tree: TreeDigest }): Gang<number, void> | undefined {
  const workers = Math.min(availableParallelism(), MAX_THREADS, layout.units.length) - 1;
  if (workers < 1 || (layout.bytes < MIN_SHARED_BYTES && layout.files < MIN_SHARED_FILES)) return undefined;
  store.flush();
  const work: MaterializeWork = { storeDir, tree, dir };
  const gang = new Gang<number, void>(new URL('./materialize-worker.ts', import.meta.url), { work });
  for (const unit of layout.units.keys()) gang.give(unit);
  while (gang.workers < workers) gang.hire();
  return gang;
}

const KIND_BITS: Partial<Record<EntryKind, number>> = { char: 0o020000, block: 0o060000, fifo: 0o010000, socket: 0o140000 };

function writeOther(host: string | Buffer, entry: Exclude<TreeEntry, FileEntry | DirEntry>): void {
  switch (entry.kind) {
    case 'symlink':
      symlinkSync(toBuffer(entry.target), host);
      break;
    case 'char':
    case 'block':
      sys().makeNode(host, (KIND_BITS[entry.kind] ?? 0) | entry.mode, entry.major, entry.minor);
      break;
    case 'fifo':
    case 'socket':
      sys().makeNode(host, (KIND_BITS[entry.kind] ?? 0) | entry.mode, 0, 0);
      break;
    case 'whiteout':
      return assert(false, 'a whole tree has no whiteouts');
    default:
      unreachable(entry);
  }
  setMetadata(host, entry);
}

function writeBlob(store: Store, host: string | Buffer, { digest, size }: FileEntry): void {
  if (size <= WHOLE_BYTES) return writeFileSync(host, store.getBlob(digest), { flag: 'wx' });
  const fd = openSync(host, 'wx');
  try {
    let offset = 0;
    for (const part of store.streamBlob(digest)) {
      writePart(fd, part, offset);
      offset += part.length;
    }
    ftruncateSync(fd, size);
  } finally {
    closeSync(fd);
  }
}

/** In one write, but for holes. */
function writePart(fd: number, part: Buffer, offset: number): void {
  let from = 0;
  const write = (end: number): void => {
    while (from < end) from += writeSync(fd, part, from, end - from, offset + from);
  };
  for (let at = 0; at + HOLE_BYTES <= part.length; at += HOLE_BYTES) {
    if (part[at] !== 0 || part.compare(ZEROS, 0, HOLE_BYTES, at, at + HOLE_BYTES) !== 0) continue;
    write(at);
    from = at + HOLE_BYTES;
  }
  write(part.length);
}

/** Owner first: changing it clears the set-uid bits. Times last: everything else changes them. */
export function setMetadata(host: string | Buffer, entry: TreeEntry): void {
  const meta = entry.meta;
  if (meta !== undefined) lchownSync(host, meta.uid, meta.gid);
  if (entry.kind !== 'symlink') chmodSync(host, entry.mode);
  for (const [name, value] of meta?.xattrs ?? []) sys().setXattr(host, name, value);
  const mtimeNs = meta?.mtimeNs ?? FIXED_MTIME_NS;
  sys().setTimes(host, mtimeNs, mtimeNs);
}
