import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { joinBytes, toText } from '@hyperdocker/base';
import type { Store, TreeEntry } from '@hyperdocker/cas';
import { emptyTree, findEntry, lookupPath, setPath } from '@hyperdocker/cas';
import { createMatcher } from '@hyperdocker/watch';

/**
 * A tree as a step with `inputs` sees it: without the project's files that no pattern matches, and without the directories that are empty for it.
 * What an earlier step has made or changed stays.
 * @param at where in the tree the project lies
 * @param project the project's files, as they were laid there
 * @param inputs globs, relative to the project
 */
export function visibleTree(store: Store, tree: TreeDigest, at: ByteString, project: TreeDigest, inputs: readonly string[]): TreeDigest {
  const top: TreeEntry | undefined = at === '' ? { kind: 'dir', name: at, mode: 0o755, digest: tree } : lookupPath(store, tree, at);
  if (top?.kind !== 'dir') return tree;
  const matches = createMatcher(inputs);
  const digest = hide(store, top.digest, project, '' as ByteString, (path) => matches(toText(path))) ?? emptyTree(store);
  return at === '' ? digest : setPath(store, tree, at, { ...top, digest });
}

/** Undefined when nothing is left. */
function hide(store: Store, now: TreeDigest, project: TreeDigest, path: ByteString, matches: (path: ByteString) => boolean): TreeDigest | undefined {
  const own = store.getTree(project);
  const left = store.getTree(now).flatMap((entry): TreeEntry[] => {
    const laid = findEntry(own, entry.name);
    if (laid === undefined) return [entry];
    const child = joinBytes(path, entry.name);
    if (entry.kind === 'dir' && laid.kind === 'dir') {
      const digest = hide(store, entry.digest, laid.digest, child, matches);
      return digest === undefined && !matches(child) ? [] : [{ ...entry, digest: digest ?? emptyTree(store) }];
    }
    return sameContent(entry, laid) && !matches(child) ? [] : [entry];
  });
  return left.length === 0 ? undefined : store.putTree(left);
}

/** Owner and times aside: a step that only touched a file has not made it. */
function sameContent(a: TreeEntry, b: TreeEntry): boolean {
  if (a.kind === 'file' && b.kind === 'file') return a.digest === b.digest && a.mode === b.mode;
  return a.kind === 'symlink' && b.kind === 'symlink' && a.target === b.target;
}
