import { posix } from 'node:path';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import type { ExportedImage, ExportedLayer, ImageConfig } from '@hyperdocker/oci';
import { documentOf, exportImage, parseBase, planLayers } from '@hyperdocker/oci';
import type { ServiceSpec } from '@hyperdocker/spec';
import type { EnvPaths, Home, Project } from './home.ts';
import { envRef } from './home.ts';
import type { ImageDestination } from './image-target.ts';
import { LayerFile, openTarget } from './image-target.ts';
import { findImage } from './images.ts';
import type { StoredImage } from './named-images.ts';
import { putNamedImage } from './named-images.ts';
import type { Plan } from './plan.ts';
import { makePlan } from './plan.ts';
import { HOST_PLATFORM } from './platform.ts';
import { requireServices } from './service-names.ts';
import { sourceDateMs } from './source-date.ts';
import { specOrThrow } from './spec-file.ts';

/** `here`: it stays in the store, under the name. */
export type ExportTo = ImageDestination | { kind: 'here'; name: string };

export interface ExportEnvironmentOptions {
  /** Whose command the image runs. Default: the only one; with several or none, the base image's command. */
  service?: string;
  labels?: Record<string, string>;
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
  const { signal, onLayer } = options;
  const createdMs = sourceDateMs(options.env);
  const document = documentOf(configOf(plan, image, root, options), HOST_PLATFORM);
  const name = to.kind === 'push' ? undefined : to.name;
  // What a layout calls an image need not be a name: `v1`.
  if (to.kind === 'here' || name?.includes(':') === true) putNamedImage(store, name ?? '', { tree, document: { created: new Date(createdMs).toISOString(), ...document }, source: `environment ${spec.environment.name}` });
  if (to.kind === 'here') return { digest: tree, layers: [] };
  using memory = new LayerFile(home);
  using opened = openTarget(to, home, signal);
  const parts = { layers: planLayers(store, image.tree, tree), document, createdMs };
  return await exportImage(store, parts, opened.target, { memory, tempDir: home.tempDir, ...(signal === undefined ? {} : { signal }), ...(onLayer === undefined ? {} : { onLayer }) });
}

function chooseService(services: readonly ServiceSpec[], name: string | undefined): ServiceSpec | undefined {
  if (name === undefined) return services.length === 1 ? services[0] : undefined;
  requireServices(services.map((service) => service.name), [name]);
  return services.find((service) => service.name === name);
}

/** What a container of the image finds is what the service finds in the environment. */
function configOf(plan: Plan, image: StoredImage, root: string, options: ExportEnvironmentOptions): ImageConfig {
  const { config } = image;
  const service = chooseService(plan.spec.services, options.service);
  // Runtimes set it for the user that a container is started with.
  const { HOME: _, ...env } = plan.env;
  const base = parseBase(plan.spec.environment.base).kind !== 'registry' ? {} : {
    'org.opencontainers.image.base.name': image.name, ...(image.resolved.startsWith('sha256:') ? { 'org.opencontainers.image.base.digest': image.resolved } : {}),
  };
  const labels = { ...config.labels, ...base, 'dev.hyperdocker.environment': plan.spec.environment.name, 'dev.hyperdocker.root': root, ...options.labels };
  if (service === undefined) return { ...config, env, labels, workdir: plan.workdir };
  const port = service.port === undefined ? [] : [`${service.port}/tcp`];
  return {
    ...config,
    env: { ...env, ...(service.port === undefined ? {} : { PORT: String(service.port) }), ...service.env },
    labels,
    workdir: posix.resolve(plan.workdir, service.cwd ?? '.'),
    user: service.user ?? config.user,
    entrypoint: [],
    cmd: ['/bin/sh', '-c', service.command],
    exposedPorts: [...new Set([...config.exposedPorts, ...port])].sort(),
    stopSignal: service.stopSignal === 'SIGTERM' ? '' : service.stopSignal,
  };
}
