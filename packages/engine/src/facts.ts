import type { ActionDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { Decoder, Encoder, HdError, hasher } from '@hyperdocker/base';
import type { DirEntry, Store, TreeEntry } from '@hyperdocker/cas';

/**
 * What a step looked at, path by path. A `PathSet` says only *what was asked* of each path; the answers are read from a
 * tree when a key is made. So a path that was asked for and absent needs no kind of its own: in a tree that has it, the
 * same question gets another answer, and the key differs.
 */
export const Asked = {
  /** Is it there, and if so its kind, mode, owner and (of a file) size and link count. */
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

/** Collects what one step asks. Paths are relative to the root, physical (no symbolic link is followed in them). */
export class TraceRecorder {
  readonly #asked = new Map<ByteString, AskedMask>();

  record(path: ByteString, mask: AskedMask): void {
    const known = this.#asked.get(path) ?? 0;
    if ((known | mask) !== known) this.#asked.set(path, known | mask);
  }

  /** Sorted by path. `ignored` names the directories that do not count (cache directories): nothing at or below them does. */
  finish(ignored: readonly ByteString[] = []): PathSet {
    return new Map([...ignoring(this.#asked, ignored)].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)));
  }
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

/** The content key: the definition, what was asked, and today's answers. Equal keys mean that the step would do the same again. */
export function contentKey(store: Store, definition: ActionDigest, paths: PathSet, root: TreeDigest): ActionDigest {
  const encoder = new Encoder('hd.content-key/1').digest(definition);
  const walker = new PathWalker(store, root);
  for (const [path, mask] of paths) encodeAnswer(encoder, store, path, mask, walker.find(path));
  return hasher.hash(encoder.finish()) as ActionDigest;
}

/** The first question whose answer differs between two trees, for explanations. */
export function firstDifference(store: Store, paths: PathSet, before: TreeDigest, after: TreeDigest): { path: ByteString; asked: AskedMask; before: TreeEntry | undefined; after: TreeEntry | undefined } | undefined {
  const [old, now] = [new PathWalker(store, before), new PathWalker(store, after)];
  for (const [path, asked] of paths) {
    const [a, b] = [old.find(path), now.find(path)];
    if (!answer(store, path, asked, a).equals(answer(store, path, asked, b))) return { path, asked, before: a, after: b };
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
    if (entry.kind === 'file') encoder.uint(entry.size).uint(entry.meta?.links ?? 1);
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

