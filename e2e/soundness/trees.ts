import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { hasher, toText } from '@hyperdocker/base';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { encodeTree, walkTree } from '@hyperdocker/cas';

/** Directories of the root that hold the programs and that no step writes to. */
export const PROGRAMS: ReadonlySet<string> = new Set(['bin', 'lib64']);

/**
 * Digests of trees without their times, which two runs never share (docs/decisions/0005-no-times-in-keys.md). All else counts: names, kinds, contents, modes,
 * owners, attributes, link targets, who is hard-linked with whom, whiteouts and opaque marks.
 */
export class TimelessTrees {
  readonly #store: Store;
  readonly #known = new Map<TreeDigest, TreeDigest>();

  constructor(store: Store) {
    this.#store = store;
  }

  digest(tree: TreeDigest): TreeDigest {
    const known = this.#known.get(tree);
    if (known !== undefined) return known;
    const entries = this.#store.getTree(tree).map((entry) => {
      const timeless = withoutTime(entry);
      return timeless.kind === 'dir' ? { ...timeless, digest: this.digest(timeless.digest) } : timeless;
    });
    const digest = hasher.hash(encodeTree(entries)) as TreeDigest;
    this.#known.set(tree, digest);
    return digest;
  }

  /**
   * The digest of a whole tree, where of hard links it counts who is linked with whom, and not the numbers in which trees write that down. Without the
   * programs, which would take most of the time.
   */
  plainDigest(tree: TreeDigest): string {
    const touched = this.#store.putTree(this.#store.getTree(tree).filter(({ name }) => !PROGRAMS.has(name)));
    const entries = [...walkTree(this.#store, touched)];
    const groups = new Map<number, ByteString[]>();
    for (const { path, entry } of entries) groups.set(groupOf(entry), [...(groups.get(groupOf(entry)) ?? []), path]);
    const lines = entries.map(({ path, entry }) => `${path} ${describe(entry, false)} ${groupOf(entry) === 0 ? path : groups.get(groupOf(entry))?.join()}`);
    return hasher.hash(Buffer.from(lines.join('\n'), 'latin1'));
  }

  /** Line by line: `-` only or so in the first, `+` in the second. */
  difference(first: TreeDigest, second: TreeDigest): string[] {
    const [a, b] = [this.#lines(first), this.#lines(second)];
    return [...new Set([...a.keys(), ...b.keys()])].sort().flatMap((path) => {
      const [before, after] = [a.get(path), b.get(path)];
      if (before === after) return [];
      return [...(before === undefined ? [] : [`- /${toText(path)} ${before}`]), ...(after === undefined ? [] : [`+ /${toText(path)} ${after}`])];
    });
  }

  #lines(tree: TreeDigest): Map<ByteString, string> {
    return new Map([...walkTree(this.#store, tree)].map(({ path, entry }) => [path, describe(entry)]));
  }
}

function withoutTime(entry: TreeEntry): TreeEntry {
  return entry.meta === undefined ? entry : { ...entry, meta: { ...entry.meta, mtimeNs: 0n } };
}

function groupOf(entry: TreeEntry): number {
  return entry.meta?.linkGroup ?? 0;
}

function describe(entry: TreeEntry, withLinks = true): string {
  const { meta } = entry;
  const special = entry.kind === 'file' ? `${entry.size} bytes ${entry.digest.slice(0, 12)}` : entry.kind === 'symlink' ? `→ ${toText(entry.target)}` : entry.kind === 'dir' && entry.opaque === true ? 'opaque' : '';
  const xattrs = (meta?.xattrs ?? []).map(([name, value]) => `${name}=${Buffer.from(value).toString('hex')}`).join(',');
  const links = withLinks && groupOf(entry) !== 0 ? ` group ${groupOf(entry)} of ${meta?.links}` : '';
  return `${entry.kind} ${entry.mode.toString(8)} ${meta?.uid ?? 0}:${meta?.gid ?? 0} ${special}${links}${xattrs === '' ? '' : ` [${xattrs}]`}`;
}
