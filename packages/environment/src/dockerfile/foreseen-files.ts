import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Doubt } from '../predict.ts';

/** Files of a stage, and what is in doubt about them: nothing, but where it is only foreseen what a build would do. */
export interface Files { tree: TreeDigest; doubts: readonly Doubt[] }

export function known(tree: TreeDigest): Files {
  return { tree, doubts: [] };
}

/** Nothing of them is known. */
export function unknownFiles(tree: TreeDigest, doubts: readonly Doubt[] = [{ index: 0, before: tree, after: undefined }]): Files {
  return { tree, doubts: doubts.map(({ index }) => ({ index, before: tree, after: undefined })) };
}

/**
 * Lays files of `from` over those of a stage. What is in doubt about the one is then in doubt about the other; what cannot be laid there because it has yet to be made, is left out.
 */
export async function layFiles(onto: Files, from: Files, lay: (from: TreeDigest) => Promise<TreeDigest> | TreeDigest): Promise<Files> {
  const doubts = [...onto.doubts, ...from.doubts];
  if (doubts.length === 0) return { tree: await lay(from.tree), doubts };
  const ifAny = async (tree: TreeDigest): Promise<TreeDigest | undefined> => {
    try {
      return await lay(tree);
    } catch (error) {
      if (error instanceof HdError) return undefined;
      throw error;
    }
  };
  const tree = await ifAny(from.tree);
  if (tree === undefined) return unknownFiles(onto.tree, doubts);
  const laid: Doubt[] = [];
  for (const { index, before, after } of from.doubts) laid.push({ index, before: (await ifAny(before)) ?? onto.tree, after: after === undefined ? undefined : await ifAny(after) });
  return { tree, doubts: [...onto.doubts, ...laid] };
}
