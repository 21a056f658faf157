import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Invocation } from './command.ts';
import { ImageProgressView } from './image-progress.ts';
import { makePaint } from './terminal.ts';
import type { Terminal } from './terminal.ts';

const LAYERS = ['a', 'b'].map((digit) => `sha256:${digit.repeat(64)}`) as [string, string];

/** A view, and all that it has written: to the terminal, and to standard error. */
function viewOf(options: { live?: boolean; json?: boolean; quiet?: boolean }): { view: ImageProgressView; drawn: string[]; said: string[] } {
  const [drawn, said]: [string[], string[]] = [[], []];
  const paint = makePaint(false);
  const terminal: Terminal = {
    out: () => assert.fail('data is the command’s own'), err: (text) => void said.push(text), outPaint: paint, errPaint: paint, isInteractive: false, closed: new AbortController().signal,
    live: options.live === true ? { write: (text) => void drawn.push(text), columns: () => 80, rows: () => 24 } : undefined,
  };
  return { view: new ImageProgressView({ terminal, json: options.json === true, quiet: options.quiet === true } as Invocation), drawn, said };
}

function play(view: ImageProgressView): void {
  using shown = view;
  shown.show({ kind: 'found', layers: 3, here: 1, totalBytes: 4 << 20 });
  shown.show({ kind: 'download', digest: LAYERS[0], doneBytes: 1 << 20, totalBytes: 2 << 20 });
  shown.show({ kind: 'download', digest: LAYERS[1], doneBytes: 2 << 20, totalBytes: 2 << 20 });
  shown.show({ kind: 'download', digest: LAYERS[0], doneBytes: 2 << 20, totalBytes: 2 << 20 });
  shown.show({ kind: 'unpacked', layer: 2, layers: 3 });
}

test('on a terminal, a bar for each layer on its way, and nothing of them stays', () => {
  const { view, drawn, said } = viewOf({ live: true });
  play(view);
  assert.match(drawn.join(''), /aaaaaaaaaaaa \[={15}> {14}\] 1\.0 MB of 2\.0 MB\n/);
  assert.deepEqual(said, ['3 layers, 1 here already: 4.0 MB\n', 'bbbbbbbbbbbb fetched, 2.0 MB\n', 'aaaaaaaaaaaa fetched, 2.0 MB\n', '[2/3] unpacked\n']);
  assert(!drawn.at(-1)?.includes('['.concat('=')), 'the last that is drawn is no bar');
});

test('elsewhere, lines alone; with --json or --quiet, nothing', () => {
  const { view, drawn, said } = viewOf({});
  play(view);
  assert.deepEqual([drawn.length, said.length], [0, 4]);
  for (const options of [{ json: true }, { quiet: true, live: true }]) {
    const silent = viewOf(options);
    play(silent.view);
    assert.deepEqual([silent.drawn, silent.said], [[], []]);
  }
});
