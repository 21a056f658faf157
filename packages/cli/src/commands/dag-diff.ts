import { viewGraph, withoutUnchanged } from '@hyperdocker/engine';
import type { Invocation } from '../command.ts';
import { compared } from '../compared-roots.ts';
import { EXIT } from '../exit-code.ts';
import { renderGraph } from '../graph-renderer.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { json, terminal } = invocation;
  using roots = compared(invocation);
  const { store, before, after } = roots;
  const view = withoutUnchanged(viewGraph(store, after, before));
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.dag.diff/1', before, after, graph: view })}\n`);
  else if (before === after) terminal.out('No differences.\n');
  else terminal.out(renderGraph(after, view, { paint: terminal.outPaint, all: true }));
  return EXIT.ok;
}
