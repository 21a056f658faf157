import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { NodeDigest, TreeDigest } from '@hyperdocker/base';
import { HdError, hasher, isErrno, toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { lookupPath, openStore } from '@hyperdocker/cas';
import type { PackageNode } from '@hyperdocker/engine';
import { getEnv, getPackage } from '@hyperdocker/engine';
import type { EnvSpec, LockedPackage } from '@hyperdocker/spec';
import { writeLock } from '@hyperdocker/spec';
import type { Home, Project } from './home.ts';
import { envPaths, envRef } from './home.ts';
import { dependencyPackages } from './plan.ts';
import { specOrThrow } from './spec-file.ts';

export interface LockResult {
  /** What hd.lock should hold. */
  text: string;
  /** What it holds now; undefined where there is none. */
  previous: string | undefined;
  changed: boolean;
  /** How many packages are locked. */
  packages: number;
}

/**
 * The exact versions that a project's last build came to. The same build gives the same text, on any day. Writes nothing.
 * @throws HdError SPEC_INVALID, NOT_BUILT, BUILD_STALE, MANIFEST_MISSING
 */
export function lockProject({ home, project }: { home: Home; project: Project }): LockResult {
  const { spec } = specOrThrow(project);
  const { id } = envPaths(home, project);
  if (!existsSync(home.storeDir)) throw notBuilt(project);
  using store = openStore(home.storeDir, { readOnly: true });
  const [root, tree] = (['root', 'tree'] as const).map((what) => store.getRef(envRef(id, what))?.target.digest);
  if (root === undefined || tree === undefined) throw notBuilt(project);
  const base = builtBase(store, root as NodeDigest, spec);
  const installsDebs = spec.dependencies.some(({ provider, kind }) => provider === 'apt' && kind === 'packages');
  const debs = debianPackages(store, installsDebs ? (tree as TreeDigest) : (base.artifact as TreeDigest));
  requireInstalled(spec, debs);
  const others = spec.dependencies.filter(({ provider }) => provider !== 'apt').flatMap((dependency) => dependencyPackages(dependency, project.dir));
  const packages = [base, ...debs, ...others];
  const text = writeLock({ version: 1, specDigest: specDigest(spec), platform: `linux-${process.arch === 'x64' ? 'amd64' : process.arch}`, packages });
  const previous = readPrevious(join(project.dir, 'hd.lock'));
  return { text, previous, changed: text !== previous, packages: packages.length };
}

/** Of all in hd.toml that decides which packages an environment has. */
export function specDigest({ environment, dependencies, options }: EnvSpec): string {
  return hasher.hash(Buffer.from(canonicalJson({ environment: { ...environment, env: options.env }, dependencies })));
}

/** Keys sorted at every depth; absent values left out. */
function canonicalJson(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
  if (typeof value !== 'object' || value === null) return JSON.stringify(value);
  const entries = Object.entries(value).filter(([, item]) => item !== undefined).sort(([a], [b]) => (a < b ? -1 : 1));
  return `{${entries.map(([key, item]) => `${JSON.stringify(key)}:${canonicalJson(item)}`).join(',')}}`;
}

/** The base image as the last build had it, if that is the one that hd.toml names today. */
function builtBase(store: Store, root: NodeDigest, spec: EnvSpec): LockedPackage {
  const [first] = getEnv(store, root).children.filter((child) => child.kind === 'Package');
  if (first === undefined) throw new HdError('CORRUPT_OBJECT', 'the last build has no base image');
  const { provider, name, version, artifact }: PackageNode = getPackage(store, first.digest as NodeDigest);
  // The node's name is the base as written, without the scheme of its provider.
  const wanted = spec.environment.base.replace(/^apt:\/\//, '');
  if (wanted !== name) {
    throw new HdError('BUILD_STALE', `hd.toml asks for the base ${spec.environment.base}, but the last build was made on ${name}`, { hint: 'run `hd build` first' });
  }
  return { provider, name, version, artifact };
}

/** Everything that dpkg has installed in a tree; nothing where there is no dpkg. */
export function debianPackages(store: Store, tree: TreeDigest): LockedPackage[] {
  const status = lookupPath(store, tree, toByteString('var/lib/dpkg/status'));
  if (status?.kind !== 'file') return [];
  const packages: LockedPackage[] = [];
  for (const paragraph of store.getBlob(status.digest).toString('utf8').split(/\n{2,}/)) {
    const field = (name: string): string => new RegExp(`^${name}: (.*)$`, 'm').exec(paragraph)?.[1] ?? '';
    if (!field('Status').endsWith(' installed')) continue;
    const [name, version, architecture] = [field('Package'), field('Version'), field('Architecture')];
    packages.push({ provider: 'apt', name, version, artifact: debianEvidence(store, tree, name, architecture) ?? hasher.hash(Buffer.from(`${name} ${version} ${architecture}`)) });
  }
  return packages;
}

/** dpkg's own record of a package's files: their checksums, else their names. */
function debianEvidence(store: Store, tree: TreeDigest, name: string, architecture: string): string | undefined {
  for (const ending of ['md5sums', 'list']) {
    for (const stem of [name, `${name}:${architecture}`]) {
      const entry = lookupPath(store, tree, toByteString(`var/lib/dpkg/info/${stem}.${ending}`));
      if (entry?.kind === 'file') return entry.digest;
    }
  }
  return undefined;
}

/** A package that hd.toml asks for and the last build lacks was added since. */
function requireInstalled(spec: EnvSpec, installed: readonly LockedPackage[]): void {
  const names = new Set(installed.map(({ name }) => name));
  for (const dependency of spec.dependencies) {
    if (dependency.provider !== 'apt' || dependency.kind !== 'packages') continue;
    const missing = dependency.packages.map((item) => item.replace(/[=:/].*$/, '')).filter((name) => !names.has(name));
    if (missing.length > 0) throw new HdError('BUILD_STALE', `[dependencies] apt names packages that the last build does not have: ${missing.join(', ')}`, { hint: 'run `hd build` first; if you did, these are virtual packages: name the real ones' });
  }
}

function notBuilt(project: Project): HdError {
  return new HdError('NOT_BUILT', `${project.dir} has not been built yet, and versions are read from the build`, { hint: 'run `hd build` or `hd up` first' });
}

function readPrevious(file: string): string | undefined {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    if (isErrno(cause, 'ENOENT')) return undefined;
    throw new HdError('LOCK_UNREADABLE', `cannot read ${file}`, { cause });
  }
}
