import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { SCHEMA_URL } from '@hyperdocker/spec';

const main = fileURLToPath(new URL('./main.ts', import.meta.url));

function world(context: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'hd-cli-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const hd = (...args: string[]) => {
    const { NO_COLOR: _, FORCE_COLOR: _2, ...env } = process.env;
    return spawnSync(process.execPath, [main, ...args], { cwd: dir, encoding: 'utf8', env: { ...env, HD_HOME: join(dir, '.home') } });
  };
  return { dir, hd };
}

test('usage errors go to standard error with exit code 2, and no command is usage', (context) => {
  const { hd } = world(context);
  const unknown = hd('statsu');
  assert.deepEqual([unknown.status, unknown.stdout, unknown.stderr], [2, '', 'hd: unknown command "statsu"\n  hint: did you mean `hd status`?\n']);
  assert.equal(hd().status, 2);
  const help = hd('help');
  assert.equal(help.status, 0);
  assert.match(help.stdout, /^hd runs development environments/);
  assert.equal(hd('-C', 'nowhere', 'status').status, 2);
  assert.match(hd('up', 'nowhere').stderr, /is not a directory/);
  assert.match(hd('--version').stdout, /^hd \d+\.\d+\.\d+\n$/);
});

test('init writes once, and names the schema first', (context) => {
  const { dir, hd } = world(context);
  writeFileSync(join(dir, 'package.json'), '{}');
  const first = hd('init');
  assert.equal(first.status, 0);
  assert.equal(first.stdout.split('\n')[0], `Created hd.toml (schema: ${SCHEMA_URL})`);
  assert.match(first.stdout, /Node\.js project, because there is a package\.json/);
  const text = readFileSync(join(dir, 'hd.toml'), 'utf8');
  const second = hd('init');
  assert.equal(second.status, 1);
  assert.match(second.stderr, /exists already/);
  assert.equal(readFileSync(join(dir, 'hd.toml'), 'utf8'), text);
});

test('every finding about an hd.toml is shown, and nothing is started', (context) => {
  const { dir, hd } = world(context);
  assert.equal(hd('up').status, 2);
  writeFileSync(join(dir, 'hd.toml'), '[environment]\nname = "x"\nbsae = "apt://bookworm"\n\n[services.web]\ncommand = 3\n');
  const { status, stderr, stdout } = hd('up', '-d');
  assert.equal(status, 2);
  assert.equal(stdout, '');
  assert.match(stderr, /hd\.toml:3:1: error: unknown key "bsae"[\s\S]*did you mean "base"\?[\s\S]*hd\.toml:6:\d+: error:/);
  assert(!stderr.includes('\u001b'));
  assert.deepEqual(readdirSync(join(dir, '.home/envs')), []);
});

test('what is asked of an environment that does not run', (context) => {
  const { dir, hd } = world(context);
  writeFileSync(join(dir, 'hd.toml'), '[environment]\nname = "demo"\nbase = "apt://bookworm"\n\n[services.web]\ncommand = "sleep 1"\nwatch = ["**/*.py"]\nport = 5000\n');
  const status = hd('status');
  assert.equal(status.status, 0);
  assert.match(status.stdout, /Environment: demo\nBase image: {2}apt:\/\/bookworm\n[\s\S]*State: {7}not running\n[\s\S]*web\n {4}command: sleep 1\n {4}watch: {3}\*\*\/\*\.py\n/);
  assert.equal((JSON.parse(hd('ps', '--json').stdout) as { schema: string }).schema, 'hd.status/1');
  for (const words of ['exec true', 'shell', 'restart']) assert.equal(hd(...words.split(' ')).status, 4, words);
  assert.equal(hd('down').status, 0);
  assert.equal(hd('logs').stdout, '');
  assert.equal(hd('logs', 'nope').status, 2);
  for (const args of ['lock', 'dag show'].map((words) => words.split(' '))) {
    const { status: code, stderr } = hd(...args);
    assert.equal(code, 1);
    assert.match(stderr, /has not been built yet[\s\S]*hint: run/);
  }
});

test('the store: stats, gc and fsck of an empty one', (context) => {
  const { hd } = world(context);
  assert.match(hd('cas', 'stats').stdout, /^CAS Statistics:\n {2}Chunks: 0\n {2}Manifests: 0\n/);
  assert.match(hd('cas', 'gc').stdout, /^Garbage collection complete:\n {2}Manifests removed: 0\n {2}Chunks removed: 0\n {2}Bytes freed: 0 B\n/);
  assert.match(hd('cas', 'fsck').stdout, /^0 objects checked, all right\.\n$/);
});

test('ingest leaves an existing file alone, and prints on demand', (context) => {
  const { dir, hd } = world(context);
  writeFileSync(join(dir, 'Dockerfile'), 'FROM python:3.11-slim\nWORKDIR /app\nCOPY . .\nRUN make\nCMD ["python", "app.py"]\n');
  assert.match(hd('ingest', 'Dockerfile', '-o', '-').stdout, /base = "python:3\.11-slim"/);
  assert.equal(hd('ingest', 'Dockerfile').status, 0);
  const again = hd('ingest', 'Dockerfile');
  assert.equal(again.status, 1);
  assert.match(again.stderr, /exists already/);
  assert.match(hd('ingest', 'nope').stderr, /there is no .*nope/);
});
