/** The process that builds Dockerfiles, and environments that do not run: started by `build-server.ts`, which draws its life, in a mount namespace of its own. It also answers calls (`calls.ts`). */
import { existsSync, mkdirSync, readdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { dirname, join, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import type { HdErrorJson } from '@hyperdocker/base';
import { HdError, describeError, listenPrivately } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { openStore } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { FuseHost, detachBelow, fuseProblem } from '@hyperdocker/mount';
import { OciRuntime, findRuntime } from '@hyperdocker/sandbox';
import { buildEnvironment } from './build-environment.ts';
import type { BuildMessage, BuildOrder, Built, DockerfileOrder, EnvironmentOrder, ServerStarted } from './build-server.ts';
import { connectToServer, serverLog, serverSocket, serversDir, serversDoor } from './build-server.ts';
import type { AnswerCall, Call } from './calls.ts';
import { TAKEN, decodeCall, encodeAnswer } from './calls.ts';
import { removeDeadBuilds } from './dead-builds.ts';
import { buildDockerfile } from './dockerfile/builder.ts';
import { buildPaths } from './dockerfile/build-files.ts';
import { nameImage } from './dockerfile/name-image.ts';
import type { DockerfileBuilt } from './dockerfile/request.ts';
import type { HdEvent } from './events.ts';
import type { Home } from './home.ts';
import { openHome } from './home.ts';
import { withoutFuse } from './machine-warnings.ts';
import { MemoryRelease } from './memory-release.ts';
import { hostPassthrough } from './passthrough.ts';
import { secondsSetting } from './seconds-setting.ts';
import type { SpecText } from './spec-text.ts';

/** Without HD_LINGER_SECONDS. */
const LINGER_SECONDS = 180;
/** Whoever has started it comes within this time. */
const FIRST_MS = 10_000;
/** After this time it listens, or never will. */
const STARTING_MS = 60_000;
/** Who asked and does not listen is not waited for any longer. */
const HEARD_MS = 5_000;

export interface ServerOptions {
  /** The file of the program that calls this. */
  program: string;
  answer: AnswerCall;
}

class BuildServer {
  readonly #options: ServerOptions;
  readonly #home: Home;
  readonly #lingerMs: number;
  readonly #paths;
  readonly #problem = fuseProblem();
  readonly #fuse: FuseHost | undefined;
  readonly #runtime: OciRuntime;
  readonly #server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));
  readonly #builds = new Set<AbortController>();
  readonly #memory = new MemoryRelease({ before: () => this.#open?.store.clearCaches() });
  /** Ends what runs on files that nobody serves any more. */
  readonly #served = new AbortController();
  #open: { store: Store; actions: ActionCache; ids: string } | undefined;
  /** Names that are this server's while they stand for its files. */
  readonly #listening: { path: string; id: number | undefined }[] = [];
  #idle: NodeJS.Timeout | undefined;
  /** No build is begun any more. */
  #isLeaving = false;

  constructor(options: ServerOptions, home: Home, env: NodeJS.ProcessEnv, runtimePath: string) {
    this.#options = options;
    this.#home = home;
    this.#lingerMs = secondsSetting(env, 'HD_LINGER_SECONDS', LINGER_SECONDS);
    this.#paths = buildPaths(home, process.pid);
    // Its process takes as long to start as everything up to the first command.
    this.#fuse = this.#problem === undefined ? new FuseHost({ logFd: 2, attributeFreeFile: home.attributeFreeFile, onDeath: () => this.#filesLost() }) : undefined;
    this.#runtime = new OciRuntime({ path: runtimePath, root: this.#paths.runtimeRoot });
  }

  /** Two that start at once take the name one after the other; nobody comes to the first any more, and it ends by itself. */
  async listen(path: string): Promise<void> {
    await this.#listenAt(path, this.#server);
    if (this.#isLeaving) return;
    this.#idle = setTimeout(() => this.leave(), Math.max(this.#lingerMs, FIRST_MS));
    if (this.#lingerMs > 0) await this.#listenAt(serversDoor(this.#home), createServer({ allowHalfOpen: true }, (socket) => this.#serveCall(socket)));
  }

  async #listenAt(path: string, server: Server): Promise<void> {
    const own = `${path}.${process.pid}`;
    await listenPrivately(server, own);
    if (this.#isLeaving) return void rmSync(own, { force: true });
    renameSync(own, path);
    this.#listening.push({ path, id: idOf(path) });
  }

  stop(): void {
    for (const build of this.#builds) build.abort(stopped());
    this.leave();
  }

  /** Takes no more builds, and ends with the last. */
  leave(): void {
    if (this.#isLeaving) return;
    this.#close();
    if (this.#builds.size === 0) void this.#letGo().then(() => this.#end());
  }

  /** Nobody finds it any more. */
  #close(): void {
    this.#isLeaving = true;
    for (const { path, id } of this.#listening) if (id !== undefined && idOf(path) === id) rmSync(path, { force: true });
  }

  #filesLost(): void {
    this.#served.abort(new HdError('FUSE_HOST_DIED', 'the process that serves the files ended unexpectedly', { hint: 'start the build again' }));
    this.leave();
  }

  async #letGo(): Promise<void> {
    this.#closeStore();
    // At its end Node would write it to a home that may be copied or removed by then.
    flushCompileCache();
    this.#runtime.close();
    await this.#fuse?.close();
  }

  async #end(): Promise<void> {
    // What was answered is read first.
    const heard = new Promise<void>((resolve) => void this.#server.close(() => resolve()));
    await Promise.race([heard, delay(HEARD_MS)]);
    process.exit(0);
  }

  #serve(socket: Socket): void {
    const stop = new AbortController();
    const end = (): void => stop.abort(stopped());
    const send = (message: BuildMessage): void => void (socket.writable && socket.write(`${JSON.stringify(message)}\n`));
    socket.on('error', end);
    const lines = createInterface({ input: socket, crlfDelay: Infinity });
    // It passes on those of its input.
    lines.on('error', end);
    lines.once('close', () => {
      end();
      // Somebody who only wanted to know whether anybody listens.
      if (!this.#builds.has(stop)) socket.destroy();
    });
    lines.once('line', (line) => {
      if (this.#isLeaving) return void socket.destroy();
      this.#begin(stop);
      send({ begun: true });
      void this.#answer(line, stop, send).then(() => this.#hangUp(socket));
    });
  }

  #serveCall(socket: Socket): void {
    const stop = new AbortController();
    const parts: Buffer[] = [];
    const end = (): void => stop.abort(stopped());
    socket.on('error', end);
    socket.once('close', end);
    socket.on('data', (part: Buffer) => void parts.push(part));
    socket.once('end', () => {
      const call = decodeCall(Buffer.concat(parts));
      if (call === undefined || this.#isLeaving || !this.#isOurs(call)) return void socket.end();
      this.#begin(stop);
      socket.write(TAKEN);
      void this.#answerCall(call, stop).then((answer) => {
        if (answer !== undefined) socket.write(answer);
        this.#hangUp(socket);
      });
    });
  }

  #begin(build: AbortController): void {
    clearTimeout(this.#idle);
    this.#builds.add(build);
  }

  #hangUp(socket: Socket): void {
    socket.end();
    if (this.#isLeaving && this.#builds.size === 0) void this.#end();
  }

  /** Would the program of the call come to this server? */
  #isOurs({ main, cwd, env }: Call): boolean {
    const { program } = this.#options;
    try {
      return dirname(realpathSync(resolve(cwd, main))) === dirname(realpathSync(program)) && this.#listening[0]?.path === serverSocket({ home: this.#home, env, program });
    } catch {
      return false;
    }
  }

  async #answerCall(call: Call, stop: AbortController): Promise<Buffer | undefined> {
    try {
      const answer = await this.#options.answer(call, { home: this.#home, ...this.#storeNow(), signal: stop.signal });
      return answer === undefined ? undefined : encodeAnswer(answer);
    } catch {
      return undefined;
    } finally {
      await this.#finished(stop);
    }
  }

  /** Before its last answer, a server lets go of everything: who hears that one may remove it all. */
  async #answer(line: string, stop: AbortController, send: (message: BuildMessage) => void): Promise<void> {
    const answer = await this.#build(line, stop.signal, send).then((built) => ({ built }), (error: unknown) => ({ error: told(error, this.#home) }));
    const mayBeLast = this.#isLeaving || this.#lingerMs === 0;
    if (!mayBeLast) send(answer);
    await this.#finished(stop);
    if (mayBeLast) send(answer);
  }

  async #build(line: string, stopped: AbortSignal, send: (message: BuildMessage) => void): Promise<Built> {
    const order = JSON.parse(line) as BuildOrder;
    const { stepsDir, runtimeRoot } = this.#paths;
    for (const dir of [stepsDir, runtimeRoot]) mkdirSync(dir, { recursive: true, mode: 0o700 });
    const signal = AbortSignal.any([stopped, this.#served.signal]);
    return order.kind === 'dockerfile' ? { kind: 'dockerfile', image: await this.#dockerfile(order, signal, send) } : { kind: 'environment', root: await this.#environment(order, signal, send) };
  }

  async #dockerfile({ request, env }: DockerfileOrder, signal: AbortSignal, send: (message: BuildMessage) => void): Promise<DockerfileBuilt> {
    const home = this.#home;
    const { stepsDir, containerPrefix } = this.#paths;
    const emit = (event: HdEvent): void => send({ event });
    if (this.#problem !== undefined) emit(withoutFuse(this.#problem, 'a RUN'));
    const { store, actions } = this.#storeNow();
    const runner = {
      store, storeDir: home.storeDir, fuse: this.#fuse, materializedDir: home.materializedDir, runtime: this.#runtime, stepsDir, containerPrefix,
      passthrough: hostPassthrough(env), hostEnv: env, signal,
    };
    return nameImage(store, request, await buildDockerfile({ home, store, actions, request, env, emit, signal, runner }));
  }

  async #environment(order: EnvironmentOrder, signal: AbortSignal, send: (message: BuildMessage) => void): Promise<string> {
    const home = this.#home;
    const { projectDir, env: hostEnv, refreshImage, noCache } = order;
    const file = await specOf(order, () => send({ diagnosed: true }));
    const emit = (event: HdEvent): void => send({ event });
    if (this.#problem !== undefined) emit(withoutFuse(this.#problem, 'a step'));
    const { store, actions } = this.#storeNow();
    const files = { projector: (of: Store) => ({ store: of, storeDir: home.storeDir, fuse: this.#fuse, materializedDir: home.materializedDir }), signal };
    return await buildEnvironment({ home, projectDir, file, store, actions, runtime: this.#runtime, files, scratch: this.#paths, hostEnv, refreshImage, noCache, emit, signal });
  }

  async #finished(build: AbortController): Promise<void> {
    this.#builds.delete(build);
    if (this.#builds.size > 0) return;
    detachBelow(this.#paths.dir);
    rmSync(this.#paths.dir, { recursive: true, force: true });
    this.#memory.worked();
    if (this.#lingerMs === 0) this.#close();
    if (this.#isLeaving) await this.#letGo();
    else this.#idle = setTimeout(() => this.leave(), this.#lingerMs);
  }

  /** Who removes a store and makes another does not wait for this process to end. */
  #storeNow(): { store: Store; actions: ActionCache } {
    const { storeDir, actionsFile } = this.#home;
    const ids = (): string => `${idOf(storeDir)} ${idOf(actionsFile)}`;
    if (this.#open?.ids !== ids()) this.#closeStore();
    if (this.#open === undefined) {
      const store = openStore(storeDir, { nodeLinks });
      this.#open = { store, actions: openActionCache(actionsFile, store), ids: ids() };
    }
    return this.#open;
  }

  #closeStore(): void {
    this.#open?.actions[Symbol.dispose]();
    this.#open?.store[Symbol.dispose]();
    this.#open = undefined;
  }
}

/** @throws HdError SPEC_INVALID, once `onDiagnosed` has been called */
async function specOf({ text, spec }: EnvironmentOrder, onDiagnosed: () => void): Promise<SpecText> {
  if (spec !== undefined) return { text, spec };
  const { parseSpecText } = await import('./spec-file.ts');
  const file = parseSpecText(text);
  if (!file.ok || file.warnings.length > 0) onDiagnosed();
  if (!file.ok) throw new HdError('SPEC_INVALID', 'hd.toml has errors');
  return file;
}

function told(error: unknown, home: Home): HdErrorJson {
  if (error instanceof HdError) return error.toJSON();
  process.stderr.write(`${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
  return { code: 'INTERNAL', message: describeError(error), hint: `this is a bug; see ${serverLog(home)}` };
}

function stopped(): HdError {
  return new HdError('INTERRUPTED', 'the build was stopped');
}

/** Of a file's name that is given to another file, this is another. */
function idOf(path: string): number | undefined {
  return existsSync(path) ? statSync(path).ino : undefined;
}

/** Sockets of servers that were killed. One that starts may not have come so far that it listens. */
async function removeDead(home: Home): Promise<void> {
  const dir = serversDir(home);
  for (const path of readdirSync(dir).map((name) => join(dir, name))) {
    const stats = statSync(path, { throwIfNoEntry: false });
    if (stats === undefined || Date.now() - stats.mtimeMs < STARTING_MS) continue;
    const connection = await connectToServer(path);
    if (connection === undefined) rmSync(path, { force: true });
    else connection.close();
  }
}

/** All of the process: who has started it is told `ServerStarted`. */
export async function serveBuilds(options: ServerOptions): Promise<void> {
  const home = openHome();
  try {
    const runtimePath = findRuntime({ configured: process.env['HD_RUNTIME'] });
    await removeDead(home);
    await removeDeadBuilds(home, runtimePath);
    const server = new BuildServer(options, home, process.env, runtimePath);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => server.stop());
    // Whoever has started it wants it no more, or is gone.
    process.once('disconnect', () => server.leave());
    await server.listen(process.argv[2] ?? '');
    process.removeAllListeners('disconnect');
    if (process.connected) process.send?.({ listening: true } satisfies ServerStarted);
  } catch (error) {
    process.send?.({ error: told(error, home) } satisfies ServerStarted, undefined, {}, () => process.exit(1));
  }
}
