import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { HdErrorJson } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import type { Emit, HdEvent } from '../events.ts';
import type { Home } from '../home.ts';
import { unshareOptions } from '../user-namespace.ts';
import { requireContext } from './build-context.ts';
import { NEEDS_RUNNER } from './build-state.ts';
import { buildDockerfile } from './builder.ts';
import { nameImage } from './name-image.ts';
import type { DockerfileBuilt, DockerfileRequest } from './request.ts';

/** What the process that builds tells. */
export type BuildMessage = { event: HdEvent } | { built: DockerfileBuilt } | { error: HdErrorJson };

export interface BuildImageOptions {
  home: Home;
  env: NodeJS.ProcessEnv;
  emit: Emit;
  signal: AbortSignal;
  /** Called before the process is started that runs commands. */
  beforeRun?: () => Promise<void>;
}

/**
 * Builds a Dockerfile into an image that its names stand for. Where nothing has to run, nothing is started either.
 * @throws HdError DOCKERFILE_INVALID, STAGE_UNKNOWN, COPY_FAILED, STEP_FAILED, BUILD_GONE, INTERRUPTED, and those of images, contexts and secrets
 */
export async function buildImage(request: DockerfileRequest, options: BuildImageOptions): Promise<DockerfileBuilt> {
  requireContext(request.contextDir);
  const quick = request.noCache ? undefined : await buildFromCache(request, options);
  if (quick !== undefined) return quick;
  await options.beforeRun?.();
  return await buildApart(request, options);
}

/** Undefined: something has to run. */
async function buildFromCache(request: DockerfileRequest, { home, env, emit, signal }: BuildImageOptions): Promise<DockerfileBuilt | undefined> {
  const events: HdEvent[] = [];
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  try {
    const built = nameImage(store, request, await buildDockerfile({ home, store, actions, request, env, signal, emit: (event) => void events.push(event) }));
    for (const event of events) emit(event);
    return built;
  } catch (error) {
    if (error === NEEDS_RUNNER) return undefined;
    throw error;
  }
}

async function buildApart(request: DockerfileRequest, { home, env, emit, signal }: BuildImageOptions): Promise<DockerfileBuilt> {
  const main = fileURLToPath(new URL('./dockerfile-main.ts', import.meta.url));
  // Whatever it mounts is seen by nobody else and gone with its processes.
  const child = spawn('unshare', [...unshareOptions(), '--mount', '--propagation', 'slave', process.execPath, '--disable-warning=ExperimentalWarning', main], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { ...env, HD_HOME: home.dir }, detached: true,
  });
  const { promise, resolve, reject } = Promise.withResolvers<DockerfileBuilt>();
  child.on('message', (message: BuildMessage) => {
    if ('event' in message) emit(message.event);
    else if ('built' in message) resolve(message.built);
    else reject(HdError.fromJSON(message.error));
  });
  child.once('error', (cause) => reject(new HdError('BUILD_GONE', 'the build could not be started', { cause, hint: 'see `hd doctor`' })));
  child.once('exit', (code, killed) => reject(new HdError('BUILD_GONE', `the process of the build ended unexpectedly (${killed ?? code})`, { hint: 'start it again: what it had built is kept' })));
  const stop = (): void => void (child.connected && child.send('stop'));
  signal.addEventListener('abort', stop, { once: true });
  child.send(request);
  if (signal.aborted) stop();
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', stop);
    if (child.connected) child.disconnect();
  }
}
