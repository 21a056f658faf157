import type { ActionDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { Decoder, Encoder, HdError, hasher } from '@hyperdocker/base';
import type { DirEntry, Store, TreeEntry } from '@hyperdocker/cas';
import { diffTrees } from '@hyperdocker/cas';

/**
 * What a step looked at, path by path. A `PathSet` says only *what was asked* of each path; the answers are read from a
 * tree when a key is made. So a path that was asked for and absent needs no kind of its own: in a tree that has it, the
 * same question gets another answer, and the key differs.
 */
export const Asked = {
  /** Is it there, and if so its kind, mode, owner, (of a file or link) size, and which other names are the same inode. */
  stat: 1,
  /** Names and kinds of the entries of a directory. */
  listing: 2,
  /** The bytes of a file. */
  content: 4,
  /** The target of a symbolic link. */
  target: 8,
  xattrs: 16,
} as const;

/** Bits of `Asked`. */
export type AskedMask = number;
export type PathSet = ReadonlyMap<ByteString, AskedMask>;

/** The program that was the first to ask these questions of a path. */
export interface Asker { asked: AskedMask; program: string }
/** Who asked, by path. For explanations alone: it is in no key. A path may lack its askers, or some of them. */
export type Askers = ReadonlyMap<ByteString, readonly Asker[]>;

/** What one run asked, and who did. */
export interface Trace { paths: PathSet; askers: Askers }

/** Collects what one step asks. Paths are relative to the root, physical (no symbolic link is followed in them). */
export class TraceRecorder {
  readonly #asked = new Map<ByteString, AskedMask>();
  readonly #askers = new Map<ByteString, Asker[]>();

  /** @param program names who asks. Called only for what nobody has asked before; undefined when that cannot be told. */
  record(path: ByteString, mask: AskedMask, program?: () => string | undefined): void {
    const known = this.#asked.get(path) ?? 0;
    if ((known | mask) === known) return;
    this.#asked.set(path, known | mask);
    const name = program?.();
    if (name === undefined) return;
    const askers = this.#askers.get(path) ?? [];
    if (askers.length === 0) this.#askers.set(path, askers);
    const last = askers.at(-1);
    if (last?.program === name) last.asked |= mask & ~known;
    else askers.push({ asked: mask & ~known, program: name });
  }

  get askers(): Askers {
    return this.#askers;
  }

  /** Sorted by path. `ignored` names the directories that do not count (cache directories): nothing at or below them does. */
  finish(ignored: readonly ByteString[] = []): PathSet {
    return new Map([...ignoring(this.#asked, ignored)].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }
}

/** The questions of both. */
export function joinPaths(a: PathSet, b: PathSet): PathSet {
  const recorder = new TraceRecorder();
  for (const paths of [a, b]) for (const [path, mask] of paths) recorder.record(path, mask);
  return recorder.finish();
}

/** Without what is at or below the given directories. */
export function ignoring(paths: PathSet, dirs: readonly ByteString[]): PathSet {
  return new Map([...paths].filter(([path]) => !dirs.some((dir) => path === dir || path.startsWith(`${dir}/`))));
}

export function encodePathSet(paths: PathSet): Buffer {
  const encoder = new Encoder('hd.pathset/1').uint(paths.size);
  for (const [path, mask] of paths) encoder.byteString(path).uint(mask);
  return encoder.finish();
}

export function decodePathSet(bytes: Uint8Array): PathSet {
  const decoder = new Decoder(bytes, 'hd.pathset/1');
  const paths = new Map<ByteString, AskedMask>();
  let last: ByteString | undefined;
  for (let count = decoder.uint(); count > 0; count--) {
    const path = decoder.byteString();
    if (last !== undefined && path <= last) throw new HdError('CORRUPT_OBJECT', 'the paths of a path set are not in order');
    paths.set(path, decoder.uint());
    last = path;
  }
  decoder.end();
  return paths;
}

/** A path set as it is stored, for whom asks for few of its paths: nothing else of it is decoded (ten of 5,000 paths each, in a new process: 27 → 8 ms). */
export class StoredPathSet implements Pick<PathSet, 'get' | 'size'> {
  readonly #decoder: Decoder;
  /** Where each path begins, in order. */
  readonly #starts: Uint32Array;

  /** @throws HdError CORRUPT_OBJECT */
  constructor(bytes: Uint8Array) {
    this.#decoder = new Decoder(bytes, 'hd.pathset/1');
    this.#starts = new Uint32Array(this.#decoder.uint());
    for (let i = 0; i < this.#starts.length; i++) {
      this.#starts[i] = this.#decoder.skip();
      this.#decoder.uint();
    }
    this.#decoder.end();
  }

  get size(): number {
    return this.#starts.length;
  }

  get(path: ByteString): AskedMask | undefined {
    let [low, high] = [0, this.#starts.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      this.#decoder.seek(this.#starts[middle] ?? 0);
      const found = this.#decoder.byteString();
      if (found === path) return this.#decoder.uint();
      if (found < path) low = middle + 1;
      else high = middle;
    }
    return undefined;
  }
}

/** Lies beside the path set, whose order it follows: its paths are not repeated. Askers of other paths are left out. */
export function encodeAskers({ paths, askers }: Trace): Buffer {
  const indexes = new Map<string, number>();
  const body = [...paths.keys()].map((path) => (askers.get(path) ?? []).map(({ asked, program }) => {
    const index = indexes.get(program) ?? indexes.size;
    indexes.set(program, index);
    return { asked, index };
  }));
  const encoder = new Encoder('hd.askers/1').uint(indexes.size);
  for (const program of indexes.keys()) encoder.text(program);
  for (const list of body) {
    encoder.uint(list.length);
    for (const { asked, index } of list) encoder.uint(asked).uint(index);
  }
  return encoder.finish();
}

/** @param paths the path set that it was encoded beside. @throws HdError CORRUPT_OBJECT */
export function decodeAskers(bytes: Uint8Array, paths: PathSet): Askers {
  const decoder = new Decoder(bytes, 'hd.askers/1');
  const programs = Array.from({ length: decoder.uint() }, () => decoder.text());
  const askers = new Map<ByteString, Asker[]>();
  for (const path of paths.keys()) {
    const list: Asker[] = [];
    for (let count = decoder.uint(); count > 0; count--) {
      const asked = decoder.uint();
      const program = programs[decoder.uint()];
      if (program === undefined) throw new HdError('CORRUPT_OBJECT', 'askers name a program that is not in their list');
      list.push({ asked, program });
    }
    if (list.length > 0) askers.set(path, list);
  }
  decoder.end();
  return askers;
}

/** The content key: the definition, what was asked, and today's answers. Equal keys mean that the step would do the same again. */
export function contentKey(store: Store, definition: ActionDigest, paths: PathSet, root: TreeDigest): ActionDigest {
  const encoder = new Encoder('hd.content-key/3').digest(definition);
  const walker = new PathWalker(store, root);
  for (const [path, mask] of paths) encodeAnswer(encoder, store, path, mask, walker.find(path));
  return hasher.hash(encoder.finish()) as ActionDigest;
}

/**
 * Is every question answered alike in two trees? Reads only where they differ: 5,000 facts against an edit of one file take as long as against one of none.
 * The same as equal content keys.
 */
export function sameFacts(store: Store, paths: Pick<PathSet, 'get'>, before: TreeDigest, after: TreeDigest): boolean {
  if (before === after) return true;
  const [old, now] = [new PathWalker(store, before), new PathWalker(store, after)];
  const same = (path: ByteString): boolean => {
    const asked = paths.get(path);
    return asked === undefined || answer(store, path, asked, old.find(path)).equals(answer(store, path, asked, now.find(path)));
  };
  // Where all files of a directory have new times, its listing is compared once, not once a file.
  const parents = new Set<ByteString>();
  for (const { path } of diffTrees(store, before, after)) {
    if (!same(path)) return false;
    parents.add(path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString);
  }
  return [...parents].every(same);
}

/** One path whose answers differ between two trees. `changed`: the questions of `asked` that are answered otherwise now. */
export interface Difference { path: ByteString; asked: AskedMask; changed: AskedMask; before: TreeEntry | undefined; after: TreeEntry | undefined }

/** The first question whose answer differs between two trees, for explanations. */
export function firstDifference(store: Store, paths: PathSet, before: TreeDigest, after: TreeDigest): Difference | undefined {
  return differences(store, paths, before, after).next().value ?? undefined;
}

/** All questions whose answers differ between two trees, in path order. Lazy. */
export function* differences(store: Store, paths: PathSet, before: TreeDigest, after: TreeDigest): Generator<Difference, undefined> {
  const [old, now] = [new PathWalker(store, before), new PathWalker(store, after)];
  for (const [path, asked] of paths) {
    const [a, b] = [old.find(path), now.find(path)];
    const differs = (mask: AskedMask): boolean => !answer(store, path, mask, a).equals(answer(store, path, mask, b));
    if (!differs(asked)) continue;
    const changed = Object.values(Asked).filter((bit) => asked & bit && differs(bit)).reduce((mask, bit) => mask | bit, 0);
    yield { path, asked, changed, before: a, after: b };
  }
  return undefined;
}

/** Who asked one of these questions of the path first: the one whose answer tells most is looked for before the others. */
export function askerOf(askers: Askers, path: ByteString, changed: AskedMask): string | undefined {
  const known = askers.get(path) ?? [];
  for (const bit of [Asked.content, Asked.listing, Asked.target, Asked.stat, Asked.xattrs]) {
    const found = changed & bit ? known.find(({ asked }) => asked & bit) : undefined;
    if (found !== undefined) return found.program;
  }
  return undefined;
}

function answer(store: Store, path: ByteString, mask: AskedMask, entry: TreeEntry | undefined): Buffer {
  const encoder = new Encoder('hd.answer/1');
  encodeAnswer(encoder, store, path, mask, entry);
  return encoder.finish();
}

function encodeAnswer(encoder: Encoder, store: Store, path: ByteString, mask: AskedMask, entry: TreeEntry | undefined): void {
  encoder.byteString(path).uint(mask);
  if (entry === undefined) {
    encoder.text('absent');
    return;
  }
  encoder.text(entry.kind);
  // Times are in no answer: a checkout or a touch must run nothing again (docs/decisions/0005-no-times-in-keys.md).
  if (mask & Asked.stat) {
    encoder.uint(entry.mode).uint(entry.meta?.uid ?? 0).uint(entry.meta?.gid ?? 0);
    if (entry.kind === 'file') encoder.uint(entry.size);
    // The size of a link is the length of its target, whoever reads that or not.
    if (entry.kind === 'symlink') encoder.uint(entry.target.length);
    // `test a -ef b` and `cp -a` see which names are one inode.
    if (entry.kind !== 'dir') encoder.uint(entry.meta?.links ?? 1).uint(entry.meta?.linkGroup ?? 0);
    if (entry.kind === 'char' || entry.kind === 'block') encoder.uint(entry.major).uint(entry.minor);
  }
  if (mask & Asked.content && entry.kind === 'file') encoder.digest(entry.digest);
  if (mask & Asked.target && entry.kind === 'symlink') encoder.byteString(entry.target);
  if (mask & Asked.listing && entry.kind === 'dir') {
    const tree = store.getTree(entry.digest);
    encoder.uint(tree.length);
    for (const child of tree) encoder.byteString(child.name).text(child.kind);
  }
  if (mask & Asked.xattrs) {
    const xattrs = entry.meta?.xattrs ?? [];
    encoder.uint(xattrs.length);
    for (const [name, value] of xattrs) encoder.byteString(name).bytes(value);
  }
}

/** Looks paths up in one tree. Sorted input makes the directory of the last look-up the likely parent of the next. */
class PathWalker {
  readonly #store: Store;
  readonly #root: DirEntry;
  readonly #dirs = new Map<ByteString, Map<ByteString, TreeEntry> | undefined>();

  constructor(store: Store, root: TreeDigest) {
    this.#store = store;
    this.#root = { kind: 'dir', name: '' as ByteString, mode: 0o755, digest: root };
  }

  find(path: ByteString): TreeEntry | undefined {
    if (path === '') return this.#root;
    const slash = path.lastIndexOf('/');
    return this.#children(path.slice(0, Math.max(slash, 0)) as ByteString)?.get(path.slice(slash + 1) as ByteString);
  }

  #children(dir: ByteString): Map<ByteString, TreeEntry> | undefined {
    if (this.#dirs.has(dir)) return this.#dirs.get(dir);
    const entry = this.find(dir);
    const children = entry?.kind === 'dir' ? new Map(this.#store.getTree(entry.digest).map((child) => [child.name, child])) : undefined;
    this.#dirs.set(dir, children);
    return children;
  }
}

