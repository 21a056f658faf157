import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import type { Phase, ServiceReply, StatusReply } from './api.ts';
import { connect, findLeft } from './client.ts';
import type { EnvPaths, Home } from './home.ts';
import { pathsOf } from './home.ts';
import { projectOf, usedMsOf } from './known-environments.ts';
import { readPorts } from './published-ports.ts';
import { readSpecFile } from './spec-file.ts';
import { volumeNames } from './volumes.ts';

/** One environment of a home, running or not. */
export interface ListedEnvironment {
  id: string;
  name: string;
  /** The project's directory. */
  project: string;
  /** `left`: its supervisor was killed, and its files wait for somebody to go on with them. `gone`: its project is not there any more. */
  state: Phase | 'left' | 'down' | 'gone';
  pid: number | null;
  services: (Pick<ServiceReply, 'name' | 'url'> & { status: ServiceReply['status'] | 'not running'; /** On the host; the last one that it had, while it is down. */ port: number | null })[];
  /** Names of those that have been made. */
  volumes: string[];
  /** When it was last used; 0 where nobody knows. */
  usedMs: number;
}

/** All environments of a home: those that run first, then by their last use. Cleans up after those whose supervisors were killed. */
export async function listEnvironments(home: Home): Promise<ListedEnvironment[]> {
  const known = readdirSync(home.envsDir).map((id) => pathsOf(home, id)).filter((paths) => projectOf(paths) !== undefined);
  const listed = await Promise.all(known.map(async (paths) => describe(paths, await statusOf(paths))));
  return listed.sort((a, b) => Number(b.pid !== null) - Number(a.pid !== null) || b.usedMs - a.usedMs || (a.project < b.project ? -1 : 1));
}

async function statusOf(paths: EnvPaths): Promise<StatusReply | undefined> {
  try {
    return await (await connect(paths))?.status();
  } catch (error) {
    if (error instanceof HdError && error.code === 'NOT_RUNNING') return undefined;
    throw error;
  }
}

function describe(paths: EnvPaths, reply: StatusReply | undefined): ListedEnvironment {
  const project = reply?.project ?? projectOf(paths) ?? '';
  const common = { id: paths.id, project, volumes: volumeNames(paths), usedMs: usedMsOf(paths) };
  if (reply !== undefined) {
    const services = reply.services.map(({ name, status, url, published }) => ({ name, status, port: published?.port ?? null, ...(url === undefined ? {} : { url }) }));
    // Before its first build is done, the supervisor has no name for it.
    return { ...common, name: reply.name || nameOf(project), state: reply.phase, pid: reply.pid, services };
  }
  const services = Object.entries(readPorts(paths)).map(([name, port]) => ({ name, status: 'not running' as const, port }));
  return { ...common, name: nameOf(project), state: findLeft(paths) !== undefined ? 'left' : existsSync(join(project, 'hd.toml')) ? 'down' : 'gone', pid: null, services };
}

function nameOf(project: string): string {
  const specFile = join(project, 'hd.toml');
  const file = existsSync(specFile) ? readSpecFile({ dir: project, specFile }) : undefined;
  return file?.ok === true ? file.spec.environment.name : (project.split('/').at(-1) ?? '');
}
