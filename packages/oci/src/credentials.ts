import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { HdError, isErrno } from '@hyperdocker/base';

/** `identityToken`: exchanged for access tokens where the registry says. `registryToken`: an access token. */
export type Credentials = { username: string; password: string } | { identityToken: string } | { registryToken: string };

/** Login for a registry's domain, where there is one. @throws HdError DOCKER_CONFIG_INVALID, CREDENTIAL_HELPER */
export type CredentialLookup = (registry: string) => Credentials | undefined;

const HELPER_TIMEOUT_MS = 30_000;
/** What helpers answer where they know of no login. */
const NOT_FOUND = /credentials not found|no credentials|not found in (?:native )?keychain/i;
const HUB = 'https://index.docker.io/v1/';

interface AuthEntry { auth?: string; username?: string; password?: string; identitytoken?: string; registrytoken?: string }
interface DockerConfig { auths?: Record<string, AuthEntry | null>; credHelpers?: Record<string, string>; credsStore?: string }

/**
 * The logins that Docker's `config.json` (`$DOCKER_CONFIG`, else `~/.docker`) leads to: of the registry's credential helper (`credHelpers`), else of the store of all (`credsStore`), else what stands in
 * `auths`. Read, and helpers run, when a login is asked for. A missing file is no logins.
 */
export function dockerCredentials(path: string = join(process.env['DOCKER_CONFIG'] ?? join(homedir(), '.docker'), 'config.json'), env: NodeJS.ProcessEnv = process.env): CredentialLookup {
  let config: DockerConfig | undefined;
  const known = new Map<string, Credentials | undefined>();
  return (registry) => {
    if (!known.has(registry)) known.set(registry, lookUp((config ??= readConfig(path)), registry, env));
    return known.get(registry);
  };
}

function lookUp(config: DockerConfig, registry: string, env: NodeJS.ProcessEnv): Credentials | undefined {
  const helper = Object.entries(config.credHelpers ?? {}).find(([key]) => domainOf(key) === registry)?.[1] ?? config.credsStore;
  const helped = helper === undefined || helper === '' ? undefined : askHelper(helper, registry === 'docker.io' ? HUB : registry, env);
  if (helped !== undefined) return helped;
  const entry = Object.entries(config.auths ?? {}).find(([key]) => domainOf(key) === registry)?.[1];
  return entry === undefined ? undefined : credentialsOf(entry);
}

/** https://github.com/docker/docker-credential-helpers: the server's name on standard input, JSON on standard output. */
function askHelper(name: string, server: string, env: NodeJS.ProcessEnv): Credentials | undefined {
  const program = `docker-credential-${name}`;
  const { status, stdout, stderr, error } = spawnSync(program, ['get'], { input: server, encoding: 'utf8', timeout: HELPER_TIMEOUT_MS, env });
  if (status === 0) {
    const answer = parse(stdout);
    const { Username: username, Secret: secret } = answer ?? {};
    if (typeof username !== 'string' || typeof secret !== 'string') throw helperFailed(program, server, 'what it printed is no login');
    return username === '<token>' ? { identityToken: secret } : { username, password: secret };
  }
  const said = `${stdout ?? ''}${stderr ?? ''}`.trim();
  if (error === undefined && NOT_FOUND.test(said)) return undefined;
  throw helperFailed(program, server, error === undefined ? said.split('\n')[0] || `it ended with ${String(status)}` : isErrno(error, 'ENOENT') ? 'there is no such program' : error.message, error);
}

function helperFailed(program: string, server: string, why: string, cause?: unknown): HdError {
  return new HdError('CREDENTIAL_HELPER', `${program}, which Docker's config.json names, gave no login for ${server}: ${why}`, { hint: `install ${program}, or remove it from credHelpers and credsStore in config.json`, ...(cause === undefined ? {} : { cause }) });
}

function readConfig(path: string): DockerConfig {
  try {
    return parse(readFileSync(path, 'utf8'), true) ?? {};
  } catch (error) {
    if (isErrno(error, 'ENOENT', 'ENOTDIR')) return {};
    throw new HdError('DOCKER_CONFIG_INVALID', `cannot read the registry logins in ${path}`, { hint: 'repair the file, or remove it and log in again', cause: error });
  }
}

/** An object of JSON; undefined for anything else, or else an error if it is `strict`. */
function parse(text: string, strict = false): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : undefined;
  } catch (error) {
    if (strict) throw error;
    return undefined;
  }
}

function credentialsOf(entry: AuthEntry | null): Credentials | undefined {
  if (typeof entry?.registrytoken === 'string' && entry.registrytoken !== '') return { registryToken: entry.registrytoken };
  if (typeof entry?.identitytoken === 'string' && entry.identitytoken !== '') return { identityToken: entry.identitytoken };
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
