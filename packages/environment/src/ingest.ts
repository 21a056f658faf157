import type { BigIntStats, Stats } from 'node:fs';
import { lstatSync, readdirSync, readlinkSync } from 'node:fs';
import type { BlobDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, assert, fromBuffer, hostPath, isAscii, isErrno, isGone, joinBytes, lstatIfAny, toBuffer, toByteString, toText, unreachable } from '@hyperdocker/base';
import type { Meta, Store, TreeEntry } from '@hyperdocker/cas';
import { FIXED_MTIME_NS } from '@hyperdocker/mount';
import type { Filter } from '@hyperdocker/watch';
import type { DirTrees, Glimpse, Known, KnownFile, KnownLink, KnownStat, LeftOut } from './known-files.ts';
import { KnownDir, UNREAD, outdate, setEntry } from './known-files.ts';
import type { FilePut, Puts } from './put-files.ts';
import { FilesToPut, putOnceMore } from './put-files.ts';
import { StatCache } from './stat-cache.ts';

/** A project's files as they are now. */
export interface Ingested {
  /** The identity: contents, kinds, exec bits and link targets. Owners, umasks and times change nothing here. */
  source: TreeDigest;
  /** The same files with an owner and a time each, for those who look at them in the environment. */
  projected: TreeDigest;
  files: number;
  bytes: number;
  /** How many files were read. The others were known by their stat. */
  hashed: number;
}

/**
 * The file clock may stand still for some milliseconds, so a file written again right after it was hashed can look the
 * same. As git does: what was young when it was hashed is hashed again.
 */
const RACY_NS = 20_000_000n;

/** What trees of new files take, of one thread. */
const TREE_MS_A_FILE = 0.012;

/** Of which each has become an object. */
const MANY_FILES = 5_000;

export interface IngestOptions {
  store: Store;
  /** Where the store is, for threads to help with many new files. Without it there are none. */
  storeDir?: string;
  projectDir: string;
  filter: Filter;
  /** (path, inode, size, times) → digest, and the trees of directories. A cache: may be deleted. */
  statCacheFile: string;
  owner: { uid: number; gid: number };
}

/**
 * Keeps a project's files in the store, and knows what it has seen: of what has not changed since it reads, encodes and stores nothing.
 * Callers hold a lease from before a call until refs hold what it returned, both trees.
 */
export class Ingest {
  readonly #options: IngestOptions;
  readonly #cache: StatCache;
  readonly #view: string;
  #root: KnownDir = new KnownDir(undefined, true);
  /** The filter's decisions are not those of this filter, or the last pass has come to no end. */
  #redecide = false;
  #incomplete = true;

  constructor(options: IngestOptions) {
    const { filter, owner } = options;
    this.#options = options;
    this.#view = JSON.stringify([filter.key, owner.uid, owner.gid]);
    this.#cache = new StatCache(options.statCacheFile);
    const loaded = this.#cache.load();
    if (loaded === undefined || !this.#isKept(loaded)) return;
    this.#root = loaded.root;
    this.#redecide = loaded.view !== this.#view;
    if (this.#redecide) forgetTrees(this.#root);
  }

  /** Looks at every file; reads those whose stat is not known. @throws HdError PROJECT_UNREADABLE */
  scan(): Ingested {
    return this.#run((pass) => pass.directory(this.#root, '' as ByteString, this.#options.projectDir));
  }

  /**
   * Looks only at `paths` and what is below them. Comes to what `scan` would if nothing else has changed since the last call.
   * @param paths relative to the project, as text; they may be gone, new, or unchanged
   * @throws HdError PROJECT_UNREADABLE
   */
  update(paths: Iterable<string>): Ingested {
    if (this.#incomplete || this.#redecide) return this.scan();
    // What is above comes first: what is below it has then been seen.
    const names = [...paths].map((path) => toByteString(path).split('/').filter((name) => name !== '') as ByteString[]).sort((a, b) => a.length - b.length);
    return this.#run((pass) => names.forEach((path) => pass.path(this.#root, path)));
  }

  /** As it comes from the disk, what is known of a file takes a fifth of the memory. */
  #compact(): void {
    const loaded = this.#cache.load();
    if (loaded?.view === this.#view && this.#isKept(loaded)) this.#root = loaded.root;
  }

  /** What is known may have been collected since: then nothing is. */
  #isKept(trees: { source: TreeDigest; projected: TreeDigest } | undefined): boolean {
    const { store } = this.#options;
    return trees === undefined || (store.hasTree(trees.source) && store.hasTree(trees.projected));
  }

  #run(look: (pass: Pass) => void): Ingested {
    if (!this.#isKept(this.#root.trees)) this.#root = new KnownDir(undefined, true);
    using pass = new Pass(this.#options, this.#redecide);
    this.#incomplete = true;
    look(pass);
    const trees = new TreeMaker(this.#options);
    pass.read(() => void trees.makeReady(this.#root));
    const { source, projected, files, bytes } = trees.finish(this.#root);
    // The cache never speaks of what a power cut could still take out of the store.
    this.#options.store.flush();
    const stored = { root: this.#root, view: this.#view, source, projected };
    if (this.#redecide) this.#cache.save(stored);
    else if (pass.changed.size > 0) this.#cache.append(pass.changed, stored);
    this.#redecide = false;
    this.#incomplete = false;
    if (pass.hashed > MANY_FILES) this.#compact();
    return { source, projected, files, bytes, hashed: pass.hashed };
  }
}

/** Where something is. `index`: its place in its directory. */
interface Place { dir: KnownDir; index: number; name: ByteString; path: ByteString; host: string | Buffer }
interface ToRead { place: Place; seen: Seen; before: KnownFile | undefined }
/** What is kept of a `BigIntStats`, which is ten times as large. */
interface Seen extends KnownStat { executable: boolean; size: number; mtimeNs: bigint; youngestNs: bigint }
type Found = Known | 'to read' | 'gone';

const QUIETLY = { throwIfNoEntry: false } as const;
const KIND_BITS = 0o170000;
const DIRECTORY = 0o040000;
const REGULAR = 0o100000;
const LINK = 0o120000;

/** One look at the host's files. What has to be read is collected; threads may read it meanwhile. */
class Pass {
  readonly #options: IngestOptions;
  readonly #redecide: boolean;
  readonly #startedNs = BigInt(Date.now()) * 1_000_000n;
  readonly #toRead: ToRead[] = [];
  readonly #puts: FilesToPut;
  readonly #walked = new Set<KnownDir>();
  /** Directories of which something is known that the cache does not have. */
  readonly changed = new Set<KnownDir>();
  hashed = 0;

  constructor(options: IngestOptions, redecide: boolean) {
    this.#options = options;
    this.#redecide = redecide;
    this.#puts = new FilesToPut(options.store, options.storeDir);
  }

  [Symbol.dispose](): void {
    this.#puts[Symbol.dispose]();
  }

  /** Compares a directory and all below it. */
  directory(dir: KnownDir, path: ByteString, host: string | Buffer): void {
    this.#walked.add(dir);
    const listed = this.#list(path, host);
    const inOrder = dir.hasNames(listed);
    const present = inOrder ? undefined : new Map(dir.names.map((name, index) => [name, dir.nodes[index]]));
    // From the first difference on, both lists are made anew.
    let changed: { names: ByteString[]; nodes: Known[] } | undefined = inOrder ? undefined : { names: [], nodes: [] };
    for (let index = 0; index < listed.length; index++) {
      const name = listed[index] as ByteString;
      const here = joinHost(host, name);
      const glimpse = present === undefined ? dir.glimpse(index) : present.get(name);
      const still = this.#isStill(glimpse, here);
      if (still && glimpse?.kind === 'dir') this.directory(glimpse, joinBytes(path, name), here);
      if (still && changed === undefined) continue;
      const before = present === undefined ? dir.nodes[index] : present.get(name);
      const found = still && before !== undefined ? before : this.#look({ dir, index: changed?.nodes.length ?? index, name, path: joinBytes(path, name), host: here }, before);
      const node = found === 'to read' ? (fileOf(before) ?? UNREAD) : found;
      if (changed === undefined && node === before) continue;
      changed ??= { names: listed.slice(0, index), nodes: dir.nodes.slice(0, index) };
      if (node === 'gone') continue;
      changed.names.push(name);
      changed.nodes.push(node);
    }
    if (changed === undefined) return;
    dir.set(changed.names, changed.nodes);
    this.#outdate(dir);
  }

  /** Compares one path: the way to it, and what is there now. */
  path(root: KnownDir, names: readonly ByteString[]): void {
    const { projectDir } = this.#options;
    if (names.length === 0) return this.directory(root, '' as ByteString, projectDir);
    let dir = root;
    let path = '' as ByteString;
    for (const [depth, name] of names.entries()) {
      if (this.#walked.has(dir)) return;
      path = joinBytes(path, name);
      const host = hostPath(projectDir, path);
      const known = dir.nodes[dir.names.indexOf(name)];
      if (depth === names.length - 1 || known?.kind !== 'dir' || !isDirectory(lstatOrNothing(host))) return this.#replace(dir, name, path, host, known);
      dir = known;
    }
  }

  /**
   * Reads what was found to be new.
   * @param ahead what can be done with what is read already, while threads read the last @throws HdError PROJECT_UNREADABLE
   */
  read(ahead: () => void): void {
    const startedNs = BigInt(Date.now()) * 1_000_000n;
    const taken: Puts = [];
    const take = (index: number, put: FilePut | undefined): void => {
      taken[index] = put;
      this.#take(this.#toRead[index]!, put, startedNs);
    };
    // Of files that were there before, trees with what they were would be made.
    const canGoAhead = this.#toRead.every(({ before }) => before === undefined);
    const puts = this.#puts.finish(!canGoAhead ? undefined : {
      ms: this.#toRead.length * TREE_MS_A_FILE,
      work: (soFar) => {
        soFar.forEach((put, index) => void (put !== undefined && take(index, put)));
        ahead();
      },
    });
    for (const [index, { place }] of this.#toRead.entries()) {
      const [put, before] = [puts[index] ?? this.#put(place), taken[index]];
      if (put !== undefined) this.hashed++;
      if (before === undefined || put?.digest !== before.digest || put.size !== before.size) take(index, put);
    }
  }

  #take({ place, seen, before }: ToRead, put: FilePut | undefined, startedNs: bigint): void {
    const file = put === undefined ? undefined : describeFile(seen, put, before, startedNs);
    if (file !== undefined && before !== undefined && sameEntry(before, file)) this.changed.add(place.dir);
    else this.#outdate(place.dir);
    this.#set(place, file);
  }

  #isStill(known: Glimpse | undefined, host: string | Buffer): boolean {
    if (known === undefined || this.#redecide) return false;
    const stats = lstatOrNothing(host);
    return stats !== undefined && isStill(known, stats);
  }

  #look(place: Place, before: Known | undefined): Found {
    const stats = lstatIfAny(place.host);
    return stats === undefined ? 'gone' : this.#decide(place, before, stats);
  }

  /** For what is new, or may have to be seen otherwise than before. */
  #decide(place: Place, before: Known | undefined, stats: BigIntStats): Found {
    const { filter } = this.#options;
    const path = toText(place.path);
    const kind = Number(stats.mode) & KIND_BITS;
    const { included } = filter.decide(path, kind === DIRECTORY);
    if (kind === DIRECTORY) return included || filter.mayContain(path) ? this.#enter(place, before, included) : leftOut('directory', before);
    if (kind !== REGULAR && kind !== LINK) return leftOut('special', before); // sockets, pipes and devices of the host mean nothing elsewhere
    if (!included) return leftOut('file', before);
    if (kind === LINK) return this.#link(place, stats);
    const seen = describe(stats);
    if (before?.kind === 'file' && before.trusted && sameStat(before, seen) && before.size === seen.size && before.executable === seen.executable) return before;
    this.#toRead.push({ place, seen, before: fileOf(before) });
    this.#puts.add({ host: place.host, size: seen.size });
    return 'to read';
  }

  #enter({ dir, path, host }: Place, before: Known | undefined, included: boolean): KnownDir {
    const child = before?.kind === 'dir' ? before : new KnownDir(dir, included);
    if (child !== before) this.changed.add(child);
    if (child.included !== included) {
      child.included = included;
      this.#outdate(dir);
    }
    this.directory(child, path, host);
    return child;
  }

  #link({ host }: Place, stats: BigIntStats): KnownLink | 'gone' {
    let target: ByteString;
    try {
      target = fromBuffer(readlinkSync(host, { encoding: 'buffer' }));
    } catch (error) {
      if (isGone(error) || isErrno(error, 'EINVAL')) return 'gone';
      throw error;
    }
    const seen = describe(stats);
    return { kind: 'link', ino: seen.ino, mtimeMs: seen.mtimeMs, ctimeMs: seen.ctimeMs, target, trusted: isOld(seen, this.#startedNs) };
  }

  #replace(dir: KnownDir, name: ByteString, path: ByteString, host: string | Buffer, known: Known | undefined): void {
    const index = dir.names.indexOf(name);
    const place = { dir, index: index < 0 ? dir.names.length : index, name, path, host };
    const still = this.#isStill(known, host);
    if (still && known?.kind === 'dir') return this.directory(known, path, host);
    const found = still && known !== undefined ? known : this.#look(place, known);
    const node = found === 'to read' ? (fileOf(known) ?? UNREAD) : found;
    if (node === known || (node === 'gone' && known === undefined)) return;
    setEntry(dir, name, node === 'gone' ? undefined : node);
    this.#outdate(dir);
  }

  #set(place: Place, node: Known | undefined): void {
    const { dir, index, name } = place;
    if (node !== undefined && dir.names[index] === name) dir.replace(index, node);
    else setEntry(dir, name, node);
  }

  /** Undefined: gone, or turned into something else, since it was looked at. */
  #put({ path, host }: Place): FilePut | undefined {
    return putOnceMore(this.#options.store, host, (cause) => new HdError('PROJECT_UNREADABLE', `cannot read ${toText(path)}`, { cause, hint: UNREADABLE_HINT }));
  }

  #list(path: ByteString, host: string | Buffer): ByteString[] {
    try {
      return readdirSync(host, 'latin1') as ByteString[];
    } catch (cause) {
      if (isGone(cause) && path !== '') return [];
      throw new HdError('PROJECT_UNREADABLE', `cannot list ${toText(path) || this.#options.projectDir}`, { cause, hint: UNREADABLE_HINT });
    }
  }

  #outdate(dir: KnownDir): void {
    this.changed.add(dir);
    outdate(dir);
  }
}

/** Makes the trees of directories that have none. */
class TreeMaker {
  readonly #options: IngestOptions;
  /** A directory's own time would change with every file in it; a fixed one keeps equal directories equal. */
  readonly #fixedMeta: Meta;

  constructor(options: IngestOptions) {
    this.#options = options;
    this.#fixedMeta = { ...options.owner, mtimeNs: FIXED_MTIME_NS, xattrs: [], linkGroup: 0, links: 1 };
  }

  /** Those of directories all of whose files are known by now. */
  makeReady(dir: KnownDir): DirTrees | undefined {
    if (dir.trees !== undefined) return dir.trees;
    let isReady = true;
    for (const node of dir.nodes) {
      if (node.kind === 'unread' || (node.kind === 'dir' && this.makeReady(node) === undefined)) isReady = false;
    }
    return isReady ? this.finish(dir) : undefined;
  }

  finish(dir: KnownDir): DirTrees {
    if (dir.trees !== undefined) return dir.trees;
    const source: TreeEntry[] = [];
    const projected: TreeEntry[] = [];
    let [files, bytes] = [0, 0];
    for (const [index, node] of dir.nodes.entries()) {
      const name = dir.names[index] as ByteString;
      assert(node.kind !== 'unread', 'everything is read before trees are made');
      if (node.kind === 'left-out') continue;
      if (node.kind === 'dir') {
        const trees = this.finish(node);
        if (!node.included && trees.empty) continue;
        files += trees.files;
        bytes += trees.bytes;
        source.push({ kind: 'dir', name, mode: 0o755, digest: trees.source });
        projected.push({ kind: 'dir', name, mode: 0o755, digest: trees.projected, meta: this.#fixedMeta });
      } else if (node.kind === 'link') {
        source.push({ kind: 'symlink', name, mode: 0o777, target: node.target });
        projected.push({ kind: 'symlink', name, mode: 0o777, target: node.target, meta: this.#fixedMeta });
      } else {
        const mode = node.executable ? 0o755 : 0o644;
        files++;
        bytes += node.size;
        source.push({ kind: 'file', name, mode, digest: node.digest, size: node.size });
        projected.push({ kind: 'file', name, mode, digest: node.digest, size: node.size, meta: { ...this.#fixedMeta, mtimeNs: node.shownMtimeNs } });
      }
    }
    const { store } = this.#options;
    return (dir.trees = { source: store.putTree(source), projected: store.putTree(projected), empty: source.length === 0, files, bytes });
  }
}

const UNREADABLE_HINT = 'exclude it with [files] exclude, or fix its permissions';

function isStill(known: Glimpse, stats: Stats): boolean {
  const kind = stats.mode & KIND_BITS;
  switch (known.kind) {
    case 'file':
      return kind === REGULAR && known.trusted && known.size === stats.size && known.executable === ((stats.mode & 0o111) !== 0) && sameStat(known, stats);
    case 'link':
      return kind === LINK && known.trusted && sameStat(known, stats);
    case 'dir':
      return kind === DIRECTORY;
    case 'left-out':
      return known.what === (kind === DIRECTORY ? 'directory' : kind === REGULAR || kind === LINK ? 'file' : 'special');
    case 'unread':
      return false;
    default:
      return unreachable(known);
  }
}

function leftOut(what: LeftOut['what'], before: Known | undefined): LeftOut {
  return before?.kind === 'left-out' && before.what === what ? before : { kind: 'left-out', what };
}

function fileOf(known: Known | undefined): KnownFile | undefined {
  return known?.kind === 'file' ? known : undefined;
}

function describeFile(seen: Seen, { digest, size }: FilePut, before: KnownFile | undefined, startedNs: bigint): KnownFile {
  const { ino, mtimeMs, ctimeMs, executable, mtimeNs } = seen;
  const shownMtimeNs = shownMtime(before, digest, mtimeNs, startedNs);
  return { kind: 'file', ino, mtimeMs, ctimeMs, executable, size, digest, shownMtimeNs, trusted: size === seen.size && isOld(seen, startedNs) };
}

function describe({ ino, mode, size, mtimeNs, ctimeNs }: BigIntStats): Seen {
  return {
    ino: Number(ino), mtimeMs: statMs(mtimeNs), ctimeMs: statMs(ctimeNs), size: Number(size), executable: (Number(mode) & 0o111) !== 0, mtimeNs,
    youngestNs: mtimeNs > ctimeNs ? mtimeNs : ctimeNs,
  };
}

/** Nanoseconds as the `mtimeMs` of a `Stats` tells them, bit for bit. */
export function statMs(ns: bigint): number {
  const rest = ((ns % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return Number((ns - rest) / 1_000_000_000n) * 1_000 + Number(rest) / 1_000_000;
}

function sameStat(a: KnownStat, b: KnownStat): boolean {
  return a.ino === b.ino && a.mtimeMs === b.mtimeMs && a.ctimeMs === b.ctimeMs;
}

/** Do both look the same in a tree? */
function sameEntry(a: KnownFile, b: KnownFile): boolean {
  return a.digest === b.digest && a.executable === b.executable && a.shownMtimeNs === b.shownMtimeNs;
}

function isOld({ youngestNs }: Seen, nowNs: bigint): boolean {
  return youngestNs + RACY_NS < nowNs;
}

function forgetTrees(dir: KnownDir): void {
  dir.trees = undefined;
  for (const node of dir.nodes) if (node.kind === 'dir') forgetTrees(node);
}

function joinHost(dir: string | Buffer, name: ByteString): string | Buffer {
  if (typeof dir === 'string' && isAscii(name)) return `${dir}/${name}`;
  return Buffer.concat([typeof dir === 'string' ? Buffer.from(`${dir}/`, 'utf8') : Buffer.concat([dir, Buffer.from('/')]), toBuffer(name)]);
}

/** As `lstatIfAny`, with numbers. */
function lstatOrNothing(host: string | Buffer): Stats | undefined {
  try {
    return lstatSync(host, QUIETLY);
  } catch (error) {
    if (isGone(error)) return undefined;
    throw error;
  }
}

function isDirectory(stats: Stats | undefined): boolean {
  return stats !== undefined && (stats.mode & KIND_BITS) === DIRECTORY;
}

/**
 * The time that tools inside see. It changes when the content does, always forwards (so that `make` and `cargo` rebuild
 * after a return to an older version too), and stays when the content stays, whatever the host's file says.
 */
function shownMtime(before: KnownFile | undefined, digest: BlobDigest, mtimeNs: bigint, nowNs: bigint): bigint {
  if (before === undefined) return mtimeNs;
  if (before.digest === digest) return before.shownMtimeNs;
  if (mtimeNs > before.shownMtimeNs) return mtimeNs;
  return nowNs > before.shownMtimeNs ? nowNs : before.shownMtimeNs + 1n;
}
