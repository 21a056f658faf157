import { HdError } from '@hyperdocker/base';

/** Points at a blob or manifest by digest (OCI descriptor). */
export interface Descriptor { mediaType: string; digest: string; size: number; platform?: Platform; annotations: Record<string, string> }

/** In the words of OCI: `linux`, `amd64`. */
export interface Platform { os: string; architecture: string; variant?: string }

export type Manifest =
  | { kind: 'index'; manifests: Descriptor[] }
  | { kind: 'image'; config: Descriptor; layers: Descriptor[] };

/** In the order in which registries are asked for them. */
export const MANIFEST_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
  'application/vnd.oci.image.manifest.v1+json',
  'application/vnd.docker.distribution.manifest.v2+json',
] as const;

const ARCHITECTURES: Partial<Record<NodeJS.Architecture, string>> = { x64: 'amd64', ia32: '386', arm64: 'arm64', arm: 'arm', ppc64: 'ppc64le', s390x: 's390x', riscv64: 'riscv64', loong64: 'loong64' };
const SHA256 = /^sha256:[0-9a-f]{64}$/;

/** Linux on this machine's processor. */
export function hostPlatform(): Platform {
  return { os: 'linux', architecture: ARCHITECTURES[process.arch] ?? process.arch };
}

/** @throws HdError IMAGE_INVALID */
export function parseManifest(bytes: Buffer, image: string): Manifest {
  const value = parseJsonObject(bytes, `the manifest of ${image}`);
  if (value['schemaVersion'] === 1) throw invalidImage(image, 'its manifest has the retired schema 1', 'push the image again with a current tool');
  if (Array.isArray(value['manifests'])) return { kind: 'index', manifests: value['manifests'].map((item) => parseDescriptor(item, image)) };
  if (!Array.isArray(value['layers'])) throw invalidImage(image, 'its manifest is neither an index nor an image');
  return { kind: 'image', config: parseDescriptor(value['config'], image), layers: value['layers'].map((item) => parseDescriptor(item, image)) };
}

/** The image for a platform; the first where several fit. @throws HdError IMAGE_PLATFORM */
export function selectPlatform(manifests: readonly Descriptor[], wanted: Platform, image: string): Descriptor {
  const fitting = manifests.filter(({ platform }) => platform === undefined || (platform.os === wanted.os && platform.architecture === wanted.architecture));
  const found = fitting.find(({ platform }) => wanted.variant === undefined || platform?.variant === wanted.variant) ?? fitting[0];
  if (found !== undefined) return found;
  const known = [...new Set(manifests.map(({ platform }) => formatPlatform(platform)).filter((name) => !name.startsWith('unknown')))];
  throw wrongPlatform(image, wanted, known);
}

export function wrongPlatform(image: string, wanted: Platform, known: string[]): HdError {
  return new HdError('IMAGE_PLATFORM', `${image} is not there for ${formatPlatform(wanted)}, only for ${known.join(', ') || 'nothing'}`, { hint: 'choose another image or tag' });
}

export function formatPlatform(platform: Platform | undefined): string {
  return platform === undefined ? 'unknown' : [platform.os, platform.architecture, ...(platform.variant === undefined ? [] : [platform.variant])].join('/');
}

/** @throws HdError IMAGE_INVALID */
export function parseJson(bytes: Buffer, what: string): unknown {
  try {
    return JSON.parse(bytes.toString('utf8'));
  } catch (cause) {
    throw new HdError('IMAGE_INVALID', `${what} is no JSON`, { hint: 'fetch or build the image again', cause });
  }
}

/** @throws HdError IMAGE_INVALID */
export function parseJsonObject(bytes: Buffer, what: string): Record<string, unknown> {
  const value = parseJson(bytes, what);
  if (!isObject(value)) throw new HdError('IMAGE_INVALID', `${what} is no JSON object`, { hint: 'fetch or build the image again' });
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export function invalidImage(image: string, why: string, hint = 'fetch or build the image again'): HdError {
  return new HdError('IMAGE_INVALID', `${image} cannot be used: ${why}`, { hint });
}

function parseDescriptor(value: unknown, image: string): Descriptor {
  if (!isObject(value)) throw invalidImage(image, 'its manifest has a damaged descriptor');
  const { mediaType, digest, size, platform, annotations } = value;
  if (typeof digest !== 'string' || !SHA256.test(digest)) throw invalidImage(image, `its manifest has the digest ${JSON.stringify(digest)}; only sha256 is supported`);
  if (typeof size !== 'number' || !Number.isSafeInteger(size) || size < 0) throw invalidImage(image, 'its manifest has a damaged size');
  return {
    mediaType: typeof mediaType === 'string' ? mediaType : '',
    digest,
    size,
    annotations: isObject(annotations) ? Object.fromEntries(Object.entries(annotations).filter((pair): pair is [string, string] => typeof pair[1] === 'string')) : {},
    ...(isObject(platform) ? { platform: parsePlatform(platform) } : {}),
  };
}

function parsePlatform(value: Record<string, unknown>): Platform {
  const { os, architecture, variant } = value;
  return {
    os: typeof os === 'string' ? os : 'unknown',
    architecture: typeof architecture === 'string' ? architecture : 'unknown',
    ...(typeof variant === 'string' && variant !== '' ? { variant } : {}),
  };
}
