import { closeSync, existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { claimPort } from '@hyperdocker/sandbox';
import type { ServiceSpec } from '@hyperdocker/spec';
import type { EnvPaths, Home } from './home.ts';
import { pathsOf } from './home.ts';
import { readJson, writeJson } from './json-file.ts';
import { projectOf } from './known-environments.ts';

/** Where a service can be reached on the host. */
export interface PublishedPort {
  service: string;
  /** The one that the service listens on, inside. */
  inside: number;
  /** `loopback` is 127.0.0.1 and ::1. */
  address: string;
  port: number;
  /** What it would have been, had nobody else had it, where this is the first time that it is another one. */
  instead?: number;
  /** Sockets that listen there already. They belong to whoever asked for the port. */
  fds: number[];
}

/** What is kept of an environment's ports: docs/format/state.md. */
interface PortNote {
  version: 1;
  /** By service. */
  ports: Record<string, number>;
}

const LAST_PORT = 65_535;

/**
 * Takes a port of the host for each service that wants one, which is then nobody else's.
 *
 * It is the one that `hd.toml` names, if that is free; otherwise the next one that is, as near to it as can be. A service keeps the port that it has once been given, also when the first one becomes free, as
 * long as another environment is there that has had the first one: so two worktrees do not swap their ports by who is started first.
 * @throws HdError PUBLISH_ADDRESS, NO_FREE_PORT
 */
export function takePorts(services: readonly ServiceSpec[], { paths, home }: { paths: EnvPaths; home: Home }): PublishedPort[] {
  const remembered = readPorts(paths);
  const others = portsOfOthers(home, paths);
  const wanted = new Set(services.flatMap(({ publish }) => (publish === undefined ? [] : [publish.port])));
  const taken: PublishedPort[] = [];
  try {
    for (const service of services) {
      if (service.publish === undefined || service.port === undefined) continue;
      const { address, port } = service.publish;
      const before = remembered[service.name];
      const first = before !== undefined && others.has(port) ? [before, port] : [port, ...(before === undefined ? [] : [before])];
      const next = (candidate: number): boolean => !wanted.has(candidate) && !others.has(candidate);
      const found = takeFirst(service.name, address, [...new Set(first)], port, next);
      taken.push({ service: service.name, inside: service.port, address, ...found, ...(found.port === port || found.port === before ? {} : { instead: port }) });
    }
    writeJson(paths.ports, { version: 1, ports: Object.fromEntries(taken.map(({ service, port }) => [service, port])) } satisfies PortNote);
    return taken;
  } catch (error) {
    for (const fd of taken.flatMap(({ fds }) => fds)) closeSync(fd);
    throw error;
  }
}

/** The ports that an environment had last. */
export function readPorts(paths: EnvPaths): Record<string, number> {
  const note = readJson(paths.ports) as Partial<PortNote> | undefined;
  return note?.version === 1 && typeof note.ports === 'object' ? note.ports : {};
}

/** For a browser, a port has a URL: as services mostly speak HTTP, so has every service. */
export function urlOf({ address, port }: Pick<PublishedPort, 'address' | 'port'>): string {
  const isAnywhere = ['loopback', '127.0.0.1', '::1', '0.0.0.0', '::'].includes(address);
  return `http://${isAnywhere ? 'localhost' : address.includes(':') ? `[${address}]` : address}:${port}`;
}

/**
 * A name of its own for what is published on loopback. Browsers take every name below `localhost` for this machine, and keep cookies and storage apart by name, not by port.
 * Undefined where it is published elsewhere, or has a name that a URL cannot have.
 */
export function aliasOf({ service, address, port }: Pick<PublishedPort, 'service' | 'address' | 'port'>, projectDir: string): string | undefined {
  const label = (text: string): string => text.toLowerCase().replace(/[^a-z0-9-]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 63);
  const names = [label(service), label(projectDir.split('/').at(-1) ?? '')].filter((name) => name !== '');
  return ['loopback', '127.0.0.1', '0.0.0.0'].includes(address) && names.length === 2 ? `http://${names.join('.')}.localhost:${port}` : undefined;
}

function takeFirst(service: string, address: string, first: readonly number[], from: number, isNext: (port: number) => boolean): { port: number; fds: number[] } {
  const addresses = address === 'loopback' ? ['127.0.0.1', '::1'] : [address];
  const tryPort = (port: number): number[] | undefined => {
    const claim = claimPort(addresses, port);
    if (claim.kind === 'no-address') throw new HdError('PUBLISH_ADDRESS', `${service} cannot be published at ${address}: this machine does not have that address`, { hint: `change \`publish\` in [services.${service}]` });
    return claim.kind === 'claimed' ? claim.fds : undefined;
  };
  for (const port of first) {
    const fds = tryPort(port);
    if (fds !== undefined) return { port, fds };
  }
  // The ports after it, then those before it: down from there nobody expects any, but they are ports.
  for (let step = 1; step < LAST_PORT; step++) {
    const port = ((from - 1 + step) % LAST_PORT) + 1;
    if (port < 1024 || !isNext(port)) continue;
    const fds = tryPort(port);
    if (fds !== undefined) return { port, fds };
  }
  throw new HdError('NO_FREE_PORT', `no port of this machine is free for ${service}`);
}

/** Ports that other environments have had, whose projects are still there. */
function portsOfOthers(home: Home, { id }: EnvPaths): Set<number> {
  const others = readdirSync(home.envsDir).filter((name) => name !== id && existsSync(join(home.envsDir, name, 'ports.json'))).map((name) => pathsOf(home, name));
  const living = others.filter((paths) => existsSync(projectOf(paths) ?? ''));
  return new Set(living.flatMap((paths) => Object.values(readPorts(paths))));
}
