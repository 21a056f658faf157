/** The network of an environment: its own or the host's, its published ports, many copies of one project at once, and nothing left behind. */
import assert from 'node:assert/strict';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { networkInterfaces } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { ListedEnvironment, StatusReply } from '@hyperdocker/environment';
import { processesIn, waitForHttp, waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const skip = unable || noFuse || noBusybox;
const WEB = '[services.web]\ncommand = "exec httpd -f -p 127.0.0.1:PORT"\nport = PORT\n';

async function statusOf(project: ProjectRig): Promise<StatusReply> {
  return await (await project.client()).status();
}

async function urlOf(project: ProjectRig, service = 'web'): Promise<string> {
  return (await statusOf(project)).services.find(({ name }) => name === service)?.url ?? '';
}

async function inside(project: ProjectRig, script: string): Promise<string> {
  const { stdout, stderr } = await project.hd('exec', '--', 'sh', '-c', script);
  return `${stdout}${stderr}`.trim();
}

/** Network namespaces that a process is in with any of its threads, but for that of the host. */
function namespacesOf(pid: number): string[] {
  const host = readlinkSync('/proc/self/ns/net');
  return [...new Set(readdirSync(`/proc/${pid}/task`).map((task) => readlinkSync(`/proc/${pid}/task/${task}/ns/net`)))].filter((name) => name !== host);
}

function links(): string[] {
  return readFileSync('/proc/self/net/dev', 'utf8').split('\n').flatMap((line) => /^\s*(hd[^:]+):/.exec(line)?.[1] ?? []);
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer().once('error', () => resolve(false));
    server.listen(port, '127.0.0.1', () => server.close(() => resolve(true)));
  });
}

async function listening(server: Server, ...where: [number, string] | [string]): Promise<number> {
  server.listen(...(where as [number, string]));
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

describe('private networks', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('two worktrees of one project are up at once, each with what is its own, and nothing had to be configured', async () => {
    const one = await rig.environment('shop', WEB, { 'index.html': 'the first' });
    const two = await rig.project('shop-fix', { 'hd.toml': one.read('hd.toml'), 'index.html': 'the second' });
    const first = await one.up();
    const second = await two.up();
    assert.deepEqual(first.events.filter(({ type }) => type === 'warning'), []);
    assert.deepEqual(second.events.filter(({ type }) => type === 'warning').map(({ code }) => code), ['PORT_TAKEN']);
    assert.equal(first.events.find(({ type, status }) => type === 'service' && status === 'ready')?.['port'], one.port);
    const [urlOne, urlTwo] = [await urlOf(one), await urlOf(two)];
    assert.equal(urlOne, `http://localhost:${one.port}`);
    assert.notEqual(urlTwo, urlOne);
    assert.equal(second.events.find(({ type, status }) => type === 'service' && status === 'ready')?.['url'], urlTwo);
    assert.deepEqual([await waitForHttp(urlOne), await waitForHttp(urlTwo), await waitForHttp(urlTwo.replace('localhost', '[::1]'))], ['the first', 'the second', 'the second']);
    // What one writes, the other does not see; and each finds its own service under its name and its port.
    await inside(one, 'echo written > /workspace/only-here');
    assert.equal(await inside(two, 'ls /workspace'), 'hd.toml\nindex.html');
    assert.equal(await inside(two, `wget -qO- http://web:${one.port}/ && wget -qO- http://127.0.0.1:${one.port}/`), 'the secondthe second');
    const shown = (await two.hd('status')).stdout;
    assert.match(shown, new RegExp(`Network: +private[^]*url: +${urlTwo} \\(port ${one.port} inside\\)\n +http://web\\.shop-fix\\.localhost:${urlTwo.split(':').at(-1)}\n`));

    const { environments } = JSON.parse((await one.hd('ps', '--all', '--json')).stdout) as { environments: ListedEnvironment[] };
    assert.deepEqual(environments.map(({ name, project, state, services }) => [name, project, state, services[0]?.url]).toSorted(), [['shop', one.dir, 'up', urlOne], ['shop', two.dir, 'up', urlTwo]]);
    assert.match((await one.hd('ps', '-a')).stdout, new RegExp(`^NAME +STATE +PORTS +DIRECTORY\n(.*\n)*shop +up +web:${one.port} +${one.dir}\n`));

    // Ports stay, also when the second one comes first, and over the restart of a service.
    await Promise.all([one.hd('down'), two.hd('down')]);
    assert.match((await one.hd('ps', '-a')).stdout, new RegExp(`shop +down +web:${one.port} +${one.dir}\n`));
    await two.up();
    await one.up();
    await one.edit(() => void one.hd('restart'), { until: (event) => event.type === 'service' && event.status === 'ready' });
    assert.deepEqual([await urlOf(one), await urlOf(two)], [urlOne, urlTwo]);
    assert.deepEqual([await waitForHttp(urlOne), await waitForHttp(urlTwo)], ['the first', 'the second']);
    await Promise.all([one.hd('down'), two.hd('down')]);
  });

  test('services find each other by name; probes ask inside; a service may listen at either loopback address', async () => {
    const project = await rig.environment('names', [
      '[services.api]\ncommand = "exec httpd -f -p [::1]:8000"\nport = 8000\nready = { http = "/health.txt" }\n',
      '[services.front]\ncommand = "wget -qO /tmp/got http://[::1]:8000/health.txt; exec httpd -f -p 127.0.0.1:8001 -h /tmp"\nport = 8001\ndepends_on = ["api"]\nready = { command = "wget -qO- http://front:8001/got" }\n',
    ].join(''), { 'health.txt': 'fine' });
    await project.up();
    assert.equal(await waitForHttp(`${await urlOf(project, 'front')}/got`), 'fine');
    assert.equal(await waitForHttp(`${await urlOf(project, 'api')}/health.txt`), 'fine');
    assert.match(await inside(project, 'cat /etc/hosts'), /^127\.0\.0\.1 names\n127\.0\.0\.1 api front$/m);
    await project.hd('down');
  });

  test('what is inside stays inside: ports, sockets, and the loopback of the host', async () => {
    const abstract = createServer();
    const name = `hd-test-${process.pid}`;
    await listening(abstract, `\0${name}`);
    const onHost = createServer((socket) => socket.end('host'));
    const hostPort = await listening(onHost, 0, '127.0.0.1');
    const project = await rig.environment('apart', '[services.open]\ncommand = "exec httpd -f -p 0.0.0.0:PORT"\nport = PORT\n[services.hidden]\ncommand = "exec httpd -f -p 0.0.0.0:8002"\nport = 8002\npublish = false\n', { 'index.html': 'seen' });
    const other = await rig.environment('other', '[services.idle]\ncommand = "exec sleep 1000"\n');
    await Promise.all([project.up(), other.up()]);
    assert.equal(await waitForHttp(project.url), 'seen');
    const addresses = Object.values(networkInterfaces()).flat().filter((address) => address?.internal === false && address.family === 'IPv4').map((address) => address?.address ?? '');
    for (const address of addresses) await assert.rejects(fetch(`http://${address}:${project.port}/`, { signal: AbortSignal.timeout(2000) }), `reached at ${address}`);
    const hidden = (await statusOf(project)).services.find((service) => service.name === 'hidden');
    assert.deepEqual([hidden?.port, hidden?.published, hidden?.url], [8002, undefined, undefined]);
    assert(await isFree(8002), 'a port that is not published is nobody\'s');
    assert.equal(await inside(project, 'wget -qO- http://hidden:8002'), 'seen');
    // From another environment, and from inside to the host.
    assert.match(await inside(other, `wget -qO- http://127.0.0.1:${project.port}`), /refused/);
    assert.match(await inside(other, `wget -qO- http://127.0.0.1:${hostPort}`), /refused/);
    assert.equal(await inside(other, `grep -c ${name} /proc/net/unix`), '0');
    assert(readFileSync('/proc/net/unix', 'utf8').includes(name), 'it is there on the host');
    for (const server of [abstract, onHost]) server.close();
    await Promise.all([project.hd('down'), other.hd('down')]);
  });

  test('loopback of the machine is reached by the names that hd.toml gives it: a server there, and what another environment publishes', async () => {
    const answer = (text: string): Server => createServer((socket) => void socket.once('data', () => socket.end(`HTTP/1.0 200 OK\r\n\r\n${text}`)));
    const onHost = answer('of the machine');
    const hostPort = await listening(onHost, 0, '127.0.0.1');
    const db = await rig.environment('split-db', WEB, { 'index.html': 'of the other' });
    await db.up();
    const reach = `[environment.reach]\ndb = ${db.port}\nmachine = "${hostPort}:80"\nlater = "${hostPort}:${db.port}"\n`;
    const web = await rig.environment('split-web', `${reach}[services.idle]\ncommand = "exec sleep 1000"\n`);
    await web.up();
    const ask = async (at: string, of = web): Promise<string> => await inside(of, `wget -qO- http://${at}/`);
    assert.deepEqual([await ask(`db:${db.port}`), await ask('machine'), await ask(`later:${db.port}`)], ['of the other', 'of the machine', 'of the machine']);
    assert.match(await inside(web, `wget -qO- http://127.0.0.1:${db.port}/`), /refused/, 'by these names alone');
    // It may be down, and be another one afterwards.
    await db.hd('down');
    assert.match(await ask(`db:${db.port}`), /wget/);
    await db.up();
    assert.equal(await ask(`db:${db.port}`), 'of the other');
    await web.hd('down');
    const shared = await rig.environment('split-shared', `network = "host"\n[environment.reach]\ndb = ${db.port}\n[services.idle]\ncommand = "exec sleep 1000"\n`);
    await shared.up();
    assert.equal(await ask(`db:${db.port}`, shared), 'of the other');
    await Promise.all([shared.hd('down'), db.hd('down')]);
    onHost.close();
  });

  test('published where it is asked for: at another port, at all addresses', async () => {
    const project = await rig.environment('published', '[services.a]\ncommand = "exec httpd -f -p 8003"\nport = 8003\npublish = PORT\n[services.b]\ncommand = "exec httpd -f -p 8004"\nport = 8004\npublish = "0.0.0.0"\n', { 'index.html': 'here' });
    await project.up();
    assert.equal(await waitForHttp(project.url), 'here');
    const { services } = await statusOf(project);
    assert.deepEqual(services[0]?.published, { address: 'loopback', port: project.port });
    const everywhere = services[1]?.published;
    assert.equal(everywhere?.address, '0.0.0.0');
    for (const address of Object.values(networkInterfaces()).flat().filter((each) => each?.family === 'IPv4')) assert.equal(await waitForHttp(`http://${address?.address}:${everywhere?.port}/`), 'here');
    await project.hd('down');
  });

  test('requests that come while a service restarts are answered by the new one', async () => {
    const project = await rig.environment('restart', '[services.web]\ncommand = "sleep 0.5; exec httpd -f -p 127.0.0.1:PORT"\nport = PORT\nwatch = ["*.html"]\n', { 'index.html': 'one' });
    await project.up();
    const restarting = project.edit(() => project.write('index.html', 'two'), { until: (event) => event.type === 'service' && event.status === 'starting' });
    await restarting;
    assert.equal(await (await fetch(project.url)).text(), 'two', 'at the first attempt');
    await project.hd('down');
  });

  test('a change of hd.toml from one network to the other, and back', async () => {
    const project = await rig.environment('changing', WEB, { 'index.html': 'served' });
    await project.up();
    const ready = { until: (event: { type: string; status?: string }): boolean => event.type === 'service' && event.status === 'ready' };
    await project.edit(() => project.replace('hd.toml', 'base =', 'network = "host"\nbase ='), ready);
    assert.equal((await statusOf(project)).wayOut, null);
    assert.equal(await waitForHttp(project.url), 'served');
    await project.edit(() => project.replace('hd.toml', 'network = "host"\n', ''), ready);
    assert.notEqual((await statusOf(project)).wayOut, null);
    assert.equal(await waitForHttp(project.url), 'served');
    await project.hd('down');
    assert(await isFree(project.port));
  });

  for (const way of ['veth', 'slirp4netns', 'relay'] as const) {
    test(`${way}: after down, and after a SIGKILL of the supervisor, nothing is left`, async () => {
      const project = await rig.environment(`left-${way}`, WEB, { 'index.html': 'x' });
      const env = { HD_OUTLET: `${way},none` };
      for (const end of ['down', 'kill'] as const) {
        const before = links();
        const up = await project.hdWith(env, 'up', '-d', '--wait');
        assert.equal(up.code, 0, up.stderr);
        const made = links().filter((name) => !before.includes(name));
        const { pid } = await statusOf(project);
        const namespaces = namespacesOf(pid);
        assert.equal(namespaces.length, 1);
        assert(processesIn(namespaces).length > 0, 'the service is in it');
        assert(!(await isFree(project.port)));
        if (end === 'down') await project.hd('down');
        else process.kill(pid, 'SIGKILL');
        await waitUntil('everything is gone', () => (processesIn(namespaces).length === 0 ? true : undefined));
        await waitUntil('the port is free', async () => ((await isFree(project.port)) ? true : undefined));
        await waitUntil('the link is gone', () => (links().every((name) => !made.includes(name)) ? true : undefined));
        if (end === 'kill') assert.match((await project.hd('ps', '--all')).stdout, new RegExp(`left-${way} +left `));
        // Its files outlive a supervisor, its network does not.
        await project.hd('down');
        await nothingLeft(join(rig.world.home, `envs/left-${way}`));
      }
      assert.equal((await project.hd('up', '-d', '--wait')).code, 0);
      assert.equal(await waitForHttp(project.url), 'x');
      await project.hd('down');
    });
  }

  test('a way out that does not exist is refused, and none is a warning', async () => {
    const project = await rig.environment('no-way', '[services.idle]\ncommand = "exec sleep 1000"\n');
    const wrong = await project.hdWith({ HD_OUTLET: 'tunnel' }, 'up', '-d');
    assert.deepEqual([wrong.code, /HD_OUTLET names "tunnel"/.test(wrong.stderr)], [2, true]);
    const none = await project.hdWith({ HD_OUTLET: 'none' }, 'up', '-d', '--wait');
    assert.equal(none.code, 0);
    assert.match(none.stderr, /warning: services reach nothing outside of their network/);
    assert.match((await project.hd('status')).stdout, /Network: +private, without a way out/);
    await project.hd('down');
  });

  test('a proxy on loopback of the host can be reached from inside, and is asked for no service', async () => {
    const proxy = createServer((socket) => socket.once('data', (request) => socket.end(`HTTP/1.0 200 OK\r\n\r\nproxied ${String(request).split(' ')[1]}`)));
    const port = await listening(proxy, 0, '127.0.0.1');
    const project = await rig.environment('proxied', WEB, { 'index.html': 'direct' });
    const env = { http_proxy: `http://127.0.0.1:${port}`, no_proxy: '' };
    assert.equal((await project.hdWith(env, 'up', '-d', '--wait')).code, 0);
    assert.equal(await inside(project, 'wget -qO- http://far.example/'), 'proxied http://far.example/');
    assert.match(await inside(project, 'echo $no_proxy'), /(^|,)web(,|$)/);
    await project.hd('down');
    proxy.close();
  });
});
