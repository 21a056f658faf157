import { createServer, isIPv4 } from 'node:net';
import { closeSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError, hasher } from '@hyperdocker/base';
import type { ContainerMount, ContainerSpec, Expected, ReadinessProbe, WayOut } from '@hyperdocker/sandbox';
import { PrivateNetwork, WAYS_OUT, listenAt, waitUntilReady } from '@hyperdocker/sandbox';
import type { EnvSpec, ReachSpec } from '@hyperdocker/spec';
import type { Emit } from './events.ts';
import type { EnvPaths, Home } from './home.ts';
import { RELAYED_RESOLVER, hostsFile, loopbackProxies, resolverFile, withoutProxyFor } from './network-files.ts';
import type { Passthrough } from './passthrough.ts';
import type { PublishedPort } from './published-ports.ts';
import { takePorts } from './published-ports.ts';

/** The network that the services of an environment are in, and every command that is run beside them. */
export interface EnvironmentNetwork extends AsyncDisposable {
  /** Undefined where it is the host's. */
  readonly way: WayOut | undefined;
  /** What a container has to have to be in it. */
  readonly container: Pick<ContainerSpec, 'network' | 'mounts'>;
  /** Variables beside those of the environment: proxies and certificates. */
  readonly env: Readonly<Record<string, string>>;
  /** Where a service can be reached on the host. */
  published(service: string): Pick<PublishedPort, 'service' | 'address' | 'port'> | undefined;
  /** Before services start. @throws HdError PORT_TAKEN */
  checkPorts(): Promise<void>;
  waitUntilReady(probe: ReadinessProbe, signal: AbortSignal): Promise<'ready' | 'aborted'>;
  /** What becomes of connections to a service's published port. */
  expect(service: string, state: Expected): void;
  /** The socket at the port of a service that is to be handed one. It listens for as long as this is open. */
  socketOf(service: string): number | undefined;
}

export interface NetworkOptions {
  spec: EnvSpec;
  home: Home;
  paths: EnvPaths;
  hostEnv: NodeJS.ProcessEnv;
  passthrough: Passthrough;
  emit: Emit;
  onDeath: (error: Error) => void;
}

/** @throws HdError NETWORK_NAMESPACE, PUBLISH_ADDRESS, NO_FREE_PORT */
export async function openNetwork(options: NetworkOptions): Promise<EnvironmentNetwork> {
  if (options.spec.environment.network === 'host') return new HostNetwork(options);
  const { paths, hostEnv, spec, emit } = options;
  const network = await PrivateNetwork.open({
    ways: configuredWays(hostEnv), searchPath: hostEnv['PATH'] ?? '', onDeath: options.onDeath,
    seed: Number.parseInt(hasher.hash(Buffer.from(paths.id)).slice(0, 8), 16),
  });
  try {
    if (network.way === 'none') emit({ type: 'warning', code: 'NO_WAY_OUT', message: `services reach nothing outside of their network (${network.refused.map(({ way, reason }) => `${way}: ${reason}`).join('; ')}); \`network = "host"\` in [environment] gives them that of the host` });
    const proxies = loopbackProxies(options.passthrough.env).filter(({ port }) => !spec.services.some((service) => service.port === port));
    for (const { address, port } of proxies) await network.relay(address, port, { host: address, port });
    const resolver = resolverFile(readIfThere('/etc/resolv.conf'), (address) => reaches(network.way, address));
    if (resolver.relayTo !== undefined) await network.relay(RELAYED_RESOLVER, 53, { host: resolver.relayTo, port: 53, names: true });
    for (const { address, port, hostPort } of reachedFrom(spec)) await network.relay(address, port, { host: '127.0.0.1', port: hostPort });
    const ports = takePorts(spec.services, options);
    for (const { service, port, instead } of ports) {
      if (instead !== undefined) emit({ type: 'warning', code: 'PORT_TAKEN', message: `port ${instead} is not to be had: ${service} is published on port ${port}` });
    }
    const opened = new OwnNetwork(options, network, resolver.text, ports);
    await opened.forward();
    await opened.hold(spec.services);
    return opened;
  } catch (error) {
    await network[Symbol.asyncDispose]();
    throw error;
  }
}

/** Which ways out may be tried, and in which order: `HD_OUTLET`, such as "pasta" or "veth,none". @throws HdError USAGE */
export function configuredWays(env: NodeJS.ProcessEnv): readonly WayOut[] {
  const text = env['HD_OUTLET'] ?? '';
  if (text === '') return WAYS_OUT;
  return text.split(',').map((name) => {
    const way = WAYS_OUT.find((known) => known === name.trim());
    if (way === undefined) throw new HdError('USAGE', `HD_OUTLET names ${JSON.stringify(name)}, which is no way out`, { hint: `it may name ${WAYS_OUT.join(', ')}` });
    return way;
  });
}

/** What an address that is not one of loopback has to do with a way out. */
function reaches(way: WayOut, address: string): boolean {
  if (way === 'pasta') return true;
  // Names are asked over UDP, which the relay does not carry.
  return way !== 'relay' && isIPv4(address);
}

class HostNetwork implements EnvironmentNetwork {
  readonly way = undefined;
  readonly container: EnvironmentNetwork['container'];
  readonly env: Readonly<Record<string, string>>;
  readonly #services: EnvSpec['services'];
  readonly #sockets = new Map<string, number>();

  constructor({ spec, paths, passthrough }: NetworkOptions) {
    this.#services = spec.services;
    this.env = passthrough.env;
    const hosts = hostsFile({ text: readIfThere('/etc/hosts'), hostname: spec.environment.name, services: spec.services.map(({ name }) => name), others: spec.environment.reach.map(({ name }) => ({ address: '127.0.0.1', name })), isPrivate: false });
    this.container = { network: 'host', mounts: withFiles(passthrough.mounts, { '/etc/hosts': writeFile(paths, 'hosts', hosts) }) };
  }

  published(service: string): Pick<PublishedPort, 'service' | 'address' | 'port'> | undefined {
    const port = this.#services.find(({ name }) => name === service)?.port;
    return port === undefined ? undefined : { service, address: 'loopback', port };
  }

  /** A port that something else holds would look like a ready service. */
  async checkPorts(): Promise<void> {
    for (const { name, port, socket } of this.#services) {
      if (port !== undefined && socket) this.#sockets.set(name, this.#sockets.get(name) ?? holdHere(name, port));
      else if (port !== undefined && !(await isFree(port))) {
        throw portTaken(name, port);
      }
    }
  }

  waitUntilReady(probe: ReadinessProbe, signal: AbortSignal): Promise<'ready' | 'aborted'> {
    return waitUntilReady(probe, signal);
  }

  expect(): void {}

  socketOf(service: string): number | undefined {
    return this.#sockets.get(service);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const fd of this.#sockets.values()) closeSync(fd);
    this.#sockets.clear();
  }
}

class OwnNetwork implements EnvironmentNetwork {
  readonly container: EnvironmentNetwork['container'];
  readonly env: Readonly<Record<string, string>>;
  readonly #network: PrivateNetwork;
  readonly #ports: readonly PublishedPort[];
  readonly #sockets = new Map<string, number>();

  constructor({ spec, paths, passthrough }: NetworkOptions, network: PrivateNetwork, resolver: string, ports: readonly PublishedPort[]) {
    this.#network = network;
    this.#ports = ports;
    const services = spec.services.map(({ name }) => name);
    const others = reachedFrom(spec);
    this.env = withoutProxyFor(passthrough.env, [...services, ...others.map(({ name }) => name)]);
    const hosts = hostsFile({ text: readIfThere('/etc/hosts'), hostname: spec.environment.name, services, others, isPrivate: true });
    this.container = {
      network: { path: network.path },
      mounts: withFiles(passthrough.mounts, { '/etc/hosts': writeFile(paths, 'hosts', hosts), '/etc/resolv.conf': writeFile(paths, 'resolv.conf', resolver) }),
    };
  }

  get way(): WayOut {
    return this.#network.way;
  }

  async forward(): Promise<void> {
    for (const { service, fds, inside } of this.#ports) await this.#network.forward(service, fds, inside);
  }

  published(service: string): Pick<PublishedPort, 'service' | 'address' | 'port'> | undefined {
    return this.#ports.find((port) => port.service === service);
  }

  async checkPorts(): Promise<void> {}

  waitUntilReady(probe: ReadinessProbe, signal: AbortSignal): Promise<'ready' | 'aborted'> {
    return probe.kind === 'port' || probe.kind === 'http' || probe.kind === 'accepted' ? this.#network.waitUntilReady(probe, signal) : waitUntilReady(probe, signal);
  }

  async hold(services: EnvSpec['services']): Promise<void> {
    for (const { name, port, socket } of services) if (socket && port !== undefined) this.#sockets.set(name, await this.#network.hold('127.0.0.1', port));
  }

  socketOf(service: string): number | undefined {
    return this.#sockets.get(service);
  }

  expect(service: string, state: Expected): void {
    if (this.published(service) !== undefined) this.#network.expect(service, state);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const fd of this.#sockets.values()) closeSync(fd);
    this.#sockets.clear();
    await this.#network[Symbol.asyncDispose]();
  }
}

/** Each name has an address of its own in a private network: two may have the same port. */
function reachedFrom({ environment: { reach } }: EnvSpec): (ReachSpec & { address: string })[] {
  return reach.map((to, nth) => ({ ...to, address: `127.1.${(nth + 1) >> 8}.${(nth + 1) & 255}` }));
}

/** Files of ours in the place of the host's. */
function withFiles(mounts: readonly ContainerMount[], files: Readonly<Record<string, string>>): ContainerMount[] {
  const own = Object.entries(files).map(([destination, source]): ContainerMount => ({ source, destination, readonly: true }));
  return [...own, ...mounts.filter(({ destination }) => files[destination] === undefined)];
}

function writeFile({ networkDir }: EnvPaths, name: string, text: string): string {
  mkdirSync(networkDir, { recursive: true, mode: 0o700 });
  const path = join(networkDir, name);
  writeFileSync(path, text);
  return path;
}

function readIfThere(path: string): string {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function portTaken(service: string, port: number): HdError {
  return new HdError('PORT_TAKEN', `port ${port} of service ${service} is taken by another process`, { hint: `stop that process, give ${service} another port in hd.toml, or leave out \`network = "host"\`` });
}

/** @throws HdError PORT_TAKEN */
function holdHere(service: string, port: number): number {
  try {
    return listenAt('127.0.0.1', port, { blocking: true });
  } catch {
    throw portTaken(service, port);
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(false));
    server.listen({ port, host: '127.0.0.1', exclusive: true }, () => server.close(() => resolve(true)));
  });
}
