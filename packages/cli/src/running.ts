import { HdError } from '@hyperdocker/base';
import type { Emitted, SupervisorClient } from '@hyperdocker/environment';
import { connect } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import type { FollowOptions } from './follow.ts';
import type { ProjectPlace } from './project.ts';

/** Larger than any: events from now on. */
export const FROM_NOW = Number.MAX_SAFE_INTEGER;

export interface Session {
  client: SupervisorClient;
  /** It ran before: somebody else started it. */
  attached: boolean;
  /** Where to begin with its events. */
  since: number;
  /** Of the hd.toml that it was made by, where that is known. */
  specSha256?: string | undefined;
}

/** There is no more to do for a command that does not stay. */
export function isDone({ until }: Pick<FollowOptions, 'until'>, { attached, since }: Session): boolean {
  return attached && until === 'up' && since > 0;
}

export function sayAttached({ terminal }: Invocation): void {
  terminal.err('already running: attached\n');
}

/** One that is on its way out is waited for instead. */
export async function connectToLive({ paths }: ProjectPlace): Promise<Session | undefined> {
  const client = await connect(paths);
  if (client === undefined) return undefined;
  try {
    const { phase, specSha256 } = await client.status();
    if (phase === 'up' || phase === 'building') return { client, attached: true, since: phase === 'up' ? FROM_NOW : 0, specSha256 };
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
