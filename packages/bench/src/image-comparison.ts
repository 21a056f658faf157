import { toText } from '@hyperdocker/base';
import type { Store, TreeChange, TreeEntry } from '@hyperdocker/cas';
import { diffTrees } from '@hyperdocker/cas';
import { findListed, listImages } from '@hyperdocker/environment';

export interface ImageDifferences {
  /** Paths, with what differs: kind, mode, owner, attributes, content, link target. */
  files: string[];
  /** Of files that were copied, and not written by a command: times. */
  times: string[];
  /** Fields of the configuration, as `field: first ≠ second`. */
  config: string[];
}

/** Two images of one store, by their names. @param sinceMs what is younger was written by the builds themselves, and has their times @throws HdError IMAGE_UNKNOWN */
export function compareImages(store: Store, first: string, second: string, sinceMs: number): ImageDifferences {
  const images = listImages(store);
  const [a, b] = [findListed(images, first), findListed(images, second)];
  const differences: ImageDifferences = { files: [], times: [], config: differentFields(a.document['config'], b.document['config']) };
  const changes = [...diffTrees(store, a.tree, b.tree)].filter((change) => !isMountPoint(store, change));
  for (const change of changes) compareEntry(change, sinceMs, differences);
  return differences;
}

/** BuildKit's runtime makes them where a base has none, and they stay in the image. */
function isMountPoint(store: Store, change: TreeChange): boolean {
  return change.change === 'added' && ['dev', 'proc', 'sys'].includes(change.path) && change.after.kind === 'dir' && store.getTree(change.after.digest).length === 0;
}

function compareEntry(change: TreeChange, sinceMs: number, { files, times }: ImageDifferences): void {
  const path = `/${toText(change.path)}`;
  if (change.change === 'added') files.push(`${path} is only in the second`);
  else if (change.change === 'removed') files.push(`${path} is only in the first`);
  else {
    const [before, after] = [describe(change.before), describe(change.after)];
    const names = Object.keys(before).filter((name) => before[name] !== after[name]);
    for (const name of names) files.push(`${path}: ${name} ${before[name] ?? ''} ≠ ${after[name] ?? ''}`);
    const [a, b] = [mtimeMs(change.before), mtimeMs(change.after)];
    if (names.length === 0 && change.before.kind === 'file' && a !== b && (a < sinceMs || b < sinceMs)) times.push(`${path}: ${new Date(a).toISOString()} ≠ ${new Date(b).toISOString()}`);
  }
}

function describe(entry: TreeEntry): Record<string, string> {
  const { kind, mode, meta } = entry;
  const content = entry.kind === 'file' ? entry.digest.slice(0, 12) : entry.kind === 'symlink' ? toText(entry.target) : '';
  return { kind, mode: mode.toString(8), owner: `${meta?.uid ?? 0}:${meta?.gid ?? 0}`, attributes: (meta?.xattrs ?? []).map(([name]) => name).join(','), names: String(meta?.links ?? 1), content };
}

/** Archives have whole seconds. */
function mtimeMs({ meta }: TreeEntry): number {
  return Number((meta?.mtimeNs ?? 0n) / 1_000_000_000n) * 1000;
}

function differentFields(first: unknown, second: unknown): string[] {
  const [a, b] = [normalised(first), normalised(second)];
  const names = [...new Set([...Object.keys(a), ...Object.keys(b)])].sort();
  return names.filter((name) => JSON.stringify(a[name]) !== JSON.stringify(b[name])).map((name) => `${name}: ${JSON.stringify(a[name]) ?? 'nothing'} ≠ ${JSON.stringify(b[name]) ?? 'nothing'}`);
}

/** What says nothing is nothing; objects have their fields in order. */
function normalised(config: unknown): Record<string, unknown> {
  const sorted = (value: unknown): unknown => (typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, item]) => [name, sorted(item)])) : value);
  // `ArgsEscaped` is for Windows, where Docker 20.10 alone sets it elsewhere, too.
  const isEmpty = (value: unknown): boolean => value === null || value === '' || value === false || (typeof value === 'object' && Object.keys(value).length === 0);
  return Object.fromEntries(Object.entries((config ?? {}) as object).filter(([name, value]) => !isEmpty(value) && name !== 'ArgsEscaped').map(([name, value]) => [name, sorted(value)]));
}
