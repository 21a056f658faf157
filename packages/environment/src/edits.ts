import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { joinBytes } from '@hyperdocker/base';
import type { Store, TreeChange } from '@hyperdocker/cas';
import { TreeBuilder } from '@hyperdocker/cas';

/**
 * `tree` with a project's edits, made at `workdir` (a path in the tree): what a live environment shows while the steps that
 * the edits call for are still running. Reads and writes only the directories on the way to an edit.
 */
export function applyEdits(store: Store, tree: TreeDigest, workdir: ByteString, edits: readonly TreeChange[]): TreeDigest {
  const builder = new TreeBuilder(store, tree);
  for (const edit of edits) {
    const path = joinBytes(workdir, edit.path);
    if (edit.change === 'removed') {
      builder.remove(path);
    } else if (edit.after.kind === 'dir') {
      // Without its digest: what it holds comes as edits of its own.
      const { digest: _contents, ...dir } = edit.after;
      if (builder.get(path) !== undefined && builder.get(path)?.kind !== 'dir') builder.remove(path);
      builder.set(path, dir);
    } else {
      builder.set(path, edit.after);
    }
  }
  return builder.finish();
}
