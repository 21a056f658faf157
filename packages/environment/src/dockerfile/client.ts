import type { ChildProcess } from 'node:child_process';
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { HdErrorJson } from '@hyperdocker/base';
import { HdError, NODE_FLAGS } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import type { Emit, HdEvent } from '../events.ts';
import type { Home } from '../home.ts';
import { getNamedImage } from '../named-images.ts';
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
  /** Called before the process is started that runs commands, once. */
  beforeRun?: () => Promise<void>;
}

/**
 * Builds a Dockerfile into an image that its names stand for. Where nothing has to run, nothing is started either.
 * @throws HdError DOCKERFILE_INVALID, STAGE_UNKNOWN, COPY_FAILED, STEP_FAILED, BUILD_GONE, INTERRUPTED, and those of images, contexts and secrets
 */
export async function buildImage(request: DockerfileRequest, options: BuildImageOptions): Promise<DockerfileBuilt> {
  requireContext(request.contextDir);
  // Of an image that is not here yet something is going to run: the process for it starts meanwhile.
  let runner = request.noCache || !isHere(request, options.home) ? await startRunner(options) : undefined;
  try {
    const quick = request.noCache ? undefined : await buildFromCache(request, options);
    if (quick !== undefined) return quick;
    runner ??= await startRunner(options);
    return await buildApart(runner, request, options);
  } finally {
    if (runner?.connected === true) runner.disconnect();
  }
}

function isHere({ tags, platform }: DockerfileRequest, home: Home): boolean {
  if (!existsSync(home.storeDir)) return false;
  using store = openStore(home.storeDir, { readOnly: true });
  return tags.every((tag) => getNamedImage(store, tag, platform) !== undefined);
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

/** Waits for what to build. Ends when it is disconnected. */
async function startRunner({ home, env, beforeRun }: BuildImageOptions): Promise<ChildProcess> {
  await beforeRun?.();
  const main = fileURLToPath(new URL('./dockerfile-main.ts', import.meta.url));
  // Whatever it mounts is seen by nobody else and gone with its processes.
  const child = spawn('unshare', [...unshareOptions(), '--mount', '--propagation', 'slave', process.execPath, ...NODE_FLAGS, main], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'], env: { ...env, HD_HOME: home.dir }, detached: true,
  });
  // Who builds with it is told; until then nobody is.
  child.on('error', () => {});
  return child;
}

async function buildApart(runner: ChildProcess, request: DockerfileRequest, { emit, signal }: BuildImageOptions): Promise<DockerfileBuilt> {
  const { promise, resolve, reject } = Promise.withResolvers<DockerfileBuilt>();
  const ended = (code: number | null, killed: NodeJS.Signals | null): void => reject(new HdError('BUILD_GONE', `the process of the build ended unexpectedly (${killed ?? code})`, { hint: 'start it again: what it had built is kept' }));
  runner.on('message', (message: BuildMessage) => {
    if ('event' in message) emit(message.event);
    else if ('built' in message) resolve(message.built);
    else reject(HdError.fromJSON(message.error));
  });
  runner.once('error', (cause) => reject(new HdError('BUILD_GONE', 'the build could not be started', { cause, hint: 'see `hd doctor`' })));
  runner.once('exit', ended);
  if (runner.exitCode !== null || runner.signalCode !== null) ended(runner.exitCode, runner.signalCode);
  const stop = (): void => void (runner.connected && runner.send('stop'));
  signal.addEventListener('abort', stop, { once: true });
  if (runner.connected) runner.send(request);
  if (signal.aborted) stop();
  try {
    return await promise;
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
