import type { BuildClientOptions, DockerfileOrder, ServerSpot } from '../build-server.ts';
import { bootServer, buildAtLaunched, connectToServer, serverSocket } from '../build-server.ts';
import type { DockerfileBuilt, DockerfileRequest } from './request.ts';
import { requireContext } from './request.ts';

export interface BuildImageOptions extends BuildClientOptions, ServerSpot {
  /** Called before a process is started that runs commands, and before one that runs is to make a Debian. */
  beforeRun?: () => Promise<void>;
}

/**
 * Builds a Dockerfile into an image that its names stand for, in the server that the last build has left. Without one, where nothing has to run, nothing is started either.
 * @throws HdError DOCKERFILE_INVALID, STAGE_UNKNOWN, COPY_FAILED, STEP_FAILED, BUILD_GONE, INTERRUPTED, and those of images, contexts and secrets
 */
export async function buildImage(request: DockerfileRequest, options: BuildImageOptions): Promise<DockerfileBuilt> {
  const { home, env, beforeRun } = options;
  requireContext(request.contextDir);
  const order: DockerfileOrder = { kind: 'dockerfile', request, env };
  const socket = serverSocket(options);
  const left = await connectToServer(socket);
  if (left !== undefined) {
    if (request.text.includes('apt://')) await beforeRun?.();
    const built = await left.build(order, options);
    if (built !== undefined) return built.image;
  }
  const launch = async (): Promise<void> => {
    await beforeRun?.();
    await bootServer(options, socket).listening;
  };
  const { buildFromCache, isHere } = await import('./quick-build.ts');
  // Of an image that is not here yet something is going to run: the server starts meanwhile.
  const ahead = request.noCache || !isHere(request, home) ? launch() : undefined;
  ahead?.catch(() => {});
  const quick = request.noCache ? undefined : await buildFromCache(request, options);
  if (quick !== undefined) return quick;
  await (ahead ?? launch());
  return (await buildAtLaunched(socket, order, options)).image;
}
