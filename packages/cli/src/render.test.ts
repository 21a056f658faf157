import assert from 'node:assert/strict';
import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { HdError } from '@hyperdocker/base';
import type { GraphView } from '@hyperdocker/engine';
import { writeLock } from '@hyperdocker/spec';
import { detectKind } from './commands/init.ts';
import { renderStatus } from './commands/status.ts';
import { renderEnvironments } from './environment-table.ts';
import { renderError } from './errors.ts';
import { formatBytes, formatCount, formatDuration } from './format.ts';
import { renderGraph } from './graph-renderer.ts';
import { lockDifference } from './lock-difference.ts';
import { LogFile } from './log-file.ts';
import { makePaint, printable, wantsColor } from './terminal.ts';

const plain = makePaint(false);

test('numbers for people', () => {
  assert.deepEqual([0.04, 1.2, 9.97, 412.4, 999.7, 3200, 59_999, 125_000].map((ms) => formatDuration(ms)), ['0.0ms', '1.2ms', '10ms', '412ms', '1.0s', '3.2s', '1m00s', '2m05s']);
  assert.deepEqual([0, 1023, 1024, 1843, 1_048_575, 5 * 2 ** 30].map(formatBytes), ['0 B', '1023 B', '1.0 KB', '1.8 KB', '1.0 MB', '5.0 GB']);
  assert.deepEqual([1, 999, 1247, 1_234_567].map(formatCount), ['1', '999', '1,247', '1,234,567']);
});

test('colour: an option, then NO_COLOR, then FORCE_COLOR, then the terminal', () => {
  assert.equal(wantsColor('auto', true, {}), true);
  assert.equal(wantsColor('auto', false, {}), false);
  assert.equal(wantsColor('auto', true, { TERM: 'dumb' }), false);
  assert.equal(wantsColor('auto', true, { NO_COLOR: '1', FORCE_COLOR: '1' }), false);
  assert.equal(wantsColor('auto', false, { FORCE_COLOR: '1' }), true);
  assert.equal(wantsColor('auto', true, { FORCE_COLOR: '0' }), false);
  assert.equal(wantsColor('always', false, { NO_COLOR: '1' }), true);
  assert.equal(wantsColor('never', true, { FORCE_COLOR: '1' }), false);
});

test('errors say what happened, what to do, and what to exit with', () => {
  const error = new HdError('NOT_RUNNING', 'the environment is not running', { hint: 'start it with `hd up`', cause: new Error('no socket') });
  assert.deepEqual(renderError(error, plain, { debug: false }), { text: 'hd: the environment is not running\n  hint: start it with `hd up`\n', exitCode: 4 });
  assert.match(renderError(error, plain, { debug: true }).text, /cause: no socket/);
  const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
  assert.match(renderError(full, plain, { debug: false }).text, /^hd: ENOSPC: no space left on device, write\n  hint: free some space.*\n$/);
  const bug = renderError(new TypeError('x is undefined'), plain, { debug: false });
  assert.equal(bug.exitCode, 1);
  assert.match(bug.text, /^hd: x is undefined\nTypeError: x is undefined\n[\s\S]*this is a bug/);
  for (const [code, exitCode] of [['USAGE', 2], ['SPEC_INVALID', 2], ['LOCK_STALE', 3], ['TIMEOUT', 5], ['REGISTRY_UNREACHABLE', 1]] as const) {
    assert.equal(renderError(new HdError(code, 'm'), plain, { debug: false }).exitCode, exitCode, code);
  }
});

test('the graph, in the shape that is documented', () => {
  const node = (kind: GraphView['kind'], label: string, digit: string, status: GraphView['status'], children: GraphView[] = []): GraphView => ({ kind, label, digest: digit === '' ? '' : digit.repeat(64), status, children });
  const view = node('Env', 'Env(flask-demo)', 'a', 'changed', [
    node('Package', 'Pkg(oci/python:3.11-slim 1234)', 'd', 'ok'),
    node('Dir', 'Dir(.)', 'f', 'changed', [
      node('File', 'app.py', 'b', 'changed'),
      node('File', 'link', '', 'new'),
      node('File', 'old.py', 'c', 'removed'),
      node('Dir', 'Dir(big)', 'e', 'ok', Array.from({ length: 41 }, (_, i) => node('File', `f${i}`, '1', 'ok'))),
    ]),
    node('BuildStep', 'Build(pip install --no-cache-dir --no-compile -r requirements.txt)', '2', 'ok'),
  ]);
  assert.equal(renderGraph('a'.repeat(64), view, { paint: plain, all: false }), `DAG root: ${'a'.repeat(64)}
[changed] Env(flask-demo)  aaaaaaaaaaaa
  [ok]      Pkg(oci/python:3.11-slim 1234)  dddddddddddd
  [changed] Dir(.)  ffffffffffff
    [changed] app.py  bbbbbbbbbbbb
    [new]     link
    [removed] old.py  cccccccccccc
    [ok]      Dir(big)  eeeeeeeeeeee  (41 nodes)
  [ok]      Build(pip install --no-cache-dir --no-compile…)  222222222222
`);
  assert.equal(renderGraph('a', view, { paint: plain, all: true }).split('\n').length, 1 + 7 + 41 + 1 + 1);
  assert(renderGraph('a', view, { paint: makePaint(true), all: false }).includes('\u001b[33m    [changed] app.py'));
});

test('status of an environment that runs, and of one that does not', () => {
  const service = { name: 'web', command: 'python3 app.py', watch: ['**/*.py', 'templates/**'], restarts: 2, port: 5000, published: { address: 'loopback', port: 5001 } };
  const common = { schema: 'hd.status/1', name: 'demo', base: 'apt://bookworm', project: '/p', network: 'private' } as const;
  const running = renderStatus({ ...common, state: 'up', root: 'abc', pid: 7, tracing: true, wayOut: 'veth', services: [{ ...service, status: 'ready', sinceMs: 1000, url: 'http://localhost:5001', alias: 'http://web.p.localhost:5001' }], volumes: ['data', 'logs'] }, plain, 4000);
  assert.equal(running, `Environment: demo
Base image:  apt://bookworm
DAG root:    abc
State:       up (pid 7)
Tracing:     on
Network:     private, out through veth
Volumes:     data, logs
Project:     /p

Services:
  web
    command: python3 app.py
    watch:   **/*.py, templates/**
    state:   ready for 3.0s, 2 restarts
    url:     http://localhost:5001 (port 5000 inside)
             http://web.p.localhost:5001
`);
  const stopped = renderStatus({ ...common, state: 'not running', root: null, pid: null, tracing: null, wayOut: null, services: [], volumes: [] }, plain, 0);
  assert.match(stopped, /DAG root: {4}not built yet\nState: {7}not running\nNetwork: {5}private\nProject: {5}\/p\nServices: {4}none\n/);
});

test('a table of all environments: those that are down have the ports that they had', () => {
  const common = { id: 'x', usedMs: 0, volumes: [] };
  const table = renderEnvironments([
    { ...common, name: 'shop', project: '/srv/shop', state: 'up', pid: 7, services: [{ name: 'web', status: 'ready', port: 5000, url: 'http://localhost:5000' }, { name: 'worker', status: 'ready', port: null }, { name: 'api', status: 'failed', port: 8000 }] },
    { ...common, name: 'shop', project: '/srv/shop-fix', state: 'down', pid: null, services: [{ name: 'web', status: 'not running', port: 5001 }] },
    { ...common, name: 'tool', project: '/srv/\u001b[31mtool', state: 'gone', pid: null, services: [] },
  ], plain);
  assert.equal(table, `NAME  STATE  PORTS               DIRECTORY
shop  up     web:5000, api:8000  /srv/shop
shop  down   web:5001            /srv/shop-fix
tool  gone   -                   /srv/${printable('\u001b[31mtool')}
`);
  const volumes = renderEnvironments([{ ...common, name: 'shop', project: '/srv/shop', state: 'down', pid: null, services: [], volumes: ['cache', 'data'] }, { ...common, name: 'tool', project: '/srv/tool', state: 'down', pid: null, services: [] }], plain);
  assert.equal(volumes, `NAME  STATE  PORTS  VOLUMES      DIRECTORY
shop  down   -      cache, data  /srv/shop
tool  down   -      -            /srv/tool
`);
});

test('a lock that differs says in what', () => {
  const item = (name: string, version: string, digit: string) => ({ provider: 'apt', name, version, artifact: digit.repeat(64) });
  const lock = (packages: ReturnType<typeof item>[]) => writeLock({ version: 1, specDigest: '0'.repeat(64), platform: 'linux-amd64', packages });
  const difference = lockDifference(lock([item('curl', '1', 'a'), item('git', '1', 'a'), item('gone', '1', 'a'), item('same', '1', 'a')]), lock([item('curl', '2', 'b'), item('git', '1', 'b'), item('new', '3', 'a'), item('same', '1', 'a')]));
  assert.deepEqual(difference, ['~ apt/curl 1 → 2', '~ apt/git 1: aaaaaaaaaaaa → bbbbbbbbbbbb', '+ apt/new 3', '- apt/gone 1']);
  assert.deepEqual(lockDifference('<<<<<<< ours\n', lock([])), ['~ the old hd.lock cannot be read']);
});

test('a log file is read on from where it was left, by whole lines, and from the start when it was emptied', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-cli-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const file = new LogFile('web', dir);
  assert.deepEqual(file.read(), []);
  const line = (t: number, text: string): string => `${JSON.stringify({ t, stream: 'stdout', text })}\n`;
  const path = join(dir, 'web.log');
  writeFileSync(path, line(1, 'one') + line(2, 'zwölf').slice(0, -8));
  assert.deepEqual(file.read().map(({ text }) => text), ['one']);
  appendFileSync(path, line(2, 'zwölf').slice(-8));
  assert.deepEqual(file.read(), [{ service: 'web', t: 2, stream: 'stdout', text: 'zwölf' }]);
  writeFileSync(path, line(3, 'x'));
  assert.deepEqual(file.read().map(({ text }) => text), ['x']);
});

test('the kind of a project is told by its files', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-cli-'));
  context.after(() => rmSync(dir, { recursive: true }));
  assert.deepEqual(detectKind(dir), { kind: 'generic' });
  mkdirSync(join(dir, 'sub'));
  for (const [file, kind] of [['Makefile', 'c'], ['Cargo.toml', 'rust'], ['go.mod', 'go'], ['requirements.txt', 'python'], ['package.json', 'node']] as const) {
    writeFileSync(join(dir, file), '');
    assert.deepEqual(detectKind(dir), { kind, because: file });
  }
});
