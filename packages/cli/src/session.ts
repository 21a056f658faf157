import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';
import type { BootingSupervisor, LaunchOptions, SpecText, SupervisorClient } from '@hyperdocker/environment';
import { connectOrFail, ensureSystemPackages, findLeft, launch } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { EventRenderer } from './event-renderer.ts';
import { loadSpec } from './load-spec.ts';
import type { ProjectPlace } from './project.ts';
import type { Session } from './running.ts';
import { connectToLive } from './running.ts';

const JOIN_ATTEMPTS = 100;
const JOIN_INTERVAL_MS = 50;

export type StartOptions = Pick<LaunchOptions, 'refreshImage' | 'watch' | 'noCache' | 'profiles'>;

/** The supervisor of a project: the one that runs, or a new one. @param booting one that was started ahead */
export async function attachOrLaunch(place: ProjectPlace, file: SpecText, options: StartOptions, invocation: Invocation, booting?: BootingSupervisor): Promise<Session> {
  const running = await connectToLive(place);
  if (running !== undefined) return running;
  await ensureSystemPackages({
    needs: { runtime: true, mmdebstrap: file.spec.environment.base.startsWith('apt://') },
    allowInstall: invocation.env['HD_NO_INSTALL'] !== '1',
    onMessage: (message) => invocation.terminal.err(`${message}\n`),
  });
  try {
    return { client: await launch({ ...place, ...options, file }, booting), attached: false, since: 0 };
  } catch (error) {
    if (error instanceof HdError && error.code === 'ALREADY_RUNNING') return await joinFaster(place, error);
    throw error;
  }
}

/**
 * Where a supervisor has been killed and has left its files, one that goes on with them: resolves once its services have come to something.
 * @throws HdError NOT_RUNNING, and those of starting
 */
export async function goOn(place: ProjectPlace, invocation: Invocation): Promise<SupervisorClient> {
  const left = findLeft(place.paths);
  if (left === undefined) return await connectOrFail(place.paths);
  const { terminal } = invocation;
  const { text, spec } = loadSpec(place.project, terminal);
  const renderer = new EventRenderer({ services: spec.services.map(({ name }) => name), specText: text, outPaint: terminal.errPaint, errPaint: terminal.errPaint, quiet: true });
  const session = await attachOrLaunch(place, { text, spec }, { refreshImage: false, watch: left.watch, profiles: left.profiles, noCache: false }, invocation);
  for await (const event of session.client.events(0)) {
    // Standard output is the command's own.
    if (event.type !== 'log') for (const line of renderer.render(event)) terminal.err(`${line.text}\n`);
    if (event.type === 'failed') throw HdError.fromJSON(event.error);
    if (event.type === 'up') break;
  }
  return session.client;
}

/** Somebody else's `hd up` was faster: its supervisor can be reached a moment after it has taken the environment. */
async function joinFaster(place: ProjectPlace, refusal: HdError): Promise<Session> {
  for (let attempt = 0; attempt < JOIN_ATTEMPTS; attempt++) {
    const session = await connectToLive(place);
    if (session !== undefined) return session;
    await delay(JOIN_INTERVAL_MS);
  }
  throw refusal;
}

