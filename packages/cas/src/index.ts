export * from './contract.ts';
export { LOOSE_BYTES, openStore, rebuildIndex } from './disk-store.ts';
export type { OpenOptions } from './disk-store.ts';
export { openMemoryStore } from './memory-store.ts';
export { TreeBuilder } from './tree-builder.ts';
export type { BuilderEntry, OpenDirEntry } from './tree-builder.ts';
export { TREE_DOMAIN, decodeTree, encodeTree, isEntryName } from './tree-codec.ts';
export { DEFAULT_DIR_MODE, applyDelta, diffTrees, emptyTree, findEntry, linkGroupFor, lookupPath, sameEntry, setPath, splitPath, walkTree } from './tree-ops.ts';
export type { TreeChange } from './tree-ops.ts';
