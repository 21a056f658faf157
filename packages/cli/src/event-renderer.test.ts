import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BuiltEvent, HdEvent, StepId } from '@hyperdocker/environment';
import type { EventRendererOptions } from './event-renderer.ts';
import { EventRenderer } from './event-renderer.ts';
import { makePaint } from './terminal.ts';

const specText = '[environment]\nname = "demo"\n\n[build]\nsteps = [\n  "pip install -r requirements.txt",\n]\n';
const step: StepId = { index: 1, total: 2, command: 'pip install -r requirements.txt', line: 6 };
const built: BuiltEvent = { type: 'built', name: 'flask-demo', root: 'a1b2c3d4e5f6'.padEnd(64, '0'), ms: 1.2, files: 4, bytes: 1843, services: ['web'], ran: 0, cached: 2, discarded: 0, hashed: 1 };

function render(events: HdEvent[], options: Partial<EventRendererOptions> = {}): { out: string; err: string } {
  const plain = makePaint(false);
  const renderer = new EventRenderer({ services: ['web', 'database'], specText, outPaint: plain, errPaint: plain, quiet: false, ...options });
  const lines = events.flatMap((event) => renderer.render(event));
  const of = (stream: string): string => lines.filter((line) => line.stream === stream).map(({ text }) => `${text}\n`).join('');
  return { out: of('stdout'), err: of('stderr') };
}

test('a rebuild, in the shape that is documented', () => {
  const { out } = render([
    { type: 'step', status: 'cached', step, facts: 3, savedMs: 2000 },
    { type: 'step', status: 'cached', step: { ...step, index: 2, command: 'make\n  all' }, facts: 3, savedMs: 1100 },
    { ...built, changes: [{ path: 'app.py', change: 'changed' }], summary: { changed: 1, added: 0, removed: 0, unchanged: 3 } },
  ]);
  assert.equal(out, `[1/2] CACHED pip install -r requirements.txt (saved 2.0s)
[2/2] CACHED make all (saved 1.1s)
Environment 'flask-demo' built in 1.2ms
DAG root: ${built.root}
Files: 4 (1.8 KB)  Services: web
Steps: 0 ran, 2 cached (saved 3.1s)

Changes detected since last build:
  ~ app.py

  1 changed, 0 added, 0 removed, 3 unchanged

`);
});

test('a first build has no changes to tell, and one without services names none', () => {
  const { out } = render([{ ...built, services: [], cached: 0 }]);
  assert.equal(out, `Environment 'flask-demo' built in 1.2ms\nDAG root: ${built.root}\nFiles: 4 (1.8 KB)\n`);
});

test('the summary says how many runs ahead were thrown away', () => {
  const summary = (discarded: number): string | undefined => render([{ ...built, ran: 2, cached: 0, discarded }]).out.split('\n')[3];
  assert.equal(summary(1), 'Steps: 2 ran, 0 cached, 1 run ahead of its turn thrown away');
  assert.equal(summary(2), 'Steps: 2 ran, 0 cached, 2 runs ahead of their turn thrown away');
});

test('a step that runs: its reason, its output in whole lines, its time', () => {
  const { out } = render([
    { type: 'step', status: 'running', step, reason: 'it has never run' },
    { type: 'step-output', step, text: 'Colle' },
    { type: 'step-output', step, text: 'cting\n10%\r50%\r100%\n\u001b[31mred\u001b[0m\nno end' },
    { type: 'step', status: 'ran', step, ms: 3200, facts: 10, volatile: [] },
  ]);
  assert.equal(out, `[1/2] RUN pip install -r requirements.txt (hd.toml:6): it has never run
  | Collecting
  | 100%
  | red
  | no end
[1/2] DONE 3.2s
`);
});

/** A renderer for a terminal of 80 columns, and what its region shows at some width, without times. */
function onTerminal(columns = 80): { show(event: HdEvent): string[]; region(columns: number): string[] } {
  const plain = makePaint(false);
  const renderer = new EventRenderer({ services: [], specText, outPaint: plain, errPaint: plain, quiet: false, live: { columns: () => columns } });
  return {
    show: (event) => renderer.render(event).map(({ text }) => text),
    region: (width) => renderer.region(performance.now(), width).map((line) => line.replace(/\d+\.\ds$/, 'T')),
  };
}
const second: StepId = { ...step, index: 2, command: 'make' };

test('on a terminal, steps that run are shown in a region and leave their line and time', () => {
  const { show, region } = onTerminal();
  assert.deepEqual(show({ type: 'step', status: 'running', step, reason: 'it has never run' }), []);
  assert.deepEqual(show({ type: 'step', status: 'ahead', step: second }), []);
  assert.deepEqual(show({ type: 'step-output', step, text: `${Array.from({ length: 9 }, (_, i) => `line ${i}`).join('\n')}\nhalf` }), []);
  assert.deepEqual(region(80), ['[1/2] RUN pip install -r requirements.txt T', ...[3, 4, 5, 6, 7, 8].map((i) => `  | line ${i}`), '[2/2] AHEAD make T']);
  assert(region(24).every((line) => line.length <= 24), region(24).join('\n'));
  assert.deepEqual(show({ type: 'step', status: 'ran', step, ms: 3200, facts: 10, volatile: [] }), ['[1/2] RUN pip install -r requirements.txt (hd.toml:6): it has never run', '[1/2] DONE 3.2s']);
  show({ type: 'step', status: 'running', step: second, reason: 'it has never run' });
  show({ type: 'step-output', step: second, text: 'cc -c a.c\ncc -c b.c\nin colour \u001b[31mred\n' });
  assert.deepEqual(region(80), ['[2/2] RUN make T', '  | cc -c a.c', '  | cc -c b.c', '  | in colour red']);
  assert.deepEqual(show({ type: 'step', status: 'failed', step: second, ms: 5, exitCode: 2, log: 'no rule\n' }).slice(0, 3), ['[2/2] RUN make (hd.toml:6): it has never run', '[2/2] FAILED with exit code 2 after 5.0ms', '  | no rule']);
  assert.deepEqual(region(80), []);
});

test('a run ahead that is thrown away leaves nothing on a terminal; elsewhere it is named if its turn had come', () => {
  const { show, region } = onTerminal();
  const events: HdEvent[] = [
    { type: 'step', status: 'ahead', step: second },
    { type: 'step', status: 'discarded', step: second },
    { type: 'step', status: 'ahead', step: second },
    { type: 'step', status: 'running', step: second, reason: 'it has never run' },
    { type: 'step-output', step: second, text: 'in vain\n' },
    { type: 'step', status: 'discarded', step: second },
  ];
  assert.deepEqual(events.flatMap(show), []);
  assert.deepEqual(region(80), []);
  assert.equal(render(events).out, '[2/2] RUN make (hd.toml:6): it has never run\n  | in vain\n[2/2] runs again: a step before it changed what it looks at\n');
});

test('the region is empty once a build has come to its end, whatever was still running', () => {
  for (const end of [{ type: 'failed', error: { code: 'STEP_FAILED', message: 'it failed' } }, { type: 'stopped' }] satisfies HdEvent[]) {
    const { show, region } = onTerminal();
    show({ type: 'step', status: 'running', step, reason: 'it has never run' });
    show(end);
    assert.deepEqual(region(80), []);
  }
});

test('lines with commands are kept within the terminal, by its columns and not by characters', () => {
  const long = { ...step, command: `echo ${'long '.repeat(40)}` };
  const { show, region } = onTerminal(60);
  show({ type: 'step', status: 'running', step: long, reason: 'it has never run' });
  show({ type: 'step-output', step: long, text: `${'漢字'.repeat(40)}\n${'é'.repeat(70)}\n${'e\u0301'.repeat(20)}\n${'🚀'.repeat(30)}\n` });
  assert.deepEqual(region(30), ['[1/2] RUN echo long long… T', `  | ${'漢字'.repeat(6)}…`, `  | ${'é'.repeat(25)}…`, `  | ${'e\u0301'.repeat(20)}`, `  | ${'🚀'.repeat(12)}…`]);
  const [heading = ''] = show({ type: 'step', status: 'ran', step: long, ms: 1, facts: 1, volatile: [] });
  assert.match(heading, /^\[1\/2\] RUN echo long long long lon… \(hd\.toml:6\): it has never run$/);
  assert.equal(onTerminal(60).show({ type: 'step', status: 'cached', step: long, facts: 1, savedMs: 1000 })[0]?.length, 59);
  const [, , , , source = '', marks = ''] = show({ type: 'step', status: 'failed', step: { ...step, command: 'x' }, ms: 1, exitCode: 1, log: 'a\nb\n' });
  assert(source.length <= 60 && marks.length <= 60);
});

test('a step that fails: the end of its log, and its place in hd.toml', () => {
  const { out, err } = render([
    { type: 'step', status: 'failed', step, ms: 812, exitCode: 3, log: `${Array.from({ length: 30 }, (_, i) => `line ${i}`).join('\n')}\n` },
    { type: 'failed', error: { code: 'STEP_FAILED', message: 'it failed' } },
    { type: 'stopped' },
  ]);
  assert.equal(out, '');
  assert(err.startsWith('[1/2] FAILED with exit code 3 after 812ms\n  … 10 lines before these\n  | line 10\n'));
  assert(err.endsWith(`  | line 29
hd.toml:6:3: error: this step ended with exit code 3
6 |   "pip install -r requirements.txt",
  |   ~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
`));
});

test('on a terminal, where its output was not printed before, a step that fails shows more of it', () => {
  const log = Array.from({ length: 250 }, (_, i) => `line ${i}`).join('\n');
  const lines = onTerminal().show({ type: 'step', status: 'failed', step, ms: 812, exitCode: 3, log });
  assert.deepEqual(lines.slice(0, 3), ['[1/2] FAILED with exit code 3 after 812ms', '  … 50 lines before these', '  | line 50']);
});

test('a step of [dependencies] has no line to show', () => {
  const dependency = { ...step, line: 0 };
  const { out, err } = render([
    { type: 'step', status: 'running', step: dependency, reason: 'it has never run' },
    { type: 'step', status: 'failed', step: dependency, ms: 5, exitCode: 100, log: 'E: no such package\n' },
  ]);
  assert.equal(out, '[1/2] RUN pip install -r requirements.txt ([dependencies]): it has never run\n');
  assert.equal(err, '[1/2] FAILED with exit code 100 after 5.0ms\n  | E: no such package\n');
});

test('services say what happened to them and why', () => {
  const { out } = render([
    { type: 'service', name: 'web', status: 'starting', port: 5000 },
    { type: 'service', name: 'web', status: 'ready', port: 5000, url: 'http://localhost:5000', alias: 'http://web.demo.localhost:5000', ms: 412 },
    { type: 'up', ms: 1500, failed: [] },
    { type: 'service', name: 'web', status: 'restarting', port: 5000, cause: 'app.py changed' },
    { type: 'service', name: 'web', status: 'starting', port: 5000, cause: 'app.py changed' },
    { type: 'service', name: 'web', status: 'ready', port: 5000, cause: 'app.py changed', ms: 41 },
    { type: 'service', name: 'database', status: 'backing-off', exitCode: 1, retryMs: 200 },
    { type: 'service', name: 'database', status: 'starting', cause: 'it ended' },
    { type: 'service', name: 'database', status: 'ready', cause: 'it ended', ms: 50 },
    { type: 'service', name: 'database', status: 'failed', exitCode: 2 },
    { type: 'service', name: 'web', status: 'stopped' },
    { type: 'stopped' },
  ]);
  assert.equal(out, `web       starting
web       ready on http://localhost:5000, http://web.demo.localhost:5000 (412 ms)
Up in 1.5s.
web       restarting (app.py changed)
web       restarted (app.py changed, 41 ms)
database  exit 1: starts again in 200 ms
database  restarted (exit 1, 50 ms)
database  failed (exit 2)
web       stopped
Stopped.
`);
});

test('logs: one width for all services, each stream to its own, nothing lost', () => {
  const long = 'x'.repeat(500);
  const { out, err } = render([
    { type: 'log', service: 'web', stream: 'stdout', text: 'hello' },
    { type: 'log', service: 'database', stream: 'stderr', text: 'oh\r\n' },
    { type: 'log', service: 'web', stream: 'stdout', text: `${long}\n\u001b[2J\u001b]0;title\u0007after` },
  ]);
  assert.equal(out, `web      | hello\nweb      | ${long}\nweb      | after\n`);
  assert.equal(err, 'database | oh\n');
});

test('one short name keeps its distance', () => {
  assert.equal(render([{ type: 'log', service: 'web', stream: 'stdout', text: 'hi' }], { services: ['web'] }).out, 'web    | hi\n');
});

test('edits while it is up: one line each, and none for steps that need not run', () => {
  const summary = { changed: 1, added: 0, removed: 0, unchanged: 3 };
  const { out } = render([
    built,
    { type: 'step', status: 'cached', step, facts: 3, savedMs: 2000 },
    { type: 'change', changes: [{ path: 'app.py', change: 'changed' }, { path: 'b', change: 'added' }], summary, ms: 12, ran: 0 },
    { type: 'change', changes: Array.from({ length: 214 }, (_, i) => ({ path: `f${i}`, change: 'changed' as const })), summary, ms: 1200, ran: 1 },
    { type: 'change', changes: [{ path: 'up.log', change: 'changed' }], summary, ms: 3, ran: 0 },
  ], { ownOutputs: ['up.log'] });
  assert.deepEqual(out.split('\n').slice(4), ['~ app.py, + b (12 ms)', '214 files changed (1.2 s, 1 step ran)', '']);
});

test('quiet leaves logs, warnings and errors', () => {
  const { out, err } = render([
    { type: 'image', status: 'cached', base: 'debian:12' },
    built,
    { type: 'log', service: 'web', stream: 'stdout', text: 'hello' },
    { type: 'warning', code: 'NO_FUSE', message: 'no FUSE' },
    { type: 'clash', path: 'a', keptAt: '/kept/a', inside: '1'.repeat(64), host: '2'.repeat(64) },
    { type: 'up', ms: 5, failed: ['web'] },
  ], { quiet: true });
  assert.equal(out, 'web      | hello\n');
  assert.equal(err, 'warning: no FUSE\nwarning: a was changed on both sides (host 222222222222, inside 111111111111); the one that was inside is kept at /kept/a\nwarning: up in 5.0ms, but not running: web\n');
});

test('colour is in the output only where it is wanted', () => {
  const events: HdEvent[] = [{ ...built, changes: [{ path: 'a', change: 'added' }, { path: 'b', change: 'removed' }], summary: { changed: 0, added: 1, removed: 1, unchanged: 0 } }];
  const { out } = render(events, { outPaint: makePaint(true) });
  assert(out.includes('\u001b[32m+ a\u001b[39m') && out.includes('\u001b[31m- b\u001b[39m'));
  assert(!render(events).out.includes('\u001b'));
});
