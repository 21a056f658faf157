import { invalidImage, isObject } from './manifest.ts';

/** What an image says about how to run it. Absent texts are empty. */
export interface ImageConfig {
  env: Record<string, string>;
  /** Absolute; `/` where the image says nothing. */
  workdir: string;
  /** `user[:group]`, names or numbers; empty means root. */
  user: string;
  entrypoint: string[];
  cmd: string[];
  /** Such as `80/tcp`, sorted. */
  exposedPorts: string[];
  /** Paths, sorted. */
  volumes: string[];
  labels: Record<string, string>;
  stopSignal: string;
}

/** An image configuration as OCI and Docker write it: `config` with Docker's field names, `rootfs`, `history`, `created`, … */
export type ImageDocument = Record<string, unknown>;

export const EMPTY_CONFIG: ImageConfig = { env: {}, workdir: '/', user: '', entrypoint: [], cmd: [], exposedPorts: [], volumes: [], labels: {}, stopSignal: '' };

/** From the JSON of an OCI or Docker image. @throws HdError IMAGE_INVALID */
export function parseImageConfig(document: ImageDocument, image: string): ImageConfig {
  const config = isObject(document['config']) ? document['config'] : {};
  const workdir = text(config['WorkingDir']);
  return {
    env: Object.fromEntries(texts(config['Env'], 'Env', image).map(splitVariable)),
    workdir: workdir.startsWith('/') ? workdir : `/${workdir}`,
    user: text(config['User']),
    entrypoint: texts(config['Entrypoint'], 'Entrypoint', image),
    cmd: texts(config['Cmd'], 'Cmd', image),
    exposedPorts: keys(config['ExposedPorts']),
    volumes: keys(config['Volumes']),
    labels: isObject(config['Labels']) ? Object.fromEntries(Object.entries(config['Labels']).map(([key, value]) => [key, text(value)])) : {},
    stopSignal: text(config['StopSignal']),
  };
}

/** The other way: what says nothing is left out. @param platform such as `linux/amd64` */
export function documentOf(config: ImageConfig, platform: string): ImageDocument {
  const [os = 'linux', architecture = 'amd64', variant] = platform.split('/');
  return { os, architecture, ...(variant === undefined ? {} : { variant }), config: dockerConfig(config) };
}

/** The `config` of a document. */
export function dockerConfig(config: ImageConfig): Record<string, unknown> {
  const set = (names: readonly string[]): object => Object.fromEntries(names.map((name) => [name, {}]));
  const filled = {
    User: config.user, ExposedPorts: set(config.exposedPorts), Env: Object.entries(config.env).map(([name, value]) => `${name}=${value}`), Entrypoint: config.entrypoint, Cmd: config.cmd,
    Volumes: set(config.volumes), WorkingDir: config.workdir, Labels: config.labels, StopSignal: config.stopSignal,
  };
  return Object.fromEntries(Object.entries(filled).filter(([, value]) => (typeof value === 'string' ? value !== '' : Object.keys(value).length > 0)));
}

/** `sha256:…` of each decompressed layer. @throws HdError IMAGE_INVALID */
export function parseDiffIds(document: Record<string, unknown>, layers: number, image: string): string[] {
  const ids = texts(isObject(document['rootfs']) ? document['rootfs']['diff_ids'] : undefined, 'diff_ids', image);
  if (ids.length !== layers) throw invalidImage(image, `its configuration names ${ids.length} layers, its manifest ${layers}`);
  return ids;
}

function texts(value: unknown, what: string, image: string): string[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value) || value.some((item) => typeof item !== 'string')) throw invalidImage(image, `${what} in its configuration is no list of texts`);
  return value as string[];
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : '';
}

function keys(value: unknown): string[] {
  return isObject(value) ? Object.keys(value).sort() : [];
}

function splitVariable(item: string): [string, string] {
  const equals = item.indexOf('=');
  return equals < 0 ? [item, ''] : [item.slice(0, equals), item.slice(equals + 1)];
}
