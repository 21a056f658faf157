import { dryRun } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { EXIT } from './exit-code.ts';
import { loadSpec } from './load-spec.ts';
import { tellPlan } from './planned-steps.ts';
import { locateProject } from './project.ts';

/** `hd build --dry-run`. Apart, because a build need not wait for what tells the future of one. */
export function tellDryRun(invocation: Invocation, { noCache }: { noCache: boolean }): number {
  const { args, env, terminal } = invocation;
  const place = locateProject(invocation, args[0]);
  loadSpec(place.project, terminal);
  tellPlan(invocation, dryRun(place, { noCache, env }));
  return EXIT.ok;
}
