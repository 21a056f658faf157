import { chmodSync, existsSync, lchownSync, readdirSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { lookupPath, storeBytes } from '@hyperdocker/cas';
import { materializeEntry } from '@hyperdocker/mount';
import type { ContainerMount, ContainerUser } from '@hyperdocker/sandbox';
import type { MountSpec, ServiceSpec } from '@hyperdocker/spec';
import type { EnvPaths } from './home.ts';
import { inTree } from './step-runner.ts';
import { removeTrees } from './user-namespace.ts';
import { wholeDirectory } from './whole-directory.ts';

export interface VolumeHost {
  store: Store;
  paths: EnvPaths;
  projectDir: string;
  env: Readonly<Record<string, string | undefined>>;
}

/** A named directory of an environment, which stays until somebody removes it. */
export interface Volume { name: string; path: string; sizeBytes: number }

/**
 * The mounts of a service. A volume that is new begins with what the environment's tree has at that place, as in Docker; where it has nothing, with nothing, and belongs to the service's user.
 * @throws HdError MOUNT_MISSING
 */
export function serviceMounts(host: VolumeHost, mounts: readonly MountSpec[], tree: TreeDigest, user: ContainerUser): ContainerMount[] {
  return mounts.map((mount) => {
    const source = mount.kind === 'volume' ? openVolume(host, mount.name, mount.target, tree, user) : hostPath(host, mount.source);
    return { source, destination: mount.target, readonly: mount.readonly };
  });
}

/** Of all services together, for commands: they see one root file system. Of two at one place, the first. */
export function allMounts(services: readonly ServiceSpec[]): MountSpec[] {
  const byTarget = new Map<string, MountSpec>();
  for (const mount of services.flatMap(({ volumes }) => volumes)) if (!byTarget.has(mount.target)) byTarget.set(mount.target, mount);
  return [...byTarget.values()];
}

/** By name. */
export function listVolumes(paths: EnvPaths): Volume[] {
  return volumeNames(paths).map((name) => ({ name, path: join(volumesDir(paths), name), sizeBytes: storeBytes(join(volumesDir(paths), name)) }));
}

/** Their names alone: nothing is measured. */
export function volumeNames(paths: EnvPaths): string[] {
  const dir = volumesDir(paths);
  return existsSync(dir) ? readdirSync(dir).filter((name) => !name.startsWith('.')).sort() : [];
}

/** With all that is in them. Nobody may use them. @throws HdError VOLUME_UNKNOWN */
export function removeVolumes(paths: EnvPaths, names: readonly string[]): void {
  const known = listVolumes(paths).map(({ name }) => name);
  const unknown = names.find((name) => !known.includes(name));
  if (unknown !== undefined) throw new HdError('VOLUME_UNKNOWN', `there is no volume ${unknown}`, { hint: known.length === 0 ? 'this environment has none' : `there are: ${known.join(', ')}` });
  removeTrees(names.map((name) => join(volumesDir(paths), name)));
}

function volumesDir({ dir }: EnvPaths): string {
  return join(dir, 'volumes');
}

function openVolume({ store, paths }: VolumeHost, name: string, target: string, tree: TreeDigest, user: ContainerUser): string {
  return wholeDirectory(join(volumesDir(paths), name), (partial) => {
    const entry = lookupPath(store, tree, inTree(target));
    if (entry?.kind === 'dir') for (const child of store.getTree(entry.digest)) materializeEntry(store, partial, child.name, child);
    const owner = entry?.kind === 'dir' ? (entry.meta ?? { uid: 0, gid: 0 }) : user;
    lchownSync(partial, owner.uid, owner.gid);
    chmodSync(partial, entry?.kind === 'dir' ? entry.mode : 0o755);
  });
}

function hostPath({ projectDir, env }: VolumeHost, source: string): string {
  const path = source.startsWith('~/') ? join(env['HOME'] ?? homedir(), source.slice(2)) : resolve(projectDir, source);
  if (statSync(path, { throwIfNoEntry: false }) === undefined) throw new HdError('MOUNT_MISSING', `${source} is to be mounted, and is not there`, { hint: `make it: mkdir -p ${path}` });
  return path;
}
