import assert from 'node:assert/strict';
import { closeSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import type { ServiceSpec } from '@hyperdocker/spec';
import { freePort, tempWorld } from '@hyperdocker/testkit';
import type { EnvPaths, Home } from './home.ts';
import { envPaths, openHome } from './home.ts';
import { noteUse } from './known-environments.ts';
import { aliasOf, readPorts, takePorts, urlOf } from './published-ports.ts';

const service = (name: string, port: number, publish: ServiceSpec['publish'] | null = { address: 'loopback', port }): ServiceSpec => ({
  name, port, ...(publish === null ? {} : { publish }), command: '', watch: [], socket: false, dependsOn: [], restartPolicy: 'always', env: {}, ready: { kind: 'started' }, volumes: [], limits: {}, privileged: false, line: 1,
  envFiles: [], stopSignal: 'SIGTERM', restartGraceMs: 5_000, onChange: 'restart', reloadSignal: 'SIGHUP', profiles: [],
});

/** An environment of a project in a directory of this name. */
function environment(home: Home, parent: string, name: string): EnvPaths {
  const dir = join(parent, name);
  mkdirSync(dir, { recursive: true });
  writeFileSync(join(dir, 'hd.toml'), '');
  const paths = envPaths(home, { dir, specFile: join(dir, 'hd.toml') });
  noteUse(paths, { project: dir });
  return paths;
}

/** Takes ports and gives them back at once: what they were. */
function portsOf(services: ServiceSpec[], paths: EnvPaths, home: Home): number[] {
  const taken = takePorts(services, { paths, home });
  for (const fd of taken.flatMap(({ fds }) => fds)) closeSync(fd);
  return taken.map(({ port }) => port);
}

test('ports: the one that is asked for, the next free one where it is taken, and no one else\'s', async () => {
  await using world = tempWorld();
  const home = openHome(world.env);
  const one = environment(home, world.dir, 'one');
  const port = await freePort();
  const server = createServer().listen(port, '127.0.0.1');
  await once(server, 'listening');
  // The port of `b` is next to that of `a`, which is taken: `a` must not have it.
  const taken = takePorts([service('a', port), service('b', port + 1), service('c', 9, null)], { paths: one, home });
  const [a, b] = taken;
  assert.deepEqual([taken.length, b?.port === port + 1 || (b?.instead ?? 0) === port + 1, a?.instead], [2, true, port]);
  assert(a !== undefined && a.port > port + 1);
  assert.deepEqual(readPorts(one), { a: a.port, b: b?.port });
  const again = takePorts([service('a', port)], { paths: environment(home, world.dir, 'two'), home });
  assert(![a.port, b?.port, port].includes(again[0]?.port), 'while the first one has it');
  for (const fd of [...taken, ...again].flatMap(({ fds }) => fds)) closeSync(fd);
  server.close();
  await once(server, 'close');
});

test('ports stay: two worktrees do not swap them by who comes first; one that is alone has the port it names', async () => {
  await using world = tempWorld();
  const home = openHome(world.env);
  const [one, two] = [environment(home, world.dir, 'one'), environment(home, world.dir, 'two')];
  const services = [service('web', await freePort())];
  const first = takePorts(services, { paths: one, home });
  const [second] = portsOf(services, two, home);
  for (const fd of first.flatMap(({ fds }) => fds)) closeSync(fd);
  assert.notEqual(second, services[0]?.port);
  assert.deepEqual(portsOf(services, two, home), [second], 'the first one is down, and has its port still');
  assert.deepEqual(portsOf(services, one, home), [services[0]?.port]);
  rmSync(join(world.dir, 'one'), { recursive: true });
  assert.deepEqual(portsOf(services, two, home), [services[0]?.port], 'the project of the first one is gone');
});

test('an address that the machine does not have is an error that names it', async () => {
  await using world = tempWorld();
  const home = openHome(world.env);
  assert.throws(() => takePorts([service('web', 8080, { address: '198.51.100.7', port: 8080 })], { paths: environment(home, world.dir, 'one'), home }), { code: 'PUBLISH_ADDRESS' });
});

test('URLs and names', () => {
  assert.deepEqual(['loopback', '0.0.0.0', '10.0.0.1', 'fd00::1'].map((address) => urlOf({ address, port: 80 })), ['http://localhost:80', 'http://localhost:80', 'http://10.0.0.1:80', 'http://[fd00::1]:80']);
  assert.equal(aliasOf({ service: 'Web_App', address: 'loopback', port: 5000 }, '/srv/My Shop.fix'), 'http://web-app.my-shop-fix.localhost:5000');
  assert.equal(aliasOf({ service: 'web', address: '10.0.0.1', port: 5000 }, '/srv/shop'), undefined);
});
