import { isIPv6 } from 'node:net';

export interface HostsOptions {
  /** Of the host. */
  text: string;
  hostname: string;
  services: readonly string[];
  /** Lines of names of others. */
  others?: readonly { address: string; name: string }[];
  isPrivate: boolean;
}

/**
 * What the host's list of names becomes inside: services find each other by their names, since all of them are at loopback. In a private network the host's own names for itself would lead nowhere, and are left out;
 * what it knows of others stays.
 */
export function hostsFile({ text, hostname, services, others: reached = [], isPrivate }: HostsOptions): string {
  const names = [...(services.length === 0 ? [] : [`127.0.0.1 ${services.join(' ')}`]), ...reached.map(({ address, name }) => `${address} ${name}`)];
  const lines = text.split('\n').map((line) => line.trimEnd()).filter((line) => line !== '');
  if (!isPrivate) return `${[...lines, ...names].join('\n')}\n`;
  const others = lines.filter((line) => /^[^#\s]/.test(line) && !isLoopback(line.split(/\s+/)[0] ?? ''));
  return `${['127.0.0.1 localhost', '::1 localhost ip6-localhost ip6-loopback', `127.0.0.1 ${hostname}`, ...names, ...others].join('\n')}\n`;
}

/** Where names are asked for inside a private network. */
export interface Resolver {
  text: string;
  /** The host's resolver, which can only be asked from the host: something at `RELAYED_RESOLVER` has to do it. */
  relayTo?: string;
}

/** As systemd has it: an address of loopback that nothing else listens at. */
export const RELAYED_RESOLVER = '127.0.0.53';

/** @param reaches says of an address that is not one of loopback whether it can be reached from inside */
export function resolverFile(text: string, reaches: (address: string) => boolean): Resolver {
  const lines = text.split('\n').filter((line) => line.trim() !== '');
  const isServer = (line: string): boolean => /^\s*nameserver\s/.test(line);
  const servers = lines.filter(isServer).map((line) => line.trim().split(/\s+/)[1] ?? '');
  const others = lines.filter((line) => !isServer(line));
  const usable = servers.filter((address) => !isLoopback(address) && reaches(address));
  const [first] = servers;
  const file = (addresses: readonly string[]): string => `${[...addresses.map((address) => `nameserver ${address}`), ...others].join('\n')}\n`;
  // Without any, a resolver is taken to be at loopback: resolv.conf(5).
  return usable.length > 0 ? { text: file(usable) } : { text: file([RELAYED_RESOLVER]), relayTo: first ?? '127.0.0.1' };
}

/** The servers of this machine that proxy variables name: from a private network they are not where the variables say. */
export function loopbackProxies(env: Readonly<Record<string, string>>): { address: string; port: number }[] {
  const found = new Map<number, { address: string; port: number }>();
  for (const [name, value] of Object.entries(env)) {
    if (!/_proxy$/i.test(name) || /^no_proxy$/i.test(name)) continue;
    const url = parse(value);
    const host = url?.hostname.replace(/^\[|\]$/g, '') ?? '';
    if (url === undefined || !(host === 'localhost' || isLoopback(host))) continue;
    const port = Number(url.port || (url.protocol === 'https:' ? 443 : url.protocol.startsWith('socks') ? 1080 : 80));
    found.set(port, { address: host === 'localhost' ? '127.0.0.1' : host, port });
  }
  return [...found.values()];
}

/** Proxy variables for a network in which services are asked by their names: no proxy would know them. */
export function withoutProxyFor(env: Readonly<Record<string, string>>, names: readonly string[]): Record<string, string> {
  if (!Object.keys(env).some((name) => /^(https?|all)_proxy$/i.test(name))) return { ...env };
  const own = ['localhost', '127.0.0.1', '::1', ...names];
  const extended = Object.fromEntries(['no_proxy', 'NO_PROXY'].map((name) => [name, [...new Set([...(env[name] ?? env['no_proxy'] ?? env['NO_PROXY'] ?? '').split(',').map((part) => part.trim()).filter((part) => part !== ''), ...own])].join(',')]));
  return { ...env, ...extended };
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || (isIPv6(address) && /^(0*:)*0*1$/.test(address));
}

function parse(url: string): URL | undefined {
  return URL.parse(url.includes('://') ? url : `http://${url}`) ?? undefined;
}
