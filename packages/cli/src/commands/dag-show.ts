import { viewGraph } from '@hyperdocker/engine';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { renderGraph } from '../graph-renderer.ts';
import { locateProject } from '../project.ts';
import { openRoots } from '../roots.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { args, flags, json, terminal } = invocation;
  using roots = openRoots(locateProject(invocation, args[0]));
  const view = viewGraph(roots.store, roots.current, roots.previous);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.dag/1', root: roots.current, graph: view })}\n`);
  else terminal.out(renderGraph(roots.current, view, { paint: terminal.outPaint, all: flags.bool('all') }));
  return EXIT.ok;
}
