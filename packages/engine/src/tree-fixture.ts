import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { BuilderEntry, Meta, Store } from '@hyperdocker/cas';
import { TreeBuilder } from '@hyperdocker/cas';

/** For tests: a tree from paths. Text is a file of mode 0o644. */
export function treeOf(store: Store, entries: Record<string, string | BuilderEntry>): TreeDigest {
  return edit(store, undefined, entries);
}

/** `base` with some paths set; `undefined` removes one. */
export function edit(store: Store, base: TreeDigest | undefined, entries: Record<string, string | BuilderEntry | undefined>): TreeDigest {
  const builder = new TreeBuilder(store, base);
  for (const [path, entry] of Object.entries(entries)) {
    if (entry === undefined) builder.remove(at(path));
    else builder.set(at(path), typeof entry === 'string' ? file(store, entry) : entry);
  }
  return builder.finish();
}

export function file(store: Store, text: string, mode = 0o644, meta?: Partial<Meta>): BuilderEntry {
  const bytes = Buffer.from(text);
  return { kind: 'file', mode, digest: store.putBlob(bytes), size: bytes.length, ...(meta === undefined ? {} : { meta: metaOf(meta) }) };
}

export function metaOf(meta: Partial<Meta>): Meta {
  return { uid: 0, gid: 0, mtimeNs: 0n, xattrs: [], linkGroup: 0, links: 1, ...meta };
}

export const at = (path: string): ByteString => toByteString(path);
