import { join, posix } from 'node:path';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError, isDigest } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import type { ExportedImage, ExportedLayer, ImageConfig, ImageTarget, LayerBlob, LayerMemory } from '@hyperdocker/oci';
import { ArchiveTarget, LayoutTarget, RegistryClient, RegistryTarget, exportImage, parseReference, planLayers } from '@hyperdocker/oci';
import type { ServiceSpec } from '@hyperdocker/spec';
import type { EnvPaths, Home, Project } from './home.ts';
import { envRef } from './home.ts';
import { findImage } from './images.ts';
import { readJson, writeJson } from './json-file.ts';
import type { Plan } from './plan.ts';
import { HOST_PLATFORM, makePlan } from './plan.ts';
import { registryConfig } from './registries.ts';
import { requireServices } from './service-names.ts';
import { specOrThrow } from './spec-file.ts';

/** `name`: what `docker load` calls the image, or the layout's index. */
export type ExportTo =
  | { kind: 'oci'; dir: string; name?: string }
  | { kind: 'archive'; file: string; name?: string }
  | { kind: 'push'; reference: string };

export interface ExportEnvironmentOptions {
  /** Whose command the image runs. Default: the only one; with several or none, the base image's command. */
  service?: string;
  env: NodeJS.ProcessEnv;
  signal?: AbortSignal;
  onLayer?: (layer: ExportedLayer, nth: number, layers: number) => void;
}

/**
 * The environment as it was built last, as an OCI image. The same environment gives the same bytes, on any machine.
 * @throws HdError SPEC_INVALID, NOT_BUILT, NO_SUCH_SERVICE, EXPORT_TARGET, EXPORT_WRITE, LAYER_INVALID, IMAGE_REFERENCE, and those of `RegistryClient`
 */
export async function exportEnvironment(place: { home: Home; project: Project; paths: EnvPaths }, to: ExportTo, options: ExportEnvironmentOptions): Promise<ExportedImage> {
  const { home, project, paths } = place;
  const { spec } = specOrThrow(project);
  const { base } = spec.environment;
  using store = openStore(home.storeDir, { nodeLinks });
  using _lease = store.lease(`hd export ${paths.id}`);
  const image = findImage(base, { store, projectDir: project.dir, platform: HOST_PLATFORM });
  const tree = store.getRef(envRef(paths.id, 'tree'))?.target.digest as TreeDigest | undefined;
  const root = store.getRef(envRef(paths.id, 'root'))?.target.digest;
  if (image === undefined || tree === undefined || root === undefined) throw new HdError('NOT_BUILT', `the environment of ${project.dir} has not been built`, { hint: 'run `hd build`' });
  const plan = makePlan(store, { spec, image, projectDir: project.dir, platform: HOST_PLATFORM, base });
  const config = configOf(plan, chooseService(spec.services, options.service), root);
  const [os = 'linux', architecture = 'amd64'] = HOST_PLATFORM.split('/');
  const parts = { layers: planLayers(store, image.tree, tree), config, platform: { os, architecture }, createdMs: createdMs(options.env) };
  const { target, dispose } = open(to, home, options.signal);
  const memory = new LayerFile(join(home.dir, 'layers.json'));
  try {
    const { signal, onLayer } = options;
    return await exportImage(store, parts, target, { memory, tempDir: home.tempDir, ...(signal === undefined ? {} : { signal }), ...(onLayer === undefined ? {} : { onLayer }) });
  } finally {
    memory.save();
    dispose();
  }
}

function open(to: ExportTo, home: Home, signal: AbortSignal | undefined): { target: ImageTarget; dispose: () => void } {
  switch (to.kind) {
    case 'oci':
      return { target: new LayoutTarget(to.dir, to.name), dispose: () => {} };
    case 'archive': {
      const target = new ArchiveTarget(to.file, to.name);
      return { target, dispose: () => target[Symbol.dispose]() };
    }
    case 'push':
      return { target: new RegistryTarget(new RegistryClient({ config: registryConfig(home), signal }), parseReference(to.reference)), dispose: () => {} };
  }
}

function chooseService(services: readonly ServiceSpec[], name: string | undefined): ServiceSpec | undefined {
  if (name === undefined) return services.length === 1 ? services[0] : undefined;
  requireServices(services.map((service) => service.name), [name]);
  return services.find((service) => service.name === name);
}

/** What a container of the image finds is what the service finds in the environment. */
function configOf(plan: Plan, service: ServiceSpec | undefined, root: string): ImageConfig {
  const { config } = plan.image;
  // Runtimes set it for the user that a container is started with.
  const { HOME: _, ...env } = plan.env;
  const labels = { ...config.labels, 'dev.hyperdocker.environment': plan.spec.environment.name, 'dev.hyperdocker.root': root };
  if (service === undefined) return { ...config, env, labels, workdir: plan.workdir };
  const port = service.port === undefined ? [] : [`${service.port}/tcp`];
  return {
    ...config,
    env: { ...env, ...(service.port === undefined ? {} : { PORT: String(service.port) }), ...service.env },
    labels,
    workdir: posix.resolve(plan.workdir, service.cwd ?? '.'),
    entrypoint: [],
    cmd: ['/bin/sh', '-c', service.command],
    exposedPorts: [...new Set([...config.exposedPorts, ...port])].sort(),
  };
}

/** https://reproducible-builds.org/specs/source-date-epoch/ */
function createdMs(env: NodeJS.ProcessEnv): number {
  const seconds = Number(env['SOURCE_DATE_EPOCH'] ?? 0);
  return Number.isSafeInteger(seconds) && seconds >= 0 ? seconds * 1000 : 0;
}

/** `layers.json` in HD_HOME: what layers came to, compressed. A cache. */
class LayerFile implements LayerMemory {
  readonly #file: string;
  readonly #blobs: Map<string, LayerBlob>;
  #changed = false;

  constructor(file: string) {
    this.#file = file;
    const read = readJson(file);
    this.#blobs = new Map(isLayerFile(read) ? Object.entries(read.layers) : []);
  }

  get(tree: TreeDigest): LayerBlob | undefined {
    return this.#blobs.get(tree);
  }

  set(tree: TreeDigest, blob: LayerBlob): void {
    this.#blobs.delete(tree);
    this.#blobs.set(tree, blob);
    this.#changed = true;
  }

  save(): void {
    if (!this.#changed) return;
    writeJson(this.#file, { version: LAYERS_VERSION, layers: Object.fromEntries([...this.#blobs].slice(-MAX_LAYERS_KNOWN)) });
  }
}

/** Another way to pack a layer is another version. */
const LAYERS_VERSION = 1;
const MAX_LAYERS_KNOWN = 5_000;

function isLayerFile(value: unknown): value is { layers: Record<string, LayerBlob> } {
  if (typeof value !== 'object' || value === null) return false;
  const { version, layers } = value as { version?: unknown; layers?: unknown };
  return version === LAYERS_VERSION && typeof layers === 'object' && layers !== null && Object.entries(layers).every(([tree, blob]) => isDigest(tree) && typeof (blob as LayerBlob).digest === 'string' && typeof (blob as LayerBlob).diffId === 'string' && Number.isSafeInteger((blob as LayerBlob).sizeBytes));
}
