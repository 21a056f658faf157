/** What a service may say of itself: conditions, one-shot, variables from files, signals, profiles; and `hd start`, `hd stop`. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const service = (name: string, command: string, more = ''): string => `[services.${name}]\ncommand = ${JSON.stringify(command)}\n${more}\n`;
const UP = 'ready = { log = "up" }\n';

async function states(project: ProjectRig): Promise<Record<string, string>> {
  return Object.fromEntries((await (await project.client()).status()).services.map(({ name, status }) => [name, status]));
}

async function logged(project: ProjectRig, ...names: string[]): Promise<string[]> {
  const { stdout } = await project.hd('logs', '--json', ...names);
  return stdout.split('\n').filter((line) => line !== '').map((line) => (JSON.parse(line) as { text: string }).text);
}

describe('services: what they say of themselves', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  before(() => void (rig = new BusyboxRig()));
  after(async () => await rig[Symbol.asyncDispose]());

  test('depends_on: started, healthy, completed; a one-shot runs once and is done', async () => {
    const project = await rig.environment('conditions', [
      service('web', 'cat /migrated; echo up; exec sleep 1000', `${UP}depends_on = { migrate = "completed", db = "healthy", slow = "started" }`),
      service('migrate', 'sleep 0.3; echo done > /migrated', 'restart_policy = "on_failure"\ndepends_on = ["db"]'),
      service('db', 'echo up; exec sleep 1000', UP),
      service('slow', 'while [ ! -e /go ]; do sleep 0.05; done; echo up; exec sleep 1000', UP),
      service('afterwards', 'exec sleep 1000', 'depends_on = { broken = "completed" }'),
      service('broken', 'exit 3', 'restart_policy = "never"'),
    ].join(''));
    await using up = project.start('up', '--json');
    await up.waitFor(/"name":"web","status":"ready"/);
    assert.deepEqual(await states(project), { web: 'ready', migrate: 'stopped', db: 'ready', slow: 'starting', afterwards: 'stopped', broken: 'failed' });
    assert.deepEqual(await logged(project, 'web'), ['done', 'up']);
    await project.hd('exec', 'touch', '/go');
    await up.waitFor(/"type":"up"[^\n]*"failed":\["afterwards"/);
    assert.match(up.output(), /"name":"afterwards","status":"waiting","cause":"broken has not completed"/);
    await project.hd('down');
  });

  test('env_file: read at each start, below env; a change restarts', async () => {
    const project = await rig.environment('variables', service('web', 'echo $A-$B-$C up; exec sleep 1000', `${UP}env_file = [".env", "more.env"]\nenv = { C = "own" }`), { '.env': 'A=1\nB="two words"\nC=file\n', 'more.env': 'A=2\n' });
    await project.up();
    await project.edit(() => project.write('more.env', 'A=3\n'), { until: (event) => event.type === 'service' && event.status === 'ready' });
    assert.deepEqual(await logged(project), ['2-two words-own up', '3-two words-own up']);
    await project.hd('down');
    const absent = await rig.environment('absent', service('web', 'exec sleep 1000', 'env_file = "not.there"'));
    const { code, stdout } = await absent.hd('up', '-d');
    assert.equal(code, 1);
    assert.match(stdout, /^web {2}failed[^\n]*not\.there cannot be read/m);
    assert.match((await absent.hd('status')).stdout, /failed for [^\n]*not\.there cannot be read/);
    await absent.hd('down');
  });

  test('stop_signal and a grace of its own', async () => {
    const project = await rig.environment('signals', [
      service('polite', `trap 'echo told; exit 0' QUIT; trap '' TERM; echo up; while :; do sleep 0.05; done`, `${UP}stop_signal = "SIGQUIT"\nrestart_grace = "120s"`),
      service('stubborn', `trap '' TERM; echo up; while :; do sleep 0.05; done`, `${UP}restart_grace = "100ms"`),
    ].join(''));
    await project.up();
    assert.equal((await project.hd('stop')).code, 0);
    assert((await logged(project, 'polite')).includes('told'));
    assert.deepEqual(await states(project), { polite: 'stopped', stubborn: 'stopped' });
    await project.hd('down');
  });

  test('on_change: a signal to the command alone, or nothing', async () => {
    const project = await rig.environment('reload', [
      service('signal', `trap 'echo again' USR1; echo up; while :; do sleep 0.05; done`, `${UP}watch = ["*.conf"]\non_change = "signal"\nreload_signal = "USR1"`),
      service('none', 'echo up; exec sleep 1000', `${UP}watch = ["*.conf"]\non_change = "none"`),
    ].join(''), { 'a.conf': '1' });
    await project.up();
    const report = await project.edit(() => project.write('a.conf', '2'), { until: ({ type }) => type === 'signalled' });
    assert.deepEqual(report.events.filter(({ type }) => type === 'signalled').map(({ service: name, signal, cause }) => [name, signal, cause]), [['signal', 'SIGUSR1', 'a.conf changed']]);
    await waitUntil('it has been told', async () => ((await logged(project, 'signal')).join() === 'up,again' ? true : undefined));
    const { services } = await (await project.client()).status();
    assert.deepEqual(services.map(({ restarts }) => restarts), [0, 0]);
    assert.match((await project.hd('why', 'signal')).stdout, /gets SIGUSR1 when a file changes that matches \*\.conf/);
    await project.hd('down');
  });

  test('profiles: by flag, by variable, by name', async () => {
    const toml = service('web', 'exec sleep 1000') + service('debugger', 'exec sleep 1000', 'profiles = ["debug"]\ndepends_on = ["tool"]') + service('tool', 'exec sleep 1000', 'profiles = ["tools"]') + service('other', 'exec sleep 1000', 'profiles = ["other"]');
    const project = await rig.environment('profiles', toml);
    await project.up();
    assert.deepEqual(await states(project), { web: 'ready', debugger: 'stopped', tool: 'stopped', other: 'stopped' });
    await project.hd('restart');
    assert.equal((await project.hd('start', 'other')).code, 0);
    assert.deepEqual(await states(project), { web: 'ready', debugger: 'stopped', tool: 'stopped', other: 'ready' });
    await project.hd('down');
    await project.up('--profile', 'debug');
    assert.deepEqual(await states(project), { web: 'ready', debugger: 'ready', tool: 'ready', other: 'stopped' });
    await project.hd('down');
    assert.equal((await project.hdWith({ HD_PROFILES: 'tools,other' }, 'up', '-d')).code, 0);
    assert.deepEqual(await states(project), { web: 'ready', debugger: 'stopped', tool: 'ready', other: 'ready' });
    await project.hd('down');
  });

  test('hd stop takes what depends on it along, hd start brings what it depends on', async () => {
    const project = await rig.environment('starts', service('web', 'exec sleep 1000', 'depends_on = ["db"]') + service('db', 'exec sleep 1000') + service('still', 'exec sleep 1000'));
    await project.up();
    assert.equal((await project.hd('stop', 'db')).stdout, 'Stopped db.\n');
    assert.deepEqual(await states(project), { web: 'stopped', db: 'stopped', still: 'ready' });
    // What was stopped stays so when files change.
    await project.edit(() => project.write('new', ''));
    assert.equal((await project.hd('start', 'web')).code, 0);
    assert.deepEqual(await states(project), { web: 'ready', db: 'ready', still: 'ready' });
    assert.equal((await project.hd('start', 'wbe')).code, 2);
    await project.hd('down');
    assert.equal((await project.hd('stop')).code, 4);
  });

  test('one that is not ready in time is stopped, and tried again', async () => {
    const project = await rig.environment('late', service('web', 'if [ -e /tried ]; then echo up; else touch /tried; fi; exec sleep 1000', `${UP}ready_timeout = "1500ms"`));
    const report = await project.up();
    const seen = report.events.filter(({ type }) => type === 'service').map(({ status, cause }) => [status, cause]);
    assert.deepEqual(seen.map(([status]) => status), ['starting', 'stopping', 'backing-off', 'starting', 'ready']);
    assert.equal(seen[2]?.[1], 'not ready after 1500 ms');
    await project.hd('down');
  });

  test('hd events, hd logs --since, hd config', async () => {
    const project = await rig.environment('told', service('web', 'echo up; exec sleep 1000', `${UP}watch = ["*.txt"]`), { 'a.txt': '1' });
    await project.up();
    await using events = project.start('events', '--all');
    await events.waitFor(/"type":"up"/);
    project.write('a.txt', '2');
    await events.waitFor(/"type":"change"[^]*"status":"restarting"/);
    assert.deepEqual(await logged(project, '--since', '1h'), await logged(project));
    assert.deepEqual(await logged(project, '--since', '2100-01-01'), []);
    assert.equal((await project.hd('logs', '--since', 'soon')).code, 2);
    const { stdout } = await project.hd('config');
    assert.match(stdout, /\[services\.web\][^]*restart_policy = "always"[^]*stop_signal = "SIGTERM"/);
    const { config } = JSON.parse((await project.hd('config', '--json')).stdout) as { config: { options: object } };
    // What it says means the same.
    project.write('hd.toml', stdout);
    assert.deepEqual(JSON.parse((await project.hd('config', '--json')).stdout).config, config);
    await project.hd('down');
    assert.equal((await events.exited).code, 0);
    assert.equal((await project.hd('events')).code, 4);
  });

  test('what cannot be is refused with its place', async () => {
    const project = await rig.environment('wrong', '');
    for (const [toml, message] of [
      [service('a', 'x', 'depends_on = { b = "completed" }') + service('b', 'x'), /"a" waits for "b" to complete, which is always started again[^]*on_failure/],
      [service('a', 'x', 'depends_on = { b = "ready" }') + service('b', 'x'), /must be one of "started", "healthy", "completed"|started/],
      [service('a', 'x', 'stop_signal = "SIGNAL"'), /must be a signal/],
      [service('a', 'x', 'depends_on = { c = "started" }'), /depends on "c", which is not defined/],
      [service('a', 'x', 'ready_timeout = "2000m"'), /at most one day/],
    ] as const) {
      writeFileSync(join(project.dir, 'hd.toml'), `[environment]\nname = "wrong"\nbase = "oci:../busybox"\n${toml}`);
      const { code, stderr } = await project.hd('build', '--dry-run');
      assert.equal(code, 2, stderr);
      assert.match(stderr, message);
    }
  });
});
