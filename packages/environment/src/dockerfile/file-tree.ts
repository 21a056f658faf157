import type { TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { FIXED_MTIME_NS } from '@hyperdocker/mount';

/** Files of these texts, side by side: what COPY finds a here-document in. */
export function fileTree(store: Store, files: readonly { name: string; text: string | Buffer; mode?: number; mtimeNs?: bigint }[]): TreeDigest {
  const byName = new Map(files.map((file) => [file.name, file]));
  return store.putTree([...byName.values()].map(({ name, text, mode = 0o644, mtimeNs = FIXED_MTIME_NS }) => {
    const bytes = Buffer.from(text as string);
    return { kind: 'file', name: toByteString(name), mode, digest: store.putBlob(bytes), size: bytes.length, meta: { uid: 0, gid: 0, mtimeNs, xattrs: [], linkGroup: 0, links: 1 } };
  }));
}
