import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { freePort, runHd, waitForHttp, waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import type { BuildReport, ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const skip = unable || noFuse || noBusybox;

/** Serves the working directory until it is told to end. */
const SERVE = 'exec httpd -f -p 127.0.0.1:PORT';
/** Says when it begins and when it is told to end. */
const speak = (name: string): string => `echo ${name} begins; trap 'echo ${name} ends; exit 0' TERM; while :; do sleep 0.05; done`;

const service = (name: string, command: string, more = ''): string => `[services.${name}]\ncommand = ${JSON.stringify(command)}\n${more}\n`;

/** What became of a service, in order. */
function states(report: BuildReport, name: string): string[] {
  return report.events.filter((event) => event.type === 'service' && event['name'] === name).map(({ status }) => status ?? '');
}

async function stateOf(project: ProjectRig, name: string): Promise<string> {
  return (await (await project.client()).status()).services.find((each) => each.name === name)?.status ?? 'unknown';
}

async function logged(project: ProjectRig): Promise<string[]> {
  const { stdout } = await project.hd('logs', '--json');
  return stdout.split('\n').filter((line) => line !== '').map((line) => (JSON.parse(line) as { text: string }).text);
}

describe('services: order, restarts, stops', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('a diamond starts from its base and stops the other way round', async () => {
    const ready = 'ready = { log = "begins" }';
    const project = await rig.environment('diamond', [
      service('top', speak('top'), `depends_on = ["left", "right"]\n${ready}`), service('left', speak('left'), `depends_on = ["base"]\n${ready}`),
      service('right', speak('right'), `depends_on = ["base"]\n${ready}`), service('base', speak('base'), ready),
    ].join(''));
    const report = await project.up();
    const order = report.events.filter(({ type, status }) => type === 'service' && (status === 'starting' || status === 'ready')).map((event) => `${String(event['name'])} ${event.status}`);
    assert.deepEqual([order.slice(0, 2), order.slice(-2)], [['base starting', 'base ready'], ['top starting', 'top ready']]);
    assert.deepEqual(order.toSorted(), ['base ready', 'base starting', 'left ready', 'left starting', 'right ready', 'right starting', 'top ready', 'top starting']);
    assert.equal((await project.hd('down')).code, 0);
    const ends = (await logged(project)).filter((line) => line.endsWith('ends'));
    assert.deepEqual([ends[0], ends[3], ends.length], ['top ends', 'base ends', 4]);
  });

  test('only what watches a changed file restarts', async () => {
    const project = await rig.environment('watchers', [
      service('web', 'cat page.txt; exec sleep 1000', 'watch = ["*.txt"]\nready = { log = "one|two" }'), service('deep', 'exec sleep 1000', 'watch = ["src/**/*.c"]'), service('still', 'exec sleep 1000'),
    ].join(''), { 'page.txt': 'one\n', 'src/a/b.c': '', 'README': '' });
    await project.up();
    const readyAgain = { until: (event: { type: string; status?: string }): boolean => event.type === 'service' && event.status === 'ready' };
    const web = await project.edit(() => project.write('page.txt', 'two\n'), readyAgain);
    assert.deepEqual(web.restarted(), ['web']);
    assert.equal(web.events.find(({ status }) => status === 'restarting')?.['cause'], 'page.txt changed');
    const deep = await project.edit(() => project.write('src/a/b.c', 'int x;'), readyAgain);
    assert.deepEqual(deep.restarted(), ['deep']);
    const none = await project.edit(() => project.write('README', 'nothing watches this'));
    assert.deepEqual(none.restarted(), []);
    await waitUntil('the second page is in the log', async () => ((await logged(project)).join() === 'one,two' ? true : undefined));
  });

  test('restart restarts the one that is named, and refuses a name that is none', async () => {
    const project = await rig.environment('restarts', service('web', SERVE, 'port = PORT') + service('other', 'exec sleep 1000'), { 'index.html': 'here' });
    await project.up();
    const report = await project.edit(() => void project.hd('restart', 'web'), { until: (event) => event.type === 'service' && event.status === 'ready' });
    assert.deepEqual([states(report, 'web'), states(report, 'other')], [['restarting', 'starting', 'ready'], []]);
    assert.equal(await waitForHttp(project.url), 'here');
    const wrong = await project.hd('restart', 'wbe');
    assert.equal(wrong.code, 2);
    assert.match(wrong.stderr, /there is no service wbe\n {2}hint: services: web, other/);
    const { services } = await (await project.client()).status();
    assert.deepEqual(services.map(({ restarts }) => restarts), [1, 0]);
  });

  test('logs -f goes on over a restart, and ends with the environment', async () => {
    const project = await rig.environment('follow', service('web', speak('web'), 'ready = { log = "begins" }'));
    await project.up();
    await using logs = project.start('logs', '-f');
    await logs.waitFor(/web begins/);
    await project.hd('restart', 'web');
    await logs.waitFor(/web begins[^]*web ends[^]*web begins/);
    await project.hd('down');
    assert.equal((await logs.exited).code, 0);
    assert.match(logs.output(), /web begins[^]*web ends[^]*web begins[^]*web ends/);
  });

  test('what ignores SIGTERM is killed after restart_grace, on restart and on down', async () => {
    const project = await rig.environment('stubborn', `${service('web', "trap '' TERM; echo up; while :; do sleep 0.05; done", 'ready = { log = "up" }')}[options]\nrestart_grace = "300ms"\n`);
    await project.up();
    await project.edit(() => void project.hd('restart'), { until: (event) => event.type === 'service' && event.status === 'ready' });
    const started = performance.now();
    assert.equal((await project.hd('down')).code, 0);
    const tookMs = performance.now() - started;
    assert(tookMs >= 300 && tookMs < 30_000, `down took ${tookMs} ms`);
    await nothingLeft(join(rig.world.home, 'envs/stubborn'));
  });

  test('one that is told to end ends at once', async () => {
    const project = await rig.environment('willing', service('web', SERVE, 'port = PORT') + service('child', 'sleep 1000') + '[options]\nrestart_grace = "120s"\n');
    await project.up();
    const started = performance.now();
    await project.hd('down');
    assert(performance.now() - started < 60_000, 'nobody waited for the grace of two minutes');
    const server = createServer().listen(project.port, '127.0.0.1');
    await once(server, 'listening');
    server.close();
  });
});

describe('services: readiness, failures, ports', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('ready by port, HTTP, command and log line: what depends on it waits for that', async () => {
    const [byHttp, byPort] = [await freePort(), await freePort()];
    const project = await rig.environment('readiness', [
      service('http', `sleep 0.3; exec httpd -f -p 127.0.0.1:${byHttp}`, `port = ${byHttp}\nready = { http = "/health.txt" }`),
      service('port', `sleep 0.3; exec httpd -f -p 127.0.0.1:${byPort}`, `port = ${byPort}`),
      service('command', 'sleep 0.3; touch /tmp/done; exec sleep 1000', 'ready = { command = "test -e /tmp/done" }'),
      service('log', 'sleep 0.3; printf "listening on 42"; exec sleep 1000', 'ready = { log = "listening on [0-9]+" }'),
      service('last', `wget -qO- http://127.0.0.1:${byHttp}/health.txt && wget -qO- http://127.0.0.1:${byPort}/health.txt && ls /tmp/done && exec sleep 1000`, 'depends_on = ["http", "port", "command", "log"]\nrestart_policy = "never"'),
    ].join(''), { 'health.txt': 'healthy\n' });
    const report = await project.up();
    assert.equal(states(report, 'last').at(-1), 'ready');
    await waitUntil('the last one has found all of them', async () => ((await logged(project)).join().endsWith('healthy,healthy,/tmp/done') ? true : undefined));
    assert.equal(await stateOf(project, 'last'), 'ready');
  });

  test('a task that ends with 0 counts as ready; what it wrote is there for those after it', async () => {
    const project = await rig.environment('task', service('migrate', 'sleep 0.3; echo migrated > /tmp/state', 'restart_policy = "never"\nready = { log = "never said" }') + service('web', 'cat /tmp/state; exec sleep 1000', 'depends_on = ["migrate"]'));
    const report = await project.up();
    assert.equal(states(report, 'migrate').at(-1), 'stopped');
    await waitUntil('the service has read it', async () => ((await logged(project)).includes('migrated') ? true : undefined));
    assert.match((await project.hd('status')).stdout, /migrate\n[^]*state: +stopped/);
  });

  test('one that fails fails `up --wait` with its log, and goes on where an edit mends it', async () => {
    const project = await rig.environment('failing', service('web', '. ./run.sh', 'restart_policy = "never"\nwatch = ["run.sh"]\nready = { log = "good" }') + service('after', 'exec sleep 1000', 'depends_on = ["web"]'), { 'run.sh': 'echo "about to fail"\nprintf "no newline at the end" >&2\nexit 3\n' });
    const { code, stdout, stderr } = await project.hd('up', '-d', '--wait');
    assert.equal(code, 1, stdout);
    assert.match(stderr, /web +\| about to fail/);
    assert.match(stderr, /web +\| no newline at the end/);
    assert.match(stderr, /hd: not running: web, after\n {2}hint: /);
    assert.match(stdout, /web +failed \(exit 3\)/);
    const report = await project.edit(() => project.write('run.sh', 'echo good; exec sleep 1000\n'), { until: (event) => event.type === 'service' && event.name === 'web' && event.status === 'ready' });
    assert.equal(states(report, 'web').at(-1), 'ready');
  });

  test('one that crashes again and again backs off more and more, and an edit starts it at once', async () => {
    const project = await rig.environment('crashing', service('web', '. ./run.sh', 'watch = ["run.sh"]\nready = { log = "good" }'), { 'run.sh': 'exit 7\n' });
    await using up = project.start('up', '-d');
    const client = await waitUntil('its supervisor answers', () => project.client());
    const delays: number[] = [];
    for await (const event of client.events(0)) {
      if (event.type === 'service' && event.status === 'backing-off') delays.push(event.retryMs ?? 0);
      if (delays.length === 4) break;
    }
    assert.deepEqual(delays, [100, 200, 400, 800]);
    assert.match((await project.hd('status')).stdout, /state: +(backing-off|starting)/);
    await up.waitFor(/exit 7: starts again in 800 ms/);
    project.write('run.sh', 'echo good; exec sleep 1000\n');
    await up.waitFor(/web +(ready|restarted)/);
    assert.equal((await up.exited).code, 0);
  });

  test('on_failure: an end with 0 is the end, any other is not', async () => {
    const project = await rig.environment('on-failure', service('flaky', 'if test -e /tmp/tried; then exit 0; else touch /tmp/tried; exit 1; fi', 'restart_policy = "on_failure"'));
    await project.up();
    await waitUntil('it has ended well', async () => ((await stateOf(project, 'flaky')) === 'stopped' ? true : undefined));
    const { services } = await (await project.client()).status();
    assert.equal(services[0]?.status, 'stopped');
  });

  test('in the network of the host, a port that somebody has is an error that names it; the port of a stopped environment is free again', async () => {
    const project = await rig.environment('taken', `network = "host"\n${service('web', SERVE, 'port = PORT')}`, { 'index.html': 'mine' });
    const server = createServer().listen(project.port, '127.0.0.1');
    await once(server, 'listening');
    const { code, stderr } = await project.hd('up', '-d');
    assert.equal(code, 1);
    assert.match(stderr, new RegExp(`^hd: port ${project.port} of service web is taken[^\n]*\n {2}hint: [^\n]+\n$`));
    await nothingLeft(join(rig.world.home, 'envs/taken'));
    server.close();
    await once(server, 'close');
    for (const _ of [1, 2]) {
      await project.up();
      assert.equal(await waitForHttp(project.url), 'mine');
      await project.hd('down');
    }
  });

  test('env, cwd and PORT of a service; writes in memory', async () => {
    const project = await rig.environment('keys', `env = { COLOUR = "red", SHAPE = "round" }\n${service('web', 'echo "$COLOUR $SHAPE $(env | sed -n s/^POR[T]=//p) $(pwd)"; exec httpd -f -p 127.0.0.1:PORT', 'port = PORT\nenv = { COLOUR = "blue" }\ncwd = "sub/dir"')}${service('absolute', 'pwd; exec sleep 1000', 'cwd = "/etc"')}[options]\noverlay = "memory"\n`, { 'sub/dir/index.html': 'below' });
    await project.up();
    assert.equal(await waitForHttp(project.url), 'below');
    assert.deepEqual((await logged(project)).toSorted(), ['/etc', `blue round ${project.port} /workspace/sub/dir`]);
    const mounts = await runHd(['exec', '--', 'sh', '-c', 'head -c 3000000 /dev/zero > /big && stat -c %s /big && grep " / " /proc/self/mountinfo'], { cwd: project.dir, env: rig.world.env });
    assert.match(mounts.stdout, /^3000000\n[^\n]* - overlay /);
    project.write('sub/dir/index.html', 'edited');
    await waitForHttp(project.url, { until: (body) => body === 'edited' });
    await project.hd('down');
    await nothingLeft(join(rig.world.home, 'envs/keys'));
  });
});
