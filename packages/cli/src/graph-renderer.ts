import type { GraphView } from '@hyperdocker/engine';
import { oneLine, plural, shortDigest, shorten } from './format.ts';
import type { Paint, Style } from './terminal.ts';
import { printable } from './terminal.ts';

export interface GraphOptions {
  paint: Paint;
  /** Open large unchanged directories too. */
  all: boolean;
}

/** An unchanged directory with more below it than this is one line. */
const OPEN_LIMIT = 40;
const STATUS_STYLES: Record<GraphView['status'], Style> = { ok: 'dim', new: 'green', changed: 'yellow', removed: 'red' };

/** The graph as an indented tree, one line for each node. */
export function renderGraph(root: string, view: GraphView, options: GraphOptions): string {
  return `DAG root: ${root}\n${lines(view, 0, options).join('\n')}\n`;
}

function lines(view: GraphView, depth: number, options: GraphOptions): string[] {
  const below = countBelow(view);
  const closed = !options.all && depth > 1 && view.status === 'ok' && below > OPEN_LIMIT;
  const text = `${'  '.repeat(depth)}${`[${view.status}]`.padEnd(10)}${labelText(view)}${view.digest === '' ? '' : `  ${shortDigest(view.digest)}`}${closed ? `  (${plural(below, 'node')})` : ''}`;
  const line = options.paint(STATUS_STYLES[view.status], text);
  return closed ? [line] : [line, ...view.children.flatMap((child) => lines(child, depth + 1, options))];
}

function countBelow({ children }: GraphView): number {
  return children.reduce((sum, child) => sum + 1 + countBelow(child), 0);
}

function labelText({ kind, label }: GraphView): string {
  const command = kind === 'BuildStep' ? /^Build\(([\s\S]*)\)$/.exec(label)?.[1] : undefined;
  return printable(command === undefined ? label : `Build(${shorten(oneLine(command), 40)})`);
}
