/** For programs: every document of `--json` and every event against its schema, the client library by the example of its documentation, and who may use the socket. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ApiError, Client, socketOf } from '@hyperdocker/client';
import { envPaths, findProject, openHome } from '@hyperdocker/environment';
import { checkout } from '@hyperdocker/testkit';
import * as api from '../packages/client/src/api-schemas.ts';
import { DOCUMENTS, logLine } from '../packages/client/src/documents.ts';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const TOML = `[build]
steps = ["cat src/a > out.lock"]
[services.web]
command = "echo up; exec httpd -f -p 127.0.0.1:PORT"
port = PORT
watch = ["src/*"]
[files]
sync_back = ["*.lock"]
ignore_files = [".gitignore"]
`;

describe('for programs', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;
  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('programs', TOML, { 'src/a': '1', '.gitignore': '*.log\n', Dockerfile: 'FROM busybox\n' });
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const seen = new Set<string>();
  async function check(...args: string[]): Promise<void> {
    const { stdout, stderr } = await project.hd(...args, '--json');
    const lines = stdout.split('\n').filter((line) => line !== '');
    assert(lines.length > 0, `hd ${args.join(' ')} says nothing: ${stderr}`);
    for (const line of lines) {
      const document = JSON.parse(line) as { schema?: string };
      const name = document.schema as keyof typeof DOCUMENTS | undefined;
      if (name !== undefined) seen.add(name);
      const schema = name === undefined ? api.emitted : DOCUMENTS[name];
      const { success, error } = schema.safeParse(document);
      assert(success, `hd ${args.join(' ')}: ${line}\n${error?.message}`);
    }
  }

  test('what each command prints with --json is what its schema says', async () => {
    for (const args of [['build', '--dry-run'], ['status'], ['up', '-d']]) await check(...args);
    await project.edit(() => project.write('src/a', '2'));
    await project.hd('exec', '-T', 'sh', '-c', 'echo x > src/b; echo y > /etc/zz');
    const asking = [
      ['status'], ['ps', '--all'], ['why'], ['why', '1'], ['why', 'src/a'], ['why', 'web'], ['diff'], ['diff', '--live'], ['dag', 'show'], ['dag', 'diff'], ['cas', 'stats'],
      ['doctor'], ['config'], ['version'], ['pull', 'src'], ['volume', 'ls'], ['watch', '--explain', 'src/a', '--explain', 'x.log', '--explain', 'target'], ['ingest', '-o', '-', 'Dockerfile'],
    ];
    await Promise.all(asking.map((args) => check(...args)));
    const doing = [
      ['cas', 'gc', '--dry-run'], ['cas', 'fsck'], ['lock'], ['restart'], ['stop', 'web'], ['start'], ['build', '--dry-run'], ['export', '--oci', 'image', '-t', 'app:1'], ['image', 'import', 'image'], ['image', 'ls'], ['image', 'export', 'app:1', '--archive', 'app.tar'], ['image', 'rm', 'app:1'], ['reset'],
    ];
    for (const args of doing) await check(...args);
    const logs = (await project.hd('logs', '--json')).stdout.split('\n').filter((line) => line !== '');
    assert(logs.length > 0);
    for (const line of logs) logLine.parse(JSON.parse(line));
    const client = await project.client();
    api.status.parse(await client.status());
    await check('down');
    await check('status');
    await check('down');
    await check('init', 'src');
    // These take a registry, a volume, minutes, and a page that is left open.
    assert.deepEqual(Object.keys(DOCUMENTS).filter((name) => !seen.has(name)), ['hd.image.pull/1', 'hd.image.push/1', 'hd.image.build/1', 'hd.volume.rm/1', 'hd.demo/1', 'hd.ui/1']);
  });

  test('the example of the documentation runs', async () => {
    await project.up();
    const text = readFileSync(join(checkout, 'docs/client.md'), 'utf8');
    const example = /```js\n([^]*?)```/.exec(text)?.[1] ?? '';
    // As a program of somebody else's, which has the package and nothing else of ours.
    const dir = join(rig.world.dir, 'example');
    mkdirSync(join(dir, 'node_modules/@hyperdocker'), { recursive: true });
    symlinkSync(join(checkout, 'packages/client'), join(dir, 'node_modules/@hyperdocker/client'));
    writeFileSync(join(dir, 'example.mjs'), example);
    const { stdout, stderr, status } = spawnSync(process.execPath, ['--disable-warning=ExperimentalWarning', join(dir, 'example.mjs'), project.dir], { cwd: dir, env: { ...process.env, HD_HOME: rig.world.home }, encoding: 'utf8', timeout: 60_000 });
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^web is ready at http:\/\/localhost:\d+\nweb: restarting[^]*web: ready\n$/);
  });

  test('the library: every call, errors as values with codes, events until the end', async () => {
    assert.equal(socketOf(project.dir, rig.world.home), envPaths(openHome({ HD_HOME: rig.world.home }), findProject(project.dir)).socket);
    const client = new Client(socketOf(project.dir, rig.world.home));
    assert.deepEqual(await client.call('version'), { api: 1 });
    const { last, services } = await client.status();
    assert.deepEqual(services.map(({ name, status }) => [name, status]), [['web', 'ready']]);
    const events: string[] = [];
    const reading = (async () => {
      for await (const event of client.events({ since: last })) {
        api.emitted.parse(event);
        events.push(event.type);
      }
    })();
    await client.stop(['web']);
    assert.deepEqual(await client.start(), []);
    assert.equal((await client.run({ args: ['sh', '-c', 'echo 1 > made'], env: {} })).exitCode, 0);
    assert.equal((await client.run({ args: ['not-there'], env: {} })).exitCode, 127);
    while (!(await client.changes()).some(({ path }) => path.endsWith('/made')));
    assert.deepEqual((await client.pull({ paths: ['made'] })).files.map(({ path, outcome }) => [path, outcome]), [['made', 'written']]);
    await client.reset();
    await assert.rejects(client.restart(['wbe']), (error) => error instanceof ApiError && error.code === 'NO_SUCH_SERVICE' && error.hint === 'services: web');
    await client.down();
    await reading;
    assert.equal(events.at(-1), 'stopped');
    await assert.rejects(client.status(), (error) => error instanceof ApiError && error.code === 'NOT_RUNNING');
  });

  test('another user is refused', async () => {
    await project.up();
    const socket = socketOf(project.dir, rig.world.home);
    // Even with the directories open, the socket itself is its owner's.
    for (let dir = join(socket, '..'); dir.startsWith(rig.world.dir); dir = join(dir, '..')) chmodSync(dir, 0o755);
    const ask = `require("node:http").get({ socketPath: ${JSON.stringify(socket)}, path: "/v1/status" }, (r) => { console.log(r.statusCode); process.exit(0); }).on("error", (e) => { console.log(e.code); process.exit(0); })`;
    const as = (uid: string): string => spawnSync('setpriv', [`--reuid=${uid}`, '--regid=65534', '--clear-groups', process.execPath, '-e', ask], { cwd: '/', encoding: 'utf8' }).stdout.trim();
    assert.deepEqual([as('65534'), as('0')], ['EACCES', '200']);
    await project.hd('down');
  });
});
