import { existsSync } from 'node:fs';
import type { ContainerMount } from '@hyperdocker/sandbox';

/** What a container gets from the host without its being part of any key: how to reach the network, and whom to trust there. */
export interface Passthrough {
  env: Record<string, string>;
  mounts: ContainerMount[];
}

export const NO_PASSTHROUGH: Passthrough = { env: {}, mounts: [] };

const PROXY_VARIABLES = ['http_proxy', 'https_proxy', 'no_proxy', 'all_proxy', 'HTTP_PROXY', 'HTTPS_PROXY', 'NO_PROXY', 'ALL_PROXY'];
/** On a host, each of these says: these are the certificate authorities to trust. */
const HOST_CA_VARIABLES = ['HD_CA_BUNDLE', 'SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE'];
/** How the usual tools are told inside. */
const INSIDE_CA_VARIABLES = ['SSL_CERT_FILE', 'NODE_EXTRA_CA_CERTS', 'REQUESTS_CA_BUNDLE', 'CURL_CA_BUNDLE', 'PIP_CERT', 'GIT_SSL_CAINFO', 'CARGO_HTTP_CAINFO'];
const CA_INSIDE = '/run/hd/ca-certificates.crt';

/** Proxies and private certificate authorities that the host's own environment names, and its resolver. `HD_PASSTHROUGH=off` leaves the resolver alone. */
export function hostPassthrough(hostEnv: NodeJS.ProcessEnv): Passthrough {
  const mounts: ContainerMount[] = ['/etc/resolv.conf', '/etc/hosts'].filter((path) => existsSync(path)).map((path) => ({ source: path, destination: path, readonly: true }));
  if (hostEnv['HD_PASSTHROUGH'] === 'off') return { env: {}, mounts };
  const env: Record<string, string> = {};
  for (const name of PROXY_VARIABLES) {
    const value = hostEnv[name];
    if (value !== undefined && value !== '') env[name] = value;
  }
  const bundle = HOST_CA_VARIABLES.map((name) => hostEnv[name]).find((path) => path !== undefined && path !== '' && existsSync(path));
  if (bundle !== undefined) {
    mounts.push({ source: bundle, destination: CA_INSIDE, readonly: true });
    for (const name of INSIDE_CA_VARIABLES) env[name] = CA_INSIDE;
  }
  return { env, mounts };
}
