import { spawn } from 'node:child_process';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { Base, Image, ImageProgress, LoadedImage } from '@hyperdocker/oci';
import { EMPTY_CONFIG, documentOf, importTar, parseBase } from '@hyperdocker/oci';
import type { Emit } from './events.ts';
import { fetchImage } from './fetch-image.ts';
import type { Home } from './home.ts';
import type { StoredImage } from './named-images.ts';
import { idOf, imageKey, nameOfBase, putImage, readImage } from './named-images.ts';
import type { WriteLease } from './write-lease.ts';

export interface ImageOptions {
  home: Home;
  store: Store;
  /** Given back while the source is asked. */
  lease: WriteLease;
  projectDir: string;
  platform: string;
  /** Ask the source again although a copy is here. */
  refresh: boolean;
  emit: Emit;
  signal?: AbortSignal;
}

/** The base image, from the store if it has been here before. @throws HdError of the source, e.g. REGISTRY_UNREACHABLE */
export async function resolveImage(text: string, options: ImageOptions): Promise<Image> {
  const base = parseBase(text);
  const key = imageKey(base, options);
  const cached = options.refresh ? undefined : readImage(options.store, key);
  if (cached !== undefined) {
    options.emit({ type: 'image', status: 'cached', base: text });
    return cached;
  }
  const started = performance.now();
  options.emit({ type: 'image', status: 'fetching', base: text });
  const onProgress = throttled((progress) => options.emit({ type: 'image', status: 'fetching', base: text, detail: describeProgress(progress) }));
  // What it writes is flushed by the refs below, and safe until then.
  const image: Image & Partial<LoadedImage> = base.kind === 'apt' ? await options.lease.apart([], () => bootstrapDebian(base, options)) : await fetchImage(options.store, base, { ...options, cwd: options.projectDir, onProgress });
  const { names: _, chain = [], ...loaded } = image;
  const document = loaded.document ?? documentOf(loaded.config, options.platform);
  putImage(options.store, key, { ...loaded, name: nameOfBase(text), platform: options.platform, document, id: loaded.id ?? idOf(document) }, chain);
  options.emit({ type: 'image', status: 'ready', base: text, ms: performance.now() - started });
  return image;
}

/** The base image if it is here. */
export function findImage(text: string, options: Pick<ImageOptions, 'store' | 'platform' | 'projectDir'>): StoredImage | undefined {
  return readImage(options.store, imageKey(parseBase(text), options));
}

/** Beginning of the refs of a base image. */
export function imageRefOf(text: string, options: Pick<ImageOptions, 'platform' | 'projectDir'>): string {
  return imageKey(parseBase(text), options);
}

/**
 * A minimal Debian root, made of Debian's packages by mmdebstrap. With a fixed epoch its tar is the same to the byte for the
 * same package versions.
 */
async function bootstrapDebian(base: Extract<Base, { kind: 'apt' }>, { store, emit, platform, signal }: ImageOptions): Promise<Image> {
  const arch = platform.split('/')[1] ?? 'amd64';
  const args = [`--variant=${base.variant ?? 'minbase'}`, '--format=tar', `--architectures=${arch}`, '--aptopt=Acquire::Retries "3"'];
  if (base.include.length > 0) args.push(`--include=${base.include.join(',')}`);
  if (base.components !== undefined) args.push(`--components=${base.components.join(',')}`);
  const mirror = base.mirror === undefined ? [] : [base.mirror];
  const child = spawn('mmdebstrap', [...args, base.suite, '-', ...mirror], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: bootstrapEnv(process.env),
    ...(signal === undefined ? {} : { signal }),
  });
  let log = '';
  child.stderr.on('data', (chunk: Buffer) => {
    log = (log + chunk.toString()).slice(-20_000);
    const line = chunk.toString().trim().split('\n').at(-1);
    if (line?.startsWith('I: ') === true) emit({ type: 'image', status: 'fetching', base: `apt://${base.suite}`, detail: line.slice(3) });
  });
  const exit = new Promise<number | null>((done, reject) => {
    child.once('error', (cause) => reject(new HdError('APT_BASE', 'mmdebstrap cannot be run', { cause, hint: 'install it: apt-get install mmdebstrap' })));
    child.once('close', done);
  });
  // Both ends are waited for: a half-made root must not become an image.
  const [tree, code] = await Promise.all([importTar(store, child.stdout).catch((error: unknown) => error as Error), exit]);
  if (code !== 0) {
    throw new HdError('APT_BASE', `cannot make a Debian root of ${base.suite}: mmdebstrap ended with ${code}\n${log.split('\n').filter((l) => /^(E|W|Err)/.test(l)).slice(-6).join('\n')}`, {
      hint: 'check the suite, the names of the packages, and that the Debian mirror can be reached',
    });
  }
  if (tree instanceof Error) throw tree;
  return { tree: tree as TreeDigest, source: `apt://${base.suite}`, resolved: tree, config: EMPTY_CONFIG };
}

/** Maintainer scripts see the environment: compiled Python came out different under another one. */
function bootstrapEnv(host: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const passed = Object.entries(host).filter(([name]) => /^(PATH|TMPDIR|(https?|ftp|no|all)_proxy)$/i.test(name));
  return { ...Object.fromEntries(passed), SOURCE_DATE_EPOCH: '1577836800', LC_ALL: 'C.UTF-8', PYTHONHASHSEED: '0', HOME: '/root' };
}

/** Of each download, only every twentieth part: events are kept. */
function throttled(tell: (progress: ImageProgress) => void): (progress: ImageProgress) => void {
  const told = new Map<string, number>();
  return (progress) => {
    if (progress.kind === 'download') {
      const part = Math.floor((20 * progress.doneBytes) / Math.max(1, progress.totalBytes));
      if (told.get(progress.digest) === part) return;
      told.set(progress.digest, part);
    }
    tell(progress);
  };
}

function describeProgress(progress: ImageProgress): string {
  const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;
  switch (progress.kind) {
    case 'found':
      return `${progress.layers} layers${progress.here === 0 ? '' : `, ${progress.here} of them here`}, ${megabytes(progress.totalBytes)}`;
    case 'download':
      return `${progress.digest.slice(7, 19)} ${megabytes(progress.doneBytes)} of ${megabytes(progress.totalBytes)}`;
    case 'unpacked':
      return `layer ${progress.layer} of ${progress.layers} unpacked`;
  }
}
