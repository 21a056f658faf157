import type { ByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { ContainerSpec, OciRuntime } from '@hyperdocker/sandbox';
import { mountTargets } from '@hyperdocker/sandbox';
import type { ServiceSpec } from '@hyperdocker/spec';
import type { DetachedReply, ExecReply, ExecRequest } from './api.ts';
import type { Emit } from './events.ts';
import type { ExecSurroundings } from './execs.ts';
import { Execs } from './execs.ts';
import type { EnvPaths, Project } from './home.ts';
import { userOf } from './plan.ts';
import { endContainers } from './recover.ts';
import { ServiceSet } from './service-set.ts';
import type { Inhabited, Session } from './session.ts';
import { exitUnlessAborted, inTree } from './step-runner.ts';
import type { VolumeHost } from './volumes.ts';
import { allMounts, serviceMounts } from './volumes.ts';

export interface EnvironmentContainersOptions {
  store: Store;
  runtime: OciRuntime;
  runtimePath: string;
  project: Project;
  paths: EnvPaths;
  hostEnv: NodeJS.ProcessEnv;
  /** Services that name some run only with one of these. */
  profiles: readonly string[];
  emit: Emit;
}

/** The containers of an environment: its services and the commands beside them, and what each of them gets of it. */
export class EnvironmentContainers {
  readonly #options: EnvironmentContainersOptions;
  readonly #execs: Execs;

  constructor(options: EnvironmentContainersOptions) {
    this.#options = options;
    const { runtime, runtimePath, paths: { runtimeRoot, bundlesDir } } = options;
    this.#execs = new Execs({ runtime, runtimePath, runtimeRoot, bundlesDir, containerId: (what) => this.#id(what) });
  }

  get runtimePath(): string {
    return this.#options.runtimePath;
  }

  /** Not yet started. */
  services(session: Inhabited, { keepLogs }: { keepLogs: boolean }): ServiceSet {
    const { runtime, project, paths: { logsDir, bundlesDir }, profiles, emit } = this.#options;
    return new ServiceSet({
      keepLogs, runtime, specs: session.spec.services, network: session.network, projectDir: project.dir, logsDir, bundlesDir, profiles, emit,
      runCommand: (command, signal) => this.#runCommand(session, command, signal),
      container: (service, generation) => this.#ofService(session, service, generation),
    });
  }

  /** A command of a client's. @throws HdError USER_NOT_FOUND, CONTAINER_SPEC_INVALID */
  async exec(session: Inhabited, request: ExecRequest): Promise<ExecReply | DetachedReply> {
    const surroundings = this.#surroundings(session, request.user);
    return request.detach === true ? await this.#execs.detach(request, surroundings) : this.#execs.prepare(request, surroundings);
  }

  /** Clients that were told how to run a command, and have not begun, find nothing to run. */
  forgetExecs(): void {
    this.#execs.forget();
  }

  /** Of this environment, whoever made them. */
  end(which?: (id: string) => boolean): Promise<void> {
    return endContainers(this.#options.paths, this.#options.runtimePath, which);
  }

  /** A readiness command, in a container of its own on the live root. */
  async #runCommand(session: Inhabited, command: string, signal: AbortSignal): Promise<boolean> {
    const { container, done } = this.#execs.run(['/bin/sh', '-c', command], this.#surroundings(session));
    const exit = await exitUnlessAborted(container, signal);
    done();
    return exit.code === 0;
  }

  /** @throws HdError USER_NOT_FOUND */
  #ofService(session: Inhabited, { name, user: named, limits, privileged, volumes }: ServiceSpec, generation: number): Omit<ContainerSpec, 'args'> {
    const { plan, network, build: { tree } } = session;
    const user = named === undefined ? plan.user : userOf(this.#options.store, tree, named);
    const base = baseContainer(session);
    const mounts = [...base.mounts, ...serviceMounts(this.#volumeHost, volumes, tree, user)];
    const env = { ...plan.env, ...(named === undefined ? {} : { HOME: user.home }), ...network.env };
    return { ...base, id: this.#id(`${name}-${generation}`), mounts, env, cwd: plan.workdir, user, terminal: false, limits, privileged };
  }

  /** @throws HdError USER_NOT_FOUND */
  #surroundings(session: Inhabited, user?: string): ExecSurroundings {
    const { plan, spec, build: { tree }, network } = session;
    const container = baseContainer(session);
    const mounts = [...container.mounts, ...serviceMounts(this.#volumeHost, allMounts(spec.services), tree, plan.user)];
    return { container: { ...container, mounts }, user: user === undefined ? plan.user : userOf(this.#options.store, tree, user), env: { ...plan.env, ...network.env }, workdir: plan.workdir };
  }

  get #volumeHost(): VolumeHost {
    const { store, paths, project, hostEnv } = this.#options;
    return { store, paths, projectDir: project.dir, env: hostEnv };
  }

  #id(what: string): string {
    return `${this.#options.paths.containerPrefix}${process.pid}-${what}`;
  }
}

/** Paths of the root that the runtime makes for what it mounts there. */
export function mountPoints({ network, spec }: Pick<Session, 'network' | 'spec'>): Set<ByteString> {
  const volumes = allMounts(spec.services).map(({ target }) => ({ source: '', destination: target, readonly: false }));
  return new Set(mountTargets({ mounts: [...(network?.container.mounts ?? []), ...volumes] }).map(({ path }) => inTree(path)));
}

function baseContainer({ live, network, plan }: Inhabited): Pick<ContainerSpec, 'rootfs' | 'hostname' | 'mounts' | 'network'> {
  return { rootfs: live.merged, hostname: plan.spec.environment.name, ...network.container };
}
