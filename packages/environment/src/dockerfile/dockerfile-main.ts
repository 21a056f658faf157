import { mkdirSync, rmSync } from 'node:fs';
import { HdError, describeError } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { FuseHost, detachBelow, fuseProblem } from '@hyperdocker/mount';
import { OciRuntime, findRuntime } from '@hyperdocker/sandbox';
import type { HdEvent } from '../events.ts';
import { openHome } from '../home.ts';
import { hostPassthrough } from '../passthrough.ts';
import { buildPaths } from './build-files.ts';
import { buildDockerfile } from './builder.ts';
import type { BuildMessage } from './client.ts';
import { nameImage } from './name-image.ts';
import type { DockerfileBuilt, DockerfileRequest } from './request.ts';

const home = openHome();
const problem = fuseProblem();
// Its process takes as long to start as everything up to the first command.
const fuse = problem === undefined ? new FuseHost({ logFd: 2, attributeFreeFile: home.attributeFreeFile }) : undefined;

/** The process that builds a Dockerfile in which commands have to run: started by `client.ts` in a mount namespace of its own, and ended with who asked for it. */
async function main(request: DockerfileRequest): Promise<DockerfileBuilt> {
  const paths = buildPaths(home, process.pid);
  const stop = new AbortController();
  const end = (): void => stop.abort(new HdError('INTERRUPTED', 'the build was stopped'));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, end);
  process.on('disconnect', end);
  process.on('message', end);
  mkdirSync(paths.stepsDir, { recursive: true, mode: 0o700 });
  mkdirSync(paths.runtimeRoot, { recursive: true, mode: 0o700 });
  const emit = (event: HdEvent): void => send({ event });
  if (problem !== undefined) emit({ type: 'warning', code: 'NO_FUSE', message: `no FUSE: ${problem}. Files are written out to disk, and tracing is off: a RUN runs again whenever anything in its tree has changed` });
  const runtime = new OciRuntime({ path: findRuntime({ configured: process.env['HD_RUNTIME'] }), root: paths.runtimeRoot });
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  try {
    const runner = {
      store, storeDir: home.storeDir, fuse, materializedDir: home.materializedDir, runtime, stepsDir: paths.stepsDir, containerPrefix: paths.containerPrefix,
      passthrough: hostPassthrough(process.env), hostEnv: process.env, signal: stop.signal,
    };
    return nameImage(store, request, await buildDockerfile({ home, store, actions, request, env: process.env, emit, signal: stop.signal, runner }));
  } finally {
    await fuse?.close();
    runtime.close();
    detachBelow(paths.dir);
    rmSync(paths.dir, { recursive: true, force: true });
  }
}

function send(message: BuildMessage, then?: () => void): void {
  if (process.connected) process.send?.(message, undefined, {}, () => then?.());
  else then?.();
}

const unwanted = (): void => void (fuse?.close() ?? Promise.resolve()).finally(() => process.exit(0));
process.once('disconnect', unwanted);
process.once('message', (request) => {
  process.off('disconnect', unwanted);
  const finish = (message: BuildMessage, code: number): void => send(message, () => process.exit(code));
  main(request as DockerfileRequest).then((built) => finish({ built }, 0), (error: unknown) => {
    if (!(error instanceof HdError)) process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    finish({ error: error instanceof HdError ? error.toJSON() : { code: 'INTERNAL', message: describeError(error) } }, 1);
  });
});
