import type { EnvSpec } from '@hyperdocker/spec';
import type { BuildClientOptions, EnvironmentOrder, ServerSpot } from './build-server.ts';
import { bootServer, buildAtLaunched, connectToServer, serverSocket } from './build-server.ts';

export interface RequestBuildOptions extends BuildClientOptions, ServerSpot {
  /** Of a build in a server that runs: programs that it takes may be missing all the same. */
  beforeRun: () => Promise<void>;
  /** Called while a server is started, to make sure that it has what it takes. @returns what the order's hd.toml says: the client is the first that needs it then */
  beforeLaunch: () => Promise<EnvSpec>;
  onDiagnosed: () => Promise<void>;
}

/**
 * Builds the environment of a project, in the server that the last build has left, else in a new one.
 * @returns the digest of its root
 * @throws HdError ALREADY_RUNNING where it has a supervisor, BUILD_GONE, INTERRUPTED, and those of the build
 */
export async function requestBuild(wanted: Omit<EnvironmentOrder, 'kind' | 'env'>, options: RequestBuildOptions): Promise<string> {
  const { env, beforeRun, beforeLaunch } = options;
  const order: EnvironmentOrder = { kind: 'environment', ...wanted, env };
  const socket = serverSocket(options);
  const left = await connectToServer(socket);
  if (left !== undefined) {
    await beforeRun();
    const built = await left.build(order, options);
    if (built !== undefined) return built.root;
  }
  const booting = bootServer(options, socket);
  let spec: EnvSpec;
  try {
    spec = await beforeLaunch();
  } catch (error) {
    booting.dismiss();
    throw error;
  }
  // What the first lacked may have been installed meanwhile.
  await booting.listening.catch(() => bootServer(options, socket).listening);
  return (await buildAtLaunched(socket, { ...order, spec }, options)).root;
}
