import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';
import type { Emitted, LaunchOptions, SupervisorClient } from '@hyperdocker/environment';
import { connect, connectOrFail, ensureSystemPackages, findLeft, launch } from '@hyperdocker/environment';
import type { EnvSpec } from '@hyperdocker/spec';
import type { Invocation } from './command.ts';
import { EventRenderer } from './event-renderer.ts';
import { loadSpec } from './load-spec.ts';
import type { ProjectPlace } from './project.ts';

const JOIN_ATTEMPTS = 100;
const JOIN_INTERVAL_MS = 50;

/** Larger than any: events from now on. */
export const FROM_NOW = Number.MAX_SAFE_INTEGER;

export interface Session {
  client: SupervisorClient;
  /** It ran before: somebody else started it. */
  attached: boolean;
  /** Where to begin with its events. */
  since: number;
}

export type StartOptions = Pick<LaunchOptions, 'refreshImage' | 'watch' | 'buildOnly' | 'noCache' | 'profiles'>;

/** The supervisor of a project: the one that runs, or a new one. */
export async function attachOrLaunch(place: ProjectPlace, spec: EnvSpec, options: StartOptions, invocation: Invocation): Promise<Session> {
  const running = await connectToLive(place);
  if (running !== undefined) return running;
  await ensureSystemPackages({
    needs: { runtime: true, mmdebstrap: spec.environment.base.startsWith('apt://') },
    allowInstall: invocation.env['HD_NO_INSTALL'] !== '1',
    onMessage: (message) => invocation.terminal.err(`${message}\n`),
  });
  try {
    return { client: await launch({ ...place, ...options }), attached: false, since: 0 };
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
  const session = await attachOrLaunch(place, spec, { refreshImage: false, watch: left.watch, profiles: left.profiles, buildOnly: false, noCache: false }, invocation);
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

/** One that is on its way out is waited for instead. */
async function connectToLive({ paths }: ProjectPlace): Promise<Session | undefined> {
  const client = await connect(paths);
  if (client === undefined) return undefined;
  try {
    const { phase } = await client.status();
    if (phase === 'up' || phase === 'building') return { client, attached: true, since: phase === 'up' ? FROM_NOW : 0 };
    await stopAndWait(client, {});
  } catch (error) {
    // It ended between two calls.
    if (!(error instanceof HdError && error.code === 'NOT_RUNNING')) throw error;
  }
  return undefined;
}

/** Stops a supervisor and waits until its process has ended. `onEvent` sees what happens on the way. */
export async function stopAndWait(client: SupervisorClient, options: { kill?: boolean; onEvent?: (event: Emitted) => void }): Promise<void> {
  const ended = (async () => {
    for await (const event of client.events(FROM_NOW)) options.onEvent?.(event);
  })();
  await Promise.all([client.down({ kill: options.kill === true }), ended]);
}
