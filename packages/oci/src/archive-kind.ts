import { decompressed } from './decompress.ts';
import { TarReader } from './tar-reader.ts';
import type { TarEntry, TarSink } from './tar-reader.ts';

/** `image`: what `docker save` or an OCI exporter wrote. `root`: the files of a root file system. */
export type ArchiveKind = 'image' | 'root';

const DECISIVE = new Set(['manifest.json', 'index.json', 'oci-layout', 'repositories']);
/** What archives of images hold beside these: blobs, layers and configurations under their digests. */
const OF_IMAGES = /^(?:blobs(?:\/.*)?|[0-9a-f]{64}(?:\.json|\.tar|\/.*)?|)$/;

/** Told by the first member that is in only one of the two. @throws HdError LAYER_INVALID */
export async function archiveKind(path: string, name: string, signal?: AbortSignal): Promise<ArchiveKind> {
  const sink = new KindSink();
  const reader = new TarReader(sink);
  for await (const chunk of decompressed(path, { name, signal })) {
    reader.push(chunk);
    if (sink.kind !== undefined) return sink.kind;
  }
  reader.finish();
  return 'root';
}

class KindSink implements TarSink {
  kind: ArchiveKind | undefined;

  entry({ name }: TarEntry): void {
    const path = name.replace(/^(?:\.?\/)+|^\.$/, '').replace(/\/+$/, '');
    if (DECISIVE.has(path)) this.kind ??= 'image';
    else if (!OF_IMAGES.test(path)) this.kind ??= 'root';
  }

  hole(): void {}

  data(): void {}

  end(): void {}
}
