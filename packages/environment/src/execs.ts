import { lstatSync, rmSync } from 'node:fs';
import { join, posix } from 'node:path';
import { inUserNamespace } from '@hyperdocker/base';
import type { ContainerSpec, OciRuntime, RunningContainer } from '@hyperdocker/sandbox';
import { prepareBundle } from '@hyperdocker/sandbox';
import type { DetachedReply, ExecReply, ExecRequest } from './api.ts';
import type { PlanUser } from './plan.ts';
import { enterMounts } from './user-namespace.ts';

/** In the names of containers of `hd exec`: these end with their commands, not with a supervisor. */
export const EXEC = 'exec';

export interface ExecsOptions {
  runtime: OciRuntime;
  runtimePath: string;
  runtimeRoot: string;
  bundlesDir: string;
  /** Of a container that is not there yet. */
  containerId: (what: string) => string;
}

/** What a command runs in: the environment as it is now. */
export interface ExecSurroundings {
  container: Pick<ContainerSpec, 'rootfs' | 'hostname' | 'mounts' | 'network'>;
  user: PlanUser;
  /** All of it, but for what the request says itself. */
  env: Readonly<Record<string, string>>;
  workdir: string;
}

/**
 * The commands that run beside the services, each in a container of its own on the environment's files. Those of clients are run by the clients, so that they have
 * their terminals and die with them; others by this process. All end with the environment.
 */
export class Execs {
  readonly #options: ExecsOptions;
  #count = 0;
  readonly #prepared = new Set<string>();

  constructor(options: ExecsOptions) {
    this.#options = options;
  }

  /** For a client to run. @throws HdError CONTAINER_SPEC_INVALID */
  prepare(request: ExecRequest, surroundings: ExecSurroundings): ExecReply {
    const { runtimePath, runtimeRoot } = this.#options;
    const { spec, bundleDir } = this.#spec(EXEC, request, surroundings, { init: true });
    prepareBundle(bundleDir, spec);
    this.#prepared.add(bundleDir);
    const prefix = [...enterMounts(process.pid, { ordinary: inUserNamespace() }), '--root', '--'];
    return { container: { id: spec.id, terminal: spec.terminal, init: spec.init === true }, runtime: runtimePath, runtimeRoot, prefix, bundleDir };
  }

  /** Runs a command of the environment's own, such as one that tells whether a service is ready. */
  run(args: string[], surroundings: ExecSurroundings): { container: RunningContainer; done: () => void } {
    const { spec, bundleDir } = this.#spec('own', { args, terminal: false, env: {} }, surroundings, { init: true });
    const container = this.#options.runtime.run(spec, { bundleDir, stdio: 'capture' });
    return { container, done: () => rmSync(bundleDir, { recursive: true, force: true }) };
  }

  /** Runs a command for nobody, without its output being kept. Resolves once it runs, or cannot. */
  async detach(request: ExecRequest, surroundings: ExecSurroundings): Promise<DetachedReply> {
    // As process 1 the command is looked up by the runtime, which tells at once when it is not there.
    const { spec, bundleDir } = this.#spec(EXEC, { ...request, terminal: false }, surroundings, { init: false });
    const container = this.#options.runtime.run(spec, { bundleDir, stdio: 'capture' });
    void container.exit.then(() => rmSync(bundleDir, { recursive: true, force: true }));
    if (await container.started()) return { id: spec.id, exitCode: 0 };
    const { code, problem } = await container.exit;
    return { id: spec.id, exitCode: code, ...(problem === undefined ? {} : { error: problem.toJSON() }) };
  }

  /** A client that was told how to run a command and has not begun finds nothing to run. What runs is ended with all containers of the environment. */
  forget(): void {
    for (const bundleDir of this.#prepared) rmSync(bundleDir, { recursive: true, force: true });
    this.#prepared.clear();
  }

  #spec(what: string, request: ExecRequest, { container, user, env, workdir }: ExecSurroundings, { init }: { init: boolean }): { spec: ContainerSpec; bundleDir: string } {
    const id = this.#options.containerId(`${what}${++this.#count}`);
    const hasShell = lstatSync(join(container.rootfs, 'bin/sh'), { throwIfNoEntry: false }) !== undefined;
    const home = request.user === undefined ? {} : { HOME: user.home };
    const spec: ContainerSpec = {
      ...container,
      id,
      args: request.args.length === 0 ? openShell(user) : request.args,
      env: { ...env, ...home, ...request.env },
      cwd: posix.resolve(workdir, request.workdir ?? '.'),
      user,
      terminal: request.terminal,
      ...(request.terminalSize === undefined ? {} : { terminalSize: request.terminalSize }),
      init: init && hasShell,
    };
    return { spec, bundleDir: join(this.#options.bundlesDir, id) };
  }
}

/** What an image names for users who are not meant to log in, and what stands there where nobody has chosen. */
const NO_CHOICE = ['', '/bin/sh', '/usr/bin/sh'];
const NO_SHELL = /\/(nologin|false|true|sync|halt|shutdown)$/;

/** The shell that the image names for the user, else bash, else sh. */
function openShell({ shell }: PlanUser): string[] {
  const chosen = NO_CHOICE.includes(shell) || NO_SHELL.test(shell) ? [] : [shell];
  const script = 'for shell in "$@"; do if [ -x "$shell" ]; then export SHELL="$shell"; exec "$shell"; fi; done; export SHELL=/bin/sh; exec /bin/sh';
  return ['/bin/sh', '-c', script, 'shell', ...chosen, '/bin/bash', '/usr/bin/bash', '/usr/local/bin/bash'];
}
