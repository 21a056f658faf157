import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { HdError, isErrno } from '@hyperdocker/base';

export interface Credentials { username: string; password: string }

/** Login for a registry's domain, where there is one. */
export type CredentialLookup = (registry: string) => Credentials | undefined;

/**
 * The logins in Docker's `config.json` (`$DOCKER_CONFIG`, else `~/.docker`). Only its `auths`: credential helpers are not run.
 * A missing file is no logins. @throws HdError DOCKER_CONFIG_INVALID
 */
export function dockerCredentials(path: string = join(process.env['DOCKER_CONFIG'] ?? join(homedir(), '.docker'), 'config.json')): CredentialLookup {
  let auths: Map<string, Credentials> | undefined;
  return (registry) => (auths ??= readAuths(path)).get(registry);
}

function readAuths(path: string): Map<string, Credentials> {
  const found = new Map<string, Credentials>();
  for (const [key, value] of Object.entries(readConfig(path).auths ?? {})) {
    const login = credentialsOf(value);
    if (login !== undefined) found.set(domainOf(key), login);
  }
  return found;
}

interface AuthEntry { auth?: string; username?: string; password?: string }

function readConfig(path: string): { auths?: Record<string, AuthEntry | null> } {
  try {
    const config: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return typeof config === 'object' && config !== null ? config : {};
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return {};
    throw new HdError('DOCKER_CONFIG_INVALID', `cannot read the registry logins in ${path}`, { hint: 'repair the file, or remove it and log in again', cause: error });
  }
}

function credentialsOf(entry: AuthEntry | null): Credentials | undefined {
  if (typeof entry?.auth === 'string' && entry.auth !== '') {
    const [username = '', ...password] = Buffer.from(entry.auth, 'base64').toString('utf8').split(':');
    return { username, password: password.join(':').replace(/\0+$/, '') };
  }
  return typeof entry?.username === 'string' && typeof entry.password === 'string' ? { username: entry.username, password: entry.password } : undefined;
}

/** Keys are domains, or URLs in old files; Docker Hub has a name of its own. */
function domainOf(key: string): string {
  const host = key.replace(/^https?:\/\//, '').replace(/\/.*$/, '');
  return host === 'index.docker.io' || host === 'registry-1.docker.io' ? 'docker.io' : host;
}
