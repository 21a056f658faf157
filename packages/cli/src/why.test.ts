import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, openStore } from '@hyperdocker/cas';
import type { ActionDefinition, Trace } from '@hyperdocker/engine';
import { Asked, definitionKey, nodeLinks, openActionCache } from '@hyperdocker/engine';
import { envPaths, findProject, openHome } from '@hyperdocker/environment';
import { parseCommandLine } from './args.ts';
import { COMMANDS } from './commands.ts';
import { renderError } from './errors.ts';
import { makePaint } from './terminal.ts';

const NOW = Date.now();

const SPEC = `[environment]
name = "demo"
base = "scratch"

[build]
steps = ["make one", "make two", "make three $TOKEN", "echo late"]

[services.web]
command = "serve"
watch = ["src/*.c"]

[services.db]
command = "store"

[files]
exclude = ["*.log"]
`;

function treeOf(store: Store, files: Record<string, string>): TreeDigest {
  const builder = new TreeBuilder(store);
  for (const [path, text] of Object.entries(files)) builder.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: text.length });
  return builder.finish();
}

/** `hd` in this process: a question takes milliseconds. */
async function runHere(cwd: string, env: NodeJS.ProcessEnv, ...args: string[]): Promise<{ status: number; stdout: string; stderr: string }> {
  let [stdout, stderr] = ['', ''];
  const plain = makePaint(false);
  const terminal = { out: (text: string) => void (stdout += text), err: (text: string) => void (stderr += text), outPaint: plain, errPaint: plain, isInteractive: false, live: undefined, closed: new AbortController().signal };
  try {
    const line = parseCommandLine(args, COMMANDS, cwd);
    assert(line.kind === 'run');
    const { run } = await line.command.load();
    const status = await run({ ...line, env, terminal });
    return { status, stdout, stderr };
  } catch (error) {
    const { text, exitCode } = renderError(error, plain, { debug: false });
    return { status: exitCode, stdout, stderr: stderr + text };
  }
}

/** What `hd build` would leave of steps that ran, were cached, failed and were not reached: no container is needed to ask why. */
function leaveBuild(dir: string, env: NodeJS.ProcessEnv): void {
  const home = openHome(env);
  const paths = envPaths(home, findProject(dir));
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  const input = treeOf(store, { 'w/src/a.c': 'int a;', 'w/src/b.c': 'int b;', 'etc/passwd': '' });
  const trace: Trace = {
    paths: new Map([[toByteString('w/config'), Asked.stat], [toByteString('w/src'), Asked.listing], [toByteString('w/src/a.c'), Asked.stat | Asked.content]]),
    askers: new Map([[toByteString('w/src'), [{ asked: Asked.listing, program: 'make one' }]], [toByteString('w/src/a.c'), [{ asked: Asked.stat, program: 'make one' }, { asked: Asked.content, program: 'cc1 a.c' }]]]),
  };
  const records = (['make one', 'make two', 'make three $TOKEN', 'echo late'] as const).map((command, i) => {
    const definition: ActionDefinition = { command, workdir: '/w', env: {}, user: '0:0:', platform: 'linux/amd64', network: true, cacheDirs: [] };
    const key = definitionKey(definition);
    if (i < 2) actions.record(key, input, trace, { delta: treeOf(store, { [`w/${i}`]: '' }), log: store.putBlob(Buffer.from('')), durationMs: 1200, caches: [], volatile: ['could use the network'], notPassed: i === 0 ? ['EDITOR', 'TOKEN'] : [] });
    return { step: { index: i + 1, total: 4, command, line: 6 }, definition, key, input };
  });
  const changed = { why: 'changed', path: 'w/src/a.c', asked: Asked.content, before: 'file 0123456789ab', after: 'file ba9876543210', by: 'cc1 a.c' };
  const outcomes = [
    { outcome: 'ran', lastRun: { atMs: NOW - 5000, durationMs: 1200, reason: changed } },
    { outcome: 'cached' },
    { outcome: 'failed', lastRun: { atMs: NOW - 4000, durationMs: 10, reason: { why: 'definition', changes: [{ part: 'command', before: 'make tree', after: 'make three' }] } } },
    { outcome: 'not reached', lastRun: { atMs: NOW - 3_600_000, durationMs: 10, reason: { why: 'never-ran' } } },
  ];
  mkdirSync(paths.dir, { recursive: true });
  writeFileSync(paths.buildRecord, JSON.stringify({ schema: 'hd.build-record/1', atMs: NOW, workdir: '/w', steps: records.map((record, i) => ({ ...record, ...outcomes[i] })) }));
}

describe('hd why', () => {
  let dir: string;
  let env: NodeJS.ProcessEnv;
  const hd = (...args: string[]) => runHere(dir, env, ...args);
  /** Without what the clock decides. */
  const lines = async (...args: string[]): Promise<string[]> => {
    const { stdout, stderr, status } = await hd('why', ...args);
    assert.equal(status, 0, stderr);
    return stdout.replace(/\b\d+ (s|min|h) ago/g, 'T ago').trimEnd().split('\n');
  };
  const json = async (...args: string[]): Promise<Record<string, unknown>> => JSON.parse((await hd('why', ...args, '--json')).stdout) as Record<string, unknown>;
  before(() => {
    dir = realpathSync(mkdtempSync(join(tmpdir(), 'hd-why-')));
    env = { ...process.env, HD_HOME: join(dir, '.home') };
    mkdirSync(join(dir, 'src'));
    for (const [path, text] of Object.entries({ 'hd.toml': SPEC, 'src/a.c': 'int a;', 'build.log': '', README: '' })) writeFileSync(join(dir, path), text);
  });
  after(() => rmSync(dir, { recursive: true }));

  test('before the first build there is nothing to tell', async () => {
    for (const args of [['why'], ['why', '1'], ['why', 'README']]) {
      const { status, stderr } = await hd(...args);
      assert.equal(status, 1);
      assert.match(stderr, /has not been built yet\n {2}hint: run `hd up` or `hd build` first/);
    }
    leaveBuild(dir, env);
  });

  test('all steps, a line for each', async () => {
    assert.deepEqual(await lines(), [
      '[1/4] RAN make one: the content of /w/src/a.c changed (file 0123456789ab → file ba9876543210), which `cc1 a.c` looked at',
      '[2/4] CACHED make two: none of the 3 paths that it looked at changed',
      '[3/4] FAILED make three $TOKEN: its command changed',
      '[4/4] NOT REACHED echo late: a step before it failed',
    ]);
    const { schema, steps, services } = (await json()) as { schema: string; steps: { outcome: string; facts?: { paths: number } }[]; services: unknown[] };
    assert.deepEqual([schema, services], ['hd.why/1', []]);
    assert.deepEqual(steps.map(({ outcome, facts }) => [outcome, facts?.paths]), [['ran', 3], ['cached', 3], ['failed', undefined], ['not reached', undefined]]);
  });

  test('a step that ran: the path, both digests, who read it; what it stands on, its marks, variables that it was not given', async () => {
    assert.deepEqual(await lines('1'), [
      '[1/4] make one (hd.toml:6)',
      '  ran T ago in 1.2s: the content of /w/src/a.c changed (file 0123456789ab → file ba9876543210), which `cc1 a.c` looked at',
      '  its result stands on 3 paths: 1 read, 1 listed, 0 links followed, 2 looked up',
      '  another day it might come out otherwise: it could use the network',
      '  variables of the host that it speaks of and does not get: EDITOR, TOKEN',
    ]);
    const { schema, lastRun, facts, volatile, notPassed } = (await json('1')) as { schema: string; lastRun: { reason: { path: string; by: string }; why: string }; facts: { content: number }; volatile: string[]; notPassed: string[] };
    assert.deepEqual([schema, lastRun.reason.path, lastRun.reason.by, facts.content, volatile, notPassed], ['hd.why.step/1', 'w/src/a.c', 'cc1 a.c', 1, ['could use the network'], ['EDITOR', 'TOKEN']]);
    assert.match(lastRun.why, /^the content of \/w\/src\/a\.c changed \(file 0123456789ab → file ba9876543210\)/);
  });

  test('a step that was cached, that failed, that was not reached', async () => {
    assert.deepEqual(await lines('2'), [
      '[2/4] make two (hd.toml:6)',
      '  cached: nothing that it looked at changed (saves 1.2s)',
      '  its result stands on 3 paths: 1 read, 1 listed, 0 links followed, 2 looked up',
      '  it has not run in this environment: its result comes from another one',
      '  another day it might come out otherwise: it could use the network',
    ]);
    assert.deepEqual(await lines('3'), ['[3/4] make three $TOKEN (hd.toml:6)', '  failed T ago in 10ms: its command changed']);
    assert.deepEqual(await lines('4'), ['[4/4] echo late (hd.toml:6)', '  not reached by the last build: a step before it failed', '  last run T ago in 10ms: it had never run before']);
  });

  test('a step by its number, its command, the beginning of it, its line', async () => {
    for (const what of ['2', 'make two', 'make tw']) assert.equal((await lines(what))[0], '[2/4] make two (hd.toml:6)', what);
    assert.equal((await lines('hd.toml:6'))[0], '[1/4] make one (hd.toml:6)');
    const several = await hd('why', 'make');
    assert.equal(several.status, 1);
    assert.match(several.stderr, /3 steps begin with make\n {2}hint: say which by its number: 1, 2, 3\n/);
  });

  test('a file: whether it is part of the environment, who looks at it and at the list of its directory, whom it restarts', async () => {
    assert.deepEqual(await lines('src/a.c'), [
      'src/a.c is part of the environment, as /w/src/a.c (everything that is not excluded)',
      '  [1/4] make one',
      '      the content of /w/src/a.c, by `cc1 a.c`',
      '      the list of /w/src, by `make one`',
      '  [2/4] make two',
      '      the content of /w/src/a.c, by `cc1 a.c`',
      '      the list of /w/src, by `make one`',
      '  a change of it restarts web (watch "src/*.c")',
    ]);
    assert.deepEqual(await lines('README'), ['README is part of the environment, as /w/README (everything that is not excluded)', '  no step looks at it', '  a change of it restarts no service']);
    assert.match((await lines('build.log'))[0] ?? '', /^build\.log is not part of the environment \(.*\*\.log/);
    assert.deepEqual((await lines('config')).slice(0, 3), ['config is part of the environment, as /w/config (everything that is not excluded)', '  [1/4] make one', '      the presence of /w/config'], 'one that is not there, and was looked for');
    assert.equal((await lines('-C', 'src', 'a.c'))[0], (await lines('src/a.c'))[0]);
    const { schema, steps, services } = (await json('src/a.c')) as { schema: string; steps: { step: { index: number }; looks: { at: string; asked: string }[] }[]; services: unknown };
    assert.deepEqual([schema, steps.map(({ looks }) => looks.length), services], ['hd.why.file/1', [2, 2, 0, 0], [{ name: 'web', pattern: 'src/*.c' }]]);
  });

  test('a service that does not run', async () => {
    assert.deepEqual(await lines('web'), ['web is not running.']);
    assert.deepEqual(await json('web'), { schema: 'hd.why.service/1', name: 'web', service: null });
  });

  test('what is none of these is an error that says what there is', async () => {
    for (const what of ['nope', '5', '..', '.', '/etc/passwd']) {
      const { status, stdout, stderr } = await hd('why', what);
      assert.deepEqual([status, stdout], [1, ''], what);
      assert.match(stderr, /is no step, service or file of this project\n {2}hint: a step by its number \(1 to 4\) or the beginning of its command, a service \(web, db\), or a path\n$/);
    }
  });
});

test('hd build --dry-run where the base image is not here: it would be fetched, and all steps would run; nothing is', async (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-dry-run-'));
  context.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'hd.toml'), '[environment]\nname = "demo"\nbase = "oci:nowhere"\n[dependencies]\napt = ["git"]\n[build]\nsteps = [\n  "make",\n  { run = "make test", name = "tests" },\n]\n');
  const env = { ...process.env, HD_HOME: join(dir, '.home') };
  const hd = (...args: string[]) => runHere(dir, env, ...args);
  const plain = await hd('build', '--dry-run');
  assert.equal(plain.status, 0, plain.stderr);
  assert.match(plain.stdout, /^Image oci:nowhere is not here: it would be fetched\n\[1\/3\] RUN apt-get update .*: it has never run\n\[2\/3\] RUN make: it has never run\n\[3\/3\] RUN tests: it has never run\n3 steps would run, 0 would not\.\n$/);
  const document = JSON.parse((await hd('build', '--dry-run', '--json')).stdout.trim().split('\n').at(-1) ?? '') as { will_run: number; image_missing: string; steps: { index: number; line: number; outcome: string; reason: string }[] };
  assert.deepEqual([document.will_run, document.image_missing], [3, 'oci:nowhere']);
  assert.deepEqual(document.steps.map(({ index, line, outcome, reason }) => [index, line, outcome, reason]), [[1, 0, 'run', 'it has never run'], [2, 8, 'run', 'it has never run'], [3, 9, 'run', 'it has never run']]);
  assert.match((await hd('status')).stdout, /not built yet/);
  assert.equal((await hd('why')).status, 1);
});
