import { HdError } from '@hyperdocker/base';

/** An image in a registry, as Docker reads such names. `tag` is `latest` where neither tag nor digest is given. */
export interface Reference {
  /** Domain with port, `docker.io` for Docker Hub. Where the API answers is `registryHost`. */
  registry: string;
  repository: string;
  tag?: string;
  /** `sha256:<64 hex digits>`. Decides over `tag` where both are given. */
  digest?: string;
}

/** What `environment.base` may be. */
export type Base =
  | { kind: 'scratch' }
  | { kind: 'apt'; suite: string; include: string[]; mirror?: string; components?: string[]; variant?: string }
  | { kind: 'oci-dir'; path: string; ref?: string }
  | { kind: 'docker-archive'; path: string }
  | { kind: 'registry'; reference: Reference };

const DOCKER_HUB = 'docker.io';
const DOMAIN = /^(?:(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9])(?:\.(?:[a-zA-Z0-9]|[a-zA-Z0-9][a-zA-Z0-9-]*[a-zA-Z0-9]))*|\[[a-fA-F0-9:]+\])(?::[0-9]{1,5})?$/;
const REPOSITORY = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:\/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$/;
const TAG = /^\w[\w.-]{0,127}$/;
const DIGEST = /^sha256:[0-9a-f]{64}$/;
const NAME_BYTES_MAX = 255;
const APT_PARAMETERS = ['include', 'mirror', 'components', 'variant'];

/** Parses `name[:tag][@digest]` by Docker's rules. @throws HdError IMAGE_REFERENCE */
export function parseReference(text: string): Reference {
  const [named = '', digest, ...more] = text.split('@');
  if (more.length > 0) throw invalid(text, 'it has more than one "@"');
  if (digest !== undefined && !DIGEST.test(digest)) throw invalid(text, `the digest ${JSON.stringify(digest)} is not "sha256:" with 64 lower-case hex digits`);
  const colon = named.lastIndexOf(':');
  const hasTag = colon > named.lastIndexOf('/');
  const tag = hasTag ? named.slice(colon + 1) : undefined;
  if (tag !== undefined && !TAG.test(tag)) throw invalid(text, `the tag ${JSON.stringify(tag)} is not 1 to 128 letters, digits, ".", "_" or "-"`);
  const { registry, repository } = splitDomain(hasTag ? named.slice(0, colon) : named);
  checkName(text, registry, repository);
  return {
    registry,
    repository,
    ...(tag !== undefined ? { tag } : digest === undefined ? { tag: 'latest' } : {}),
    ...(digest === undefined ? {} : { digest }),
  };
}

/** The canonical text: domain, repository, tag and digest, nothing left to defaults. */
export function formatReference(reference: Reference): string {
  const { registry, repository, tag, digest } = reference;
  return `${registry}/${repository}${tag === undefined ? '' : `:${tag}`}${digest === undefined ? '' : `@${digest}`}`;
}

/** As people write it: without what `docker.io/library/` adds. `parseReference` reads it again. */
export function formatFamiliar(reference: Reference): string {
  return formatReference(reference).replace(/^docker\.io\/(?:library\/)?/, '');
}

/** The host that serves the registry's API. */
export function registryHost(registry: string): string {
  return registry === DOCKER_HUB ? 'registry-1.docker.io' : registry;
}

/**
 * Parses `environment.base`: `scratch`, `apt://SUITE?include=a,b`, `oci:DIR[:TAG]`, `docker-archive:FILE`, or an image
 * reference. Paths are as written: the caller knows what they are relative to. @throws HdError IMAGE_REFERENCE
 */
export function parseBase(text: string): Base {
  if (text === 'scratch') return { kind: 'scratch' };
  const scheme = /^([a-zA-Z][a-zA-Z0-9+.-]*):\/\//.exec(text)?.[1];
  if (scheme === 'apt') return parseApt(text);
  if (scheme !== undefined) {
    throw new HdError('IMAGE_REFERENCE', `unknown kind of base image "${scheme}://" in ${JSON.stringify(text)}`, {
      hint: 'write a registry image without a scheme (python:3.11-slim), or apt://SUITE, oci:DIR, docker-archive:FILE or scratch',
    });
  }
  if (text.startsWith('oci:')) return parseOciDir(text);
  if (text.startsWith('docker-archive:')) return { kind: 'docker-archive', path: nonEmptyPath(text, text.slice('docker-archive:'.length)) };
  return { kind: 'registry', reference: parseReference(text) };
}

function splitDomain(name: string): { registry: string; repository: string } {
  const slash = name.indexOf('/');
  const first = name.slice(0, Math.max(slash, 0));
  const isDomain = slash > 0 && (/[.:]/.test(first) || first === 'localhost' || first !== first.toLowerCase());
  const registry = !isDomain || first === 'index.docker.io' ? DOCKER_HUB : first;
  const path = isDomain ? name.slice(slash + 1) : name;
  return { registry, repository: registry === DOCKER_HUB && !path.includes('/') ? `library/${path}` : path };
}

function checkName(text: string, registry: string, repository: string): void {
  if (text === '') throw invalid(text, 'it is empty');
  if (!DOMAIN.test(registry)) throw invalid(text, `${JSON.stringify(registry)} is not a registry's domain`);
  if (!REPOSITORY.test(repository)) {
    const lower = REPOSITORY.test(repository.toLowerCase()) ? ': repository names are lower case' : '';
    throw invalid(text, `${JSON.stringify(repository)} is not a repository name${lower}`);
  }
  if (registry.length + 1 + repository.length > NAME_BYTES_MAX) throw invalid(text, `the name is longer than ${NAME_BYTES_MAX} characters`);
  if (/^library\/[0-9a-f]{64}$/.test(repository)) throw invalid(text, '64 hex digits are an image ID, not a name');
}

function parseApt(text: string): Base {
  const match = /^apt:\/\/([^/?#]*)\/?(?:\?([^#]*))?$/.exec(text);
  const suite = match?.[1] ?? '';
  if (!/^[a-z0-9][a-z0-9.-]*$/.test(suite)) throw invalid(text, 'an apt base is written apt://SUITE?include=PACKAGE,PACKAGE, for example apt://bookworm?include=python3');
  const query = new URLSearchParams(match?.[2] ?? '');
  for (const key of query.keys()) {
    if (!APT_PARAMETERS.includes(key)) throw invalid(text, `unknown parameter ${JSON.stringify(key)}; known are ${APT_PARAMETERS.join(', ')}`);
  }
  const list = (key: string) => query.getAll(key).flatMap((value) => value.split(/[,\s]+/)).filter((item) => item !== '');
  const include = list('include');
  const odd = include.find((name) => !/^[a-z0-9][a-z0-9+.-]*(?::[a-z0-9-]+)?(?:=[\w.+:~-]+)?$/.test(name));
  if (odd !== undefined) throw invalid(text, `${JSON.stringify(odd)} is not a Debian package name`);
  const mirror = query.get('mirror');
  const variant = query.get('variant');
  return {
    kind: 'apt',
    suite,
    include,
    ...(mirror === null ? {} : { mirror }),
    ...(query.has('components') ? { components: list('components') } : {}),
    ...(variant === null ? {} : { variant }),
  };
}

function parseOciDir(text: string): Base {
  const rest = text.slice('oci:'.length);
  const colon = rest.lastIndexOf(':');
  if (colon <= rest.lastIndexOf('/')) return { kind: 'oci-dir', path: nonEmptyPath(text, rest) };
  return { kind: 'oci-dir', path: nonEmptyPath(text, rest.slice(0, colon)), ref: nonEmptyPath(text, rest.slice(colon + 1)) };
}

function nonEmptyPath(text: string, part: string): string {
  if (part === '' || part.includes('\0')) throw invalid(text, 'a path or tag is missing');
  return part;
}

function invalid(text: string, why: string): HdError {
  return new HdError('IMAGE_REFERENCE', `${JSON.stringify(text)} is not an image reference: ${why}`, { hint: 'write it as [registry/]name[:tag][@sha256:…], for example python:3.11-slim' });
}
