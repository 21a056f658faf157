import { existsSync, readFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError, hasher, isErrno, toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { lookupPath } from '@hyperdocker/cas';
import type { ActionDefinition, PackageNode } from '@hyperdocker/engine';
import type { Image } from '@hyperdocker/oci';
import type { ContainerUser } from '@hyperdocker/sandbox';
import { resolveUser } from '@hyperdocker/sandbox';
import type { BuildStepSpec, Dependency, EnvSpec } from '@hyperdocker/spec';
import type { StepId } from './events.ts';

/** A step with what is known of it before it runs. */
export interface PlannedStep { id: StepId; definition: ActionDefinition }

export interface PlanUser extends ContainerUser {
  home: string;
  /** '' where the image names none. */
  shell: string;
}

export interface Plan {
  spec: EnvSpec;
  image: Image;
  /** Absolute, in the container. */
  workdir: string;
  user: PlanUser;
  /** Whom the project's files belong to inside: whoever has to write there. */
  owner: { uid: number; gid: number };
  steps: PlannedStep[];
  packages: Omit<PackageNode, 'kind'>[];
  /** Variables of every step and service. Part of the keys. */
  env: Record<string, string>;
}

const DEFAULT_WORKDIR = '/workspace';
/** Tools leave notes of the time of day in places that other steps list, and look for newer versions of themselves. Not here. */
const QUIET_TOOLS = { npm_config_logs_max: '0', npm_config_update_notifier: 'false', PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_ROOT_USER_ACTION: 'ignore' };
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';

export function makePlan(store: Store, options: { spec: EnvSpec; image: Image; projectDir: string; platform: string; base: string }): Plan {
  const { spec, image, platform } = options;
  const workdir = spec.environment.workdir ?? (image.config.workdir === '' || image.config.workdir === '/' ? DEFAULT_WORKDIR : image.config.workdir);
  const user = userOf(store, image.tree, image.config.user);
  const env = { PATH: DEFAULT_PATH, HOME: user.home, LANG: 'C.UTF-8', ...image.config.env, ...spec.options.env };
  const define = (command: string, extra: Record<string, string> = {}): ActionDefinition => ({
    command, workdir, platform, env: { ...QUIET_TOOLS, ...env, ...extra }, user: `${user.uid}:${user.gid}:${(user.additionalGids ?? []).join(',')}`, network: spec.build.network, cacheDirs: [],
  });
  const commands = [
    ...spec.dependencies.flatMap(dependencyStep).map(({ command, env: extra, shown }) => ({ line: 0, shown: shown ?? command, definition: define(command, extra) })),
    ...spec.build.steps.map((step) => ({ line: step.line, shown: step.name ?? step.run, definition: { ...define(step.run, step.env), ...declared(spec, step, workdir) } })),
  ];
  return {
    spec, image, workdir, user, env,
    owner: projectOwner(store, spec, image, user),
    steps: commands.map(({ line, shown, definition }, i) => ({ definition, id: { index: i + 1, total: commands.length, command: shown, line } })),
    packages: [basePackage(options.base, image), ...spec.dependencies.flatMap((dependency) => dependencyPackages(dependency, options.projectDir))],
  };
}

/** What a step says of itself, with absolute paths. */
function declared(spec: EnvSpec, step: BuildStepSpec, environmentDir: string): Pick<ActionDefinition, 'workdir' | 'network' | 'cacheDirs' | 'inputs' | 'outputs' | 'secrets'> {
  const workdir = posix.resolve(environmentDir, step.workdir ?? '.');
  const cacheDirs = [...spec.build.cache.map((dir) => posix.resolve(environmentDir, dir)), ...step.cache.map((dir) => posix.resolve(workdir, dir))];
  return {
    workdir,
    network: step.network,
    cacheDirs: [...new Set(cacheDirs)],
    ...(step.inputs === undefined ? {} : { inputs: step.inputs }),
    ...(step.outputs === undefined ? {} : { outputs: step.outputs.map((path) => posix.resolve(workdir, path)) }),
    ...(step.secrets.length === 0 ? {} : { secrets: step.secrets }),
  };
}

/** A user in numbers, by the passwd and group of a tree. '' is root. @throws HdError USER_NOT_FOUND */
export function userOf(store: Store, tree: TreeDigest, name: string): PlanUser {
  const read = (path: string): string => {
    const entry = lookupPath(store, tree, toByteString(path));
    return entry?.kind === 'file' ? store.getBlob(entry.digest).toString('utf8') : '';
  };
  const user = resolveUser(name, read('etc/passwd'), read('etc/group'));
  // As Docker: the first group is among the others, or files that exclude "others" by groups would be open to it.
  return { uid: user.uid, gid: user.gid, additionalGids: [...new Set([user.gid, ...user.additionalGids])], home: user.uid === 0 ? '/root' : user.home, shell: user.shell };
}

/** The user of the image, whom steps run as. Root may write anyway, so that files of root's go to the first service that names a user the image knows. */
function projectOwner(store: Store, { services }: EnvSpec, image: Image, { uid, gid }: PlanUser): { uid: number; gid: number } {
  for (const { user } of uid === 0 ? services : []) {
    if (user === undefined) continue;
    try {
      const named = userOf(store, image.tree, user);
      if (named.uid !== 0) return { uid: named.uid, gid: named.gid };
    } catch (error) {
      // A build step may yet make it. Until then nobody knows its number.
      if (!(error instanceof HdError)) throw error;
    }
  }
  return { uid, gid };
}

/** System packages are installed, and runtimes checked, by steps of their own: traced, cached and explained like the others. */
function dependencyStep(dependency: Dependency): { command: string; env: Record<string, string>; shown?: string }[] {
  if (dependency.kind === 'packages' && dependency.provider === 'apt') {
    return [{ command: `apt-get update -q && apt-get install -qy --no-install-recommends ${dependency.packages.join(' ')}`, env: { DEBIAN_FRONTEND: 'noninteractive' } }];
  }
  if (dependency.kind === 'packages' && dependency.provider === 'apk') return [{ command: `apk add ${dependency.packages.join(' ')}`, env: {} }];
  if (dependency.kind === 'packages' && dependency.provider in INSTALLERS) {
    return [{ command: `${INSTALLERS[dependency.provider]} ${dependency.packages.join(' ')}`, env: {} }];
  }
  if (dependency.kind === 'packages') throw unsupported(dependency.provider, 'a list of packages');
  if (dependency.kind === 'file' && !FILE_PROVIDERS.includes(dependency.provider)) throw unsupported(dependency.provider, 'a file');
  if (dependency.kind === 'version') return [versionCheck(dependency.provider, dependency.version)];
  return [];
}

/** Their manifests are read for the graph and the lock; build steps install from them. */
const FILE_PROVIDERS = ['npm', 'pip', 'cargo', 'gem', 'go'];
const INSTALLERS: Record<string, string> = {
  npm: 'npm install --global', pip: 'python3 -m pip install --break-system-packages', cargo: 'cargo install', gem: 'gem install', go: 'go install',
};
const VERSION_COMMANDS: Record<string, string> = {
  node: 'node --version', python: 'python3 --version', go: 'go version', ruby: 'ruby --version', rust: 'rustc --version', java: 'java -version 2>&1',
};

/** A runtime comes with the base image; that it has the version that was asked for is checked, not assumed. */
function versionCheck(provider: string, wanted: string): { command: string; env: Record<string, string>; shown: string } {
  const ask = VERSION_COMMANDS[provider];
  if (ask === undefined) throw unsupported(provider, 'a version');
  const prefix = wanted.replace(/(\.[x*])+$/, '').replace(/^[v=^~]+/, '');
  if (!/^\d[\w.+-]*$/.test(prefix)) {
    throw new HdError('VERSION_UNSUPPORTED', `[dependencies] ${provider} = "${wanted}" cannot be checked`, { hint: 'give a version or its beginning, such as "20", "20.11" or "20.x"' });
  }
  const pattern = `(^|[^0-9.])${prefix.replace(/[.+]/g, '\\$&')}([^0-9]|$)`;
  return {
    command: `found=$(${ask}) && printf '%s\\n' "$found" | grep -Eq '${pattern}' || { echo "hd: [dependencies] ${provider} = \\"${wanted}\\", but the base image has: \${found:-no ${provider}}" >&2; exit 1; }`,
    env: {},
    shown: `check that ${provider} is ${wanted}`,
  };
}

function unsupported(provider: string, what: string): HdError {
  return new HdError('PROVIDER_UNSUPPORTED', `[dependencies] ${provider} cannot take ${what} yet`, { hint: 'install it with a build step, or take a base image that has it' });
}

function basePackage(base: string, image: Image): Omit<PackageNode, 'kind'> {
  const [provider, name] = base.startsWith('apt://') ? ['apt', base.slice('apt://'.length)] : ['oci', base];
  return { provider, name, version: image.tree.slice(0, 12), artifact: image.tree };
}

/** What the project's own manifests say, as nodes of the graph. Installing from them is the business of build steps. */
export function dependencyPackages(dependency: Dependency, projectDir: string): Omit<PackageNode, 'kind'>[] {
  const { provider } = dependency;
  const node = (name: string, version: string, evidence: string) => ({ provider, name, version, artifact: hasher.hash(Buffer.from(evidence)) });
  if (dependency.kind === 'packages') return [...dependency.packages].sort().map((name) => node(name, 'any', name));
  if (dependency.kind === 'version') return [node(provider, dependency.version, dependency.version)];
  const text = readManifest(projectDir, dependency.file);
  if (provider === 'npm') return npmPackages(text, readLockNextTo(projectDir, dependency.file), node);
  if (provider === 'pip') return pipPackages(text, node);
  return [node(dependency.file, 'file', text)];
}

type MakeNode = (name: string, version: string, evidence: string) => Omit<PackageNode, 'kind'>;

function npmPackages(text: string, lockText: string | undefined, node: MakeNode): Omit<PackageNode, 'kind'>[] {
  const manifest = parseJson(text, 'package.json') as { dependencies?: Record<string, string>; devDependencies?: Record<string, string> };
  const lock = (lockText === undefined ? {} : parseJson(lockText, 'package-lock.json')) as { packages?: Record<string, { version?: string; integrity?: string }> };
  return Object.entries({ ...manifest.devDependencies, ...manifest.dependencies }).sort(([a], [b]) => (a < b ? -1 : 1)).map(([name, range]) => {
    const locked = lock.packages?.[`node_modules/${name}`];
    return node(name, locked?.version ?? range, locked?.integrity ?? range);
  });
}

function pipPackages(text: string, node: MakeNode): Omit<PackageNode, 'kind'>[] {
  const lines = text.split('\n').map((line) => line.replace(/(^|\s)#.*/, '').trim()).filter((line) => line !== '' && !line.startsWith('-'));
  return lines.sort().map((line) => {
    const [, name = line, version] = /^([A-Za-z0-9._-]+(?:\[[^\]]*\])?)\s*(?:==\s*([^\s;]+))?/.exec(line) ?? [];
    return node(name, version ?? 'any', line);
  });
}

function readManifest(projectDir: string, file: string): string {
  try {
    return readFileSync(join(projectDir, file), 'utf8');
  } catch (cause) {
    if (!isErrno(cause, 'ENOENT')) throw cause;
    throw new HdError('MANIFEST_MISSING', `[dependencies] names ${file}, which is not in the project`, { cause });
  }
}

function readLockNextTo(projectDir: string, file: string): string | undefined {
  const lock = join(projectDir, posix.dirname(file), 'package-lock.json');
  return existsSync(lock) ? readFileSync(lock, 'utf8') : undefined;
}

function parseJson(text: string, what: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new HdError('MANIFEST_INVALID', `${what} is not valid JSON`, { cause });
  }
}

