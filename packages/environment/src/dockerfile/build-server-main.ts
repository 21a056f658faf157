/** The process that builds Dockerfiles: started by `build-server.ts`, which draws its life, in a mount namespace of its own. */
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError, describeError, listenPrivately } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { FuseHost, detachBelow, fuseProblem } from '@hyperdocker/mount';
import { OciRuntime, findRuntime } from '@hyperdocker/sandbox';
import type { Home } from '../home.ts';
import { openHome } from '../home.ts';
import { MemoryRelease } from '../memory-release.ts';
import { hostPassthrough } from '../passthrough.ts';
import { buildPaths } from './build-files.ts';
import type { BuildMessage, BuildOrder } from './build-server.ts';
import { connectToServer, serversDir } from './build-server.ts';
import { buildDockerfile } from './builder.ts';
import { nameImage } from './name-image.ts';
import type { DockerfileBuilt } from './request.ts';

/** Without HD_LINGER_SECONDS. */
const LINGER_SECONDS = 180;
/** Whoever has started it comes within this time. */
const FIRST_MS = 10_000;
/** Who asked and does not listen is not waited for any longer. */
const HEARD_MS = 5_000;

class BuildServer {
  readonly #home: Home;
  readonly #lingerMs: number;
  readonly #paths;
  readonly #problem = fuseProblem();
  readonly #fuse: FuseHost | undefined;
  readonly #runtime: OciRuntime;
  readonly #server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));
  readonly #builds = new Set<AbortController>();
  readonly #memory = new MemoryRelease();
  #open: { store: Store; actions: ActionCache; ids: string } | undefined;
  #listening: { path: string; id: number | undefined } | undefined;
  #idle: NodeJS.Timeout | undefined;
  /** No build is begun any more. */
  #isLeaving = false;

  constructor(home: Home, env: NodeJS.ProcessEnv) {
    this.#home = home;
    this.#lingerMs = 1_000 * lingerSeconds(env['HD_LINGER_SECONDS']);
    this.#paths = buildPaths(home, process.pid);
    // Its process takes as long to start as everything up to the first command.
    this.#fuse = this.#problem === undefined ? new FuseHost({ logFd: 2, attributeFreeFile: home.attributeFreeFile, onDeath: () => this.leave() }) : undefined;
    this.#runtime = new OciRuntime({ path: findRuntime({ configured: env['HD_RUNTIME'] }), root: this.#paths.runtimeRoot });
  }

  /** Two that start at once take the name one after the other; nobody comes to the first any more, and it ends by itself. */
  async listen(path: string): Promise<void> {
    const own = `${path}.${process.pid}`;
    await listenPrivately(this.#server, own);
    renameSync(own, path);
    this.#listening = { path, id: idOf(path) };
    this.#idle = setTimeout(() => this.leave(), Math.max(this.#lingerMs, FIRST_MS));
  }

  stop(): void {
    for (const build of this.#builds) build.abort(stopped());
    this.leave();
  }

  /** Takes no more builds, and ends with the last. */
  leave(): void {
    if (this.#isLeaving) return;
    this.#isLeaving = true;
    const { path = '', id } = this.#listening ?? {};
    if (id !== undefined && idOf(path) === id) rmSync(path, { force: true });
    if (this.#builds.size === 0) void this.#end();
  }

  async #end(): Promise<void> {
    // What was answered is read first.
    const heard = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
    this.#close();
    this.#runtime.close();
    await Promise.allSettled([this.#fuse?.close(), Promise.race([heard, delay(HEARD_MS)])]);
    process.exit(0);
  }

  #serve(socket: Socket): void {
    const stop = new AbortController();
    const end = (): void => stop.abort(stopped());
    const send = (message: BuildMessage): void => void (socket.writable && socket.write(`${JSON.stringify(message)}\n`));
    socket.on('error', end);
    const lines = createInterface({ input: socket, crlfDelay: Infinity });
    lines.once('close', () => {
      end();
      // Somebody who only wanted to know whether anybody listens.
      if (!this.#builds.has(stop)) socket.destroy();
    });
    lines.once('line', (line) => {
      if (this.#isLeaving) return void socket.destroy();
      clearTimeout(this.#idle);
      this.#builds.add(stop);
      send({ begun: true });
      this.#build(line, stop.signal, send).then((built) => send({ built }), (error: unknown) => send({ error: told(error) })).finally(() => {
        socket.end();
        this.#finished(stop);
      });
    });
  }

  async #build(line: string, signal: AbortSignal, send: (message: BuildMessage) => void): Promise<DockerfileBuilt> {
    const { request, env } = JSON.parse(line) as BuildOrder;
    const home = this.#home;
    const { stepsDir, runtimeRoot, containerPrefix } = this.#paths;
    for (const dir of [stepsDir, runtimeRoot]) mkdirSync(dir, { recursive: true, mode: 0o700 });
    if (this.#problem !== undefined) send({ event: { type: 'warning', code: 'NO_FUSE', message: `no FUSE: ${this.#problem}. Files are written out to disk, and tracing is off: a RUN runs again whenever anything in its tree has changed` } });
    const { store, actions } = this.#storeNow();
    const runner = {
      store, storeDir: home.storeDir, fuse: this.#fuse, materializedDir: home.materializedDir, runtime: this.#runtime, stepsDir, containerPrefix,
      passthrough: hostPassthrough(env), hostEnv: env, signal,
    };
    return nameImage(store, request, await buildDockerfile({ home, store, actions, request, env, emit: (event) => send({ event }), signal, runner }));
  }

  #finished(build: AbortController): void {
    this.#builds.delete(build);
    if (this.#builds.size > 0) return;
    detachBelow(this.#paths.dir);
    rmSync(this.#paths.dir, { recursive: true, force: true });
    this.#memory.worked();
    if (this.#isLeaving) void this.#end();
    else if (this.#lingerMs === 0) this.leave();
    else this.#idle = setTimeout(() => this.leave(), this.#lingerMs);
  }

  /** Who removes a store and makes another does not wait for this process to end. */
  #storeNow(): { store: Store; actions: ActionCache } {
    const { storeDir, actionsFile } = this.#home;
    const ids = (): string => `${idOf(storeDir)} ${idOf(actionsFile)}`;
    if (this.#open?.ids !== ids()) this.#close();
    if (this.#open === undefined) {
      const store = openStore(storeDir, { nodeLinks });
      this.#open = { store, actions: openActionCache(actionsFile, store), ids: ids() };
    }
    return this.#open;
  }

  #close(): void {
    this.#open?.actions[Symbol.dispose]();
    this.#open?.store[Symbol.dispose]();
    this.#open = undefined;
  }
}

function told(error: unknown): ReturnType<HdError['toJSON']> {
  if (error instanceof HdError) return error.toJSON();
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return { code: 'INTERNAL', message: describeError(error) };
}

function stopped(): HdError {
  return new HdError('INTERRUPTED', 'the build was stopped');
}

/** Of a file's name that is given to another file, this is another. */
function idOf(path: string): number | undefined {
  return existsSync(path) ? statSync(path).ino : undefined;
}

/** Sockets of servers that were killed. */
async function removeDead(home: Home): Promise<void> {
  const dir = serversDir(home);
  for (const name of readdirSync(dir)) {
    const connection = await connectToServer(join(dir, name));
    if (connection === undefined) rmSync(join(dir, name), { force: true });
    else connection.close();
  }
}

function lingerSeconds(text: string | undefined): number {
  const seconds = Number.parseInt(text ?? '', 10);
  return seconds >= 0 ? seconds : LINGER_SECONDS;
}

const home = openHome();
await removeDead(home);
const server = new BuildServer(home, process.env);
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => server.stop());
await server.listen(process.argv[2] ?? '');
process.send?.({ listening: true });
