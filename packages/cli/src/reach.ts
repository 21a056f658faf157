import type { SupervisorClient } from '@hyperdocker/environment';
import { connect } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import type { ProjectPlace } from './project.ts';

/**
 * The supervisor of an environment that is up, or one that goes on with what another has left. What that takes is loaded only then: `hd exec` is to start at once.
 * @throws HdError NOT_RUNNING, and those of starting
 */
export async function reach(place: ProjectPlace, invocation: Invocation): Promise<SupervisorClient> {
  const client = await connect(place.paths);
  if (client !== undefined) return client;
  const { goOn } = await import('./session.ts');
  return await goOn(place, invocation);
}
