import { sha256Hex } from '@hyperdocker/base';
import { bootSupervisor, readSpecText } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { EXIT } from './exit-code.ts';
import type { FollowOptions } from './follow.ts';
import type { ProjectPlace } from './project.ts';
import { locateProject } from './project.ts';
import type { Session } from './running.ts';
import { connectToLive, isDone, sayAttached } from './running.ts';

/**
 * Starts or attaches, and follows the events to the end. Somebody waits for it, mostly where there is nothing to do: so hd.toml is not
 * parsed where it is the one that the environment was made by, and a supervisor starts while it is.
 */
export async function start(invocation: Invocation, options: FollowOptions): Promise<number> {
  const place = locateProject(invocation, invocation.args[0]);
  const running = await connectToLive(place);
  if (running !== undefined && isDone(options, running) && isMadeBy(running, place)) {
    sayAttached(invocation);
    return EXIT.ok;
  }
  using booting = running === undefined ? bootSupervisor(place) : undefined;
  const { follow } = await import('./follow.ts');
  return await follow(invocation, place, options, { running, booting });
}

/** By hd.toml as it is now. */
export function isMadeBy({ specSha256 }: Session, { project }: ProjectPlace): boolean {
  try {
    return specSha256 === sha256Hex(readSpecText(project));
  } catch {
    // Whoever parses it says what is wrong with it.
    return false;
  }
}
