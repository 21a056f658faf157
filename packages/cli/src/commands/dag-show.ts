import { existsSync } from 'node:fs';
import type { NodeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { GraphView } from '@hyperdocker/engine';
import { nodeLinks, viewGraph } from '@hyperdocker/engine';
import { envRef } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { renderGraph } from '../graph-renderer.ts';
import type { ProjectPlace } from '../project.ts';
import { locateProject } from '../project.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { args, flags, json, terminal } = invocation;
  const { root, view } = readGraph(locateProject(invocation, args[0]));
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.dag/1', root, graph: view })}\n`);
  else terminal.out(renderGraph(root, view, { paint: terminal.outPaint, all: flags.bool('all') }));
  return EXIT.ok;
}

function readGraph({ home, project, paths }: ProjectPlace): { root: string; view: GraphView } {
  if (!existsSync(home.storeDir)) throw notBuilt(project.dir);
  using store = openStore(home.storeDir, { nodeLinks, readOnly: true });
  const [root, previous] = (['root', 'previous'] as const).map((what) => store.getRef(envRef(paths.id, what))?.target.digest as NodeDigest | undefined);
  if (root === undefined) throw notBuilt(project.dir);
  const known = previous !== undefined && store.hasNode(previous) ? previous : undefined;
  return { root, view: viewGraph(store, root, known) };
}

function notBuilt(dir: string): HdError {
  return new HdError('NOT_BUILT', `${dir} has not been built yet`, { hint: 'run `hd up` or `hd build` first' });
}
