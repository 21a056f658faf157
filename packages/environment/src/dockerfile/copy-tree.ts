import { posix } from 'node:path';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, toByteString, toText } from '@hyperdocker/base';
import type { Meta, Store, TreeEntry } from '@hyperdocker/cas';
import { TreeBuilder, applyDelta, emptyTree, linkGroupFor, lookupPath, walkTree } from '@hyperdocker/cas';
import type { IgnoreMatch, IgnoreMatcher } from '@hyperdocker/frontend';
import { hasWildcard, ignoreMatcher } from '@hyperdocker/frontend';
import { FIXED_MTIME_NS } from '@hyperdocker/mount';
import { changeMode } from './file-mode.ts';
import type { LookUp } from './tree-paths.ts';
import { followLinks, lookUpIn, matchingPaths, split } from './tree-paths.ts';

export interface Owner { uid: number; gid: number }

export interface CopyOptions {
  /** For all that is copied, and for directories that are made on the way. */
  owner?: Owner;
  /** As of `chmod`: octal, or `u+x,go-w`. */
  mode?: string;
  exclude?: readonly string[];
  /** Keep the directories that lead to a source; those before `/./` are not kept. */
  parents?: boolean;
  /** As a layer of its own: what is there is not looked at, links in the destination are not followed. */
  link?: boolean;
}

/**
 * COPY as BuildKit does it: into `destination` where that is a directory or ends with `/`, else under that name; of a directory only what it holds; directories merge, and all
 * else replaces what is there, but for a directory, which nothing else replaces.
 * @param sources paths and patterns in `from` @throws HdError COPY_FAILED
 */
export function copyInto(store: Store, tree: TreeDigest, from: TreeDigest, sources: readonly string[], destination: string, options: CopyOptions = {}): TreeDigest {
  const target = new CopyTarget(store, options.link === true ? emptyTree(store) : tree, options);
  for (const source of sources) {
    const paths = matchingPaths(store, from, source);
    for (const path of paths) target.copy(from, path, source, destination);
  }
  const copied = target.finish();
  return options.link === true ? applyDelta(store, tree, copied) : copied;
}

/** Lays a whole tree into a directory: what `ADD` of an archive does. */
export function extractInto(store: Store, tree: TreeDigest, archive: TreeDigest, destination: string, options: CopyOptions): TreeDigest {
  const target = new CopyTarget(store, tree, options);
  target.merge(archive, destination);
  return target.finish();
}

/** A directory, with those above it, where they are missing. @throws HdError COPY_FAILED where something else is in the way */
export function makeDirectory(store: Store, tree: TreeDigest, path: string, owner: Owner | undefined): TreeDigest {
  const target = new CopyTarget(store, tree, owner === undefined ? {} : { owner });
  target.directory(target.follow(path));
  return target.finish();
}

const ROOT: Owner = { uid: 0, gid: 0 };

class CopyTarget {
  readonly #store: Store;
  readonly #builder: TreeBuilder;
  readonly #options: CopyOptions;
  readonly #exclude: IgnoreMatcher | undefined;
  readonly #lookUp: LookUp;
  readonly #linkFree = new Set<TreeDigest>();

  constructor(store: Store, tree: TreeDigest, options: CopyOptions) {
    this.#store = store;
    this.#builder = new TreeBuilder(store, tree);
    this.#options = options;
    this.#exclude = options.exclude === undefined || options.exclude.length === 0 ? undefined : ignoreMatcher(options.exclude);
    this.#lookUp = (path) => this.#builder.get(path);
  }

  finish(): TreeDigest {
    return this.#builder.finish();
  }

  follow(path: string): ByteString {
    return followLinks(this.#lookUp, toByteString(path.replace(/^\/+/, '')));
  }

  /** @param path in `from`, of one match of `source` */
  copy(from: TreeDigest, path: ByteString, source: string, destination: string): void {
    const real = followLinks(lookUpIn(this.#store, from), path);
    const entry = real === '' ? rootEntry(from) : lookupPath(this.#store, from, real);
    if (entry === undefined) throw failed(`/${toText(path)} is not there`, hasWildcard(source) ? 'the link leads to nothing' : 'it may be in .dockerignore; paths are relative to the build context');
    if (this.#options.parents === true) return this.#copyWithParents(from, path, entry, source, destination);
    const base = this.follow(destination);
    // A final slash makes a directory of what is not there yet; else the directory above is made.
    this.directory(destination.endsWith('/') ? base : parentOf(base));
    const isThere = base === '' ? 'dir' : this.#builder.get(base)?.kind;
    if (entry.kind === 'dir') {
      this.directory(base);
      return this.#contents(entry.digest, base, undefined, '' as ByteString);
    }
    const target = isThere === 'dir' ? joined(base, nameOf(path)) : base;
    if (this.#isExcluded(nameOf(path), path)) return;
    this.#place(entry, target, this.#links([entry], target));
  }

  /** Directories merge with what is there and take over its mode, owner and time. */
  merge(tree: TreeDigest, destination: string): void {
    const base = this.follow(destination);
    this.directory(base);
    this.#contents(tree, base, undefined, '' as ByteString);
  }

  directory(path: ByteString): void {
    const names = split(path);
    for (const depth of names.keys()) {
      const here = names.slice(0, depth + 1).join('/') as ByteString;
      const present = this.#builder.get(here);
      if (present === undefined) this.#builder.set(here, { kind: 'dir', mode: 0o755, meta: metaOf(this.#options.owner ?? ROOT) });
      else if (present.kind !== 'dir') throw failed(`/${toText(here)} is there, and is no directory`);
    }
  }

  #copyWithParents(from: TreeDigest, path: ByteString, entry: TreeEntry, source: string, destination: string): void {
    const pivot = source.lastIndexOf('/./');
    const skipped = pivot < 0 ? 0 : split(source.slice(0, pivot)).length;
    const names = split(path);
    const base = this.follow(destination);
    this.directory(base);
    let target = base;
    for (const depth of names.keys()) {
      if (depth < skipped || depth === names.length - 1) continue;
      const above = lookupPath(this.#store, from, names.slice(0, depth + 1).join('/') as ByteString);
      target = joined(target, names[depth] as ByteString);
      if (this.#builder.get(target) === undefined && above?.kind === 'dir') this.#builder.set(target, { kind: 'dir', mode: this.#mode(above), meta: this.#meta(above.meta) });
      else this.directory(target);
    }
    if (names.length > skipped) target = joined(target, names.at(-1) as ByteString);
    if (this.#isExcluded(nameOf(path), path)) return;
    if (entry.kind === 'dir') {
      if (target !== '') this.#openDirectory(entry, target);
      return this.#contents(entry.digest, target, undefined, '' as ByteString);
    }
    this.#place(entry, target, this.#links([entry], target));
  }

  #contents(tree: TreeDigest, base: ByteString, above: IgnoreMatch | undefined, relative: ByteString): void {
    this.#children(tree, base, above, relative, this.#linksOf(tree, base));
  }

  #children(tree: TreeDigest, base: ByteString, above: IgnoreMatch | undefined, relative: ByteString, links: Links): void {
    for (const entry of this.#store.getTree(tree)) {
      const [path, target] = [joined(relative, entry.name), joined(base, entry.name)];
      const match = this.#exclude?.match(toText(path), above);
      if (match?.ignored === true && (entry.kind !== 'dir' || this.#exclude?.hasExceptions === false)) continue;
      if (entry.kind !== 'dir') this.#place(entry, target, links);
      else if (this.#isPlain(entry.digest, target)) this.#builder.set(target, { ...entry, mode: entry.mode, meta: entry.meta ?? metaOf(ROOT) });
      else {
        if (match?.ignored !== true) this.#openDirectory(entry, target);
        this.#children(entry.digest, target, match, path, links);
      }
    }
  }

  /** Nothing of it is to be changed, and nothing is there: it can be taken as it is. */
  #isPlain(tree: TreeDigest, target: ByteString): boolean {
    const { owner, mode } = this.#options;
    return owner === undefined && mode === undefined && this.#exclude === undefined && this.#builder.get(target) === undefined && this.#hasNoLinks(tree);
  }

  #hasNoLinks(tree: TreeDigest): boolean {
    if (this.#linkFree.has(tree)) return true;
    const isFree = this.#store.getTree(tree).every((entry) => (entry.meta?.linkGroup ?? 0) === 0 && (entry.kind !== 'dir' || this.#hasNoLinks(entry.digest)));
    if (isFree) this.#linkFree.add(tree);
    return isFree;
  }

  #openDirectory(entry: Extract<TreeEntry, { kind: 'dir' }>, target: ByteString): void {
    const present = this.#builder.get(target);
    if (present !== undefined && present.kind !== 'dir') throw failed(`/${toText(target)} is there, and is no directory: a directory cannot be copied over it`);
    this.#builder.set(target, { kind: 'dir', mode: this.#mode(entry), meta: this.#meta(entry.meta) });
  }

  #place(entry: TreeEntry, target: ByteString, links: Links): void {
    if (target === '') throw failed('a file cannot take the place of /');
    if (this.#builder.get(target)?.kind === 'dir') throw failed(`/${toText(target)} is a directory: a file cannot be copied over it`, 'name it with a final "/" to copy into it');
    const linked = links.get(entry.meta?.linkGroup ?? 0);
    this.#builder.set(target, { ...entry, mode: entry.kind === 'symlink' ? entry.mode : this.#mode(entry), meta: { ...this.#meta(entry.meta), linkGroup: linked?.group ?? 0, links: linked?.count ?? 1 } } as TreeEntry);
  }

  #mode(entry: TreeEntry): number {
    return this.#options.mode === undefined ? entry.mode : changeMode(entry.mode, this.#options.mode, entry.kind === 'dir');
  }

  #meta(meta: Meta | undefined): Meta {
    return { ...(meta ?? metaOf(ROOT)), ...this.#options.owner, linkGroup: 0, links: 1 };
  }

  #isExcluded(name: ByteString, path: ByteString): boolean {
    return this.#exclude !== undefined && [name, path].some((text) => this.#exclude?.match(toText(text)).ignored === true);
  }

  #links(entries: Iterable<TreeEntry>, first: ByteString): Links {
    const counts = new Map<number, { count: number; content: string }>();
    for (const { meta, ...entry } of entries) {
      const group = meta?.linkGroup ?? 0;
      if (group === 0) continue;
      counts.set(group, { count: (counts.get(group)?.count ?? 0) + 1, content: 'digest' in entry ? entry.digest : '' });
    }
    // Only what is linked within the copy stays linked; its number must be no stranger's.
    return new Map([...counts].filter(([, { count }]) => count > 1).map(([group, { count, content }]) => [group, { count, group: linkGroupFor(`${first}\0${group}` as ByteString, content) }]));
  }

  #linksOf(tree: TreeDigest, base: ByteString): Links {
    if (this.#hasNoLinks(tree)) return new Map();
    return this.#links([...walkTree(this.#store, tree)].map(({ entry }) => entry), base);
  }
}

/** Hard links of the source → in the copy. */
type Links = ReadonlyMap<number, { group: number; count: number }>;


function rootEntry(digest: TreeDigest): TreeEntry {
  return { kind: 'dir', name: '' as ByteString, mode: 0o755, digest };
}

function metaOf({ uid, gid }: Owner): Meta {
  return { uid, gid, mtimeNs: FIXED_MTIME_NS, xattrs: [], linkGroup: 0, links: 1 };
}

function joined(parent: ByteString, name: ByteString): ByteString {
  return (parent === '' ? name : `${parent}/${name}`) as ByteString;
}

function parentOf(path: ByteString): ByteString {
  return path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString;
}

function nameOf(path: ByteString): ByteString {
  return posix.basename(path) as ByteString;
}

function failed(what: string, hint?: string): HdError {
  return new HdError('COPY_FAILED', what, hint === undefined ? {} : { hint });
}
