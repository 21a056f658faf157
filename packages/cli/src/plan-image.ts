import type { DockerfileRequest, Home } from '@hyperdocker/environment';
import { dryBuild } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { EXIT } from './exit-code.ts';
import { tellPlan } from './planned-steps.ts';

/** `hd build -f --dry-run`. */
export async function planImage(invocation: Invocation, request: DockerfileRequest, home: Home): Promise<number> {
  const { env, terminal } = invocation;
  tellPlan(invocation, await dryBuild(request, { home, env, signal: terminal.closed }));
  return EXIT.ok;
}
