import type { ListedImage } from '@hyperdocker/environment';
import { isNamed } from '@hyperdocker/environment';

/** What `--json` says of an image. */
export interface ImageEntry {
  name: string;
  /** `sha256:…` of its configuration. */
  id: string;
  platform: string;
  /** `sha256:…` of its manifest, where it came with one; else of its tree. */
  digest: string;
  tree: string;
  source: string;
  /** When it says it was made; null where it does not say. */
  created: string | null;
  /** When its name came to mean it here. */
  addedMs: number;
  sizeBytes?: number;
}

export function imageEntry(image: ListedImage & { sizeBytes?: number }): ImageEntry {
  const { name, id, platform, resolved, tree, source, addedMs, sizeBytes, document } = image;
  const created = document['created'];
  return { name, id, platform, digest: resolved, tree, source, created: typeof created === 'string' ? created : null, addedMs, ...(sizeBytes === undefined ? {} : { sizeBytes }) };
}

/** As `docker image inspect` writes it: its field names, and of its fields those that there is something to say of. */
export function dockerInspect(image: ListedImage & { sizeBytes: number }): Record<string, unknown> {
  const { name, id, resolved, sizeBytes, document, source, tree, platform } = image;
  const { created, author, comment, architecture, os, variant, config, docker_version: dockerVersion, rootfs, history: _, ...rest } = document;
  const repository = name.replace(/(@.*|:[^/:]*)$/, '');
  const layers = typeof rootfs === 'object' && rootfs !== null && 'diff_ids' in rootfs ? rootfs.diff_ids : undefined;
  const [defaultOs, defaultArchitecture] = platform.split('/');
  return {
    Id: id,
    RepoTags: isNamed(image) && !name.includes('@') ? [name] : [],
    RepoDigests: isNamed(image) && resolved.startsWith('sha256:') ? [`${repository}@${resolved}`] : [],
    Comment: comment ?? '',
    Created: created ?? '',
    ...(dockerVersion === undefined ? {} : { DockerVersion: dockerVersion }),
    Author: author ?? '',
    Config: config ?? {},
    Architecture: architecture ?? defaultArchitecture,
    ...(variant === undefined ? {} : { Variant: variant }),
    Os: os ?? defaultOs,
    Size: sizeBytes,
    RootFS: { Type: 'layers', Layers: layers ?? [] },
    Metadata: { LastTagTime: new Date(image.addedMs).toISOString(), Source: source, Tree: tree },
    ...('os.version' in rest ? { OsVersion: rest['os.version'] } : {}),
  };
}
