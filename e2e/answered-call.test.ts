import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { findProgram, listenPrivately } from '@hyperdocker/base';
import { checkout, runHd, waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import { processesOf } from './remains.ts';
import { noFuse, unable } from './rig.ts';

const TIMEOUT_MS = 60_000;
const noPerl = findProgram('perl', process.env['PATH']) === undefined ? 'no perl on this machine' : false;
/** What the command prints that is run instead of Node. */
const NODE = 'Node was started\n';
const TIMES = /\d[\d.]* ?m?s\b/g;

describe('what nothing has to run for is answered without a start of Node', { skip: unable || noFuse || noBusybox || noPerl }, () => {
  let rig: BusyboxRig;
  let dir: string;
  let node: string;
  const env = (more: Record<string, string> = {}): Record<string, string> => ({ ...rig.world.env, HD_LINGER_SECONDS: '300', ...more });
  const door = (): string => join(rig.world.home, 'builds/servers/door');

  before(async () => {
    rig = new BusyboxRig();
    assert.equal((await runHd(['image', 'import', join(rig.world.dir, 'busybox'), 'busybox:1.36'], { cwd: rig.world.dir, env: env() })).code, 0);
    dir = join(rig.world.dir, 'called');
    mkdirSync(dir);
    writeFileSync(join(dir, 'Dockerfile'), 'FROM busybox:1.36\nCOPY . /src\nRUN cat /src/read > /out\n');
    writeFileSync(join(dir, 'read'), '1');
    writeFileSync(join(dir, 'unread'), '1');
    node = join(rig.world.dir, 'node');
    writeFileSync(node, `#!/bin/sh\nprintf '${NODE.replace('\n', '\\n')}'\n`);
    chmodSync(node, 0o755);
  });
  after(async () => {
    for (const { pid } of servers()) process.kill(pid, 'SIGTERM');
    await waitUntil('nothing serves builds', () => processesOf(rig.world.home).length === 0, { timeoutMs: TIMEOUT_MS });
    await rig[Symbol.asyncDispose]();
  });

  function servers(): ReturnType<typeof processesOf> {
    return processesOf(rig.world.home).filter(({ args }) => args.includes('build-server-main'));
  }

  /** As `hd` does it, with a program in the place of Node that says so. */
  function call(args: string[], more: Record<string, string> = {}, at = door()): { status: number | null; stdout: string; stderr: string } {
    const { status, stdout, stderr } = spawnSync('perl', [join(checkout, 'scripts/ask-server.pl'), at, '1', node, join(checkout, 'packages/cli/src/main.ts'), ...args], {
      cwd: dir, env: { ...process.env, NODE_TEST_CONTEXT: undefined, HD_DEV: '1', ...env(more) }, encoding: 'utf8', timeout: TIMEOUT_MS,
    });
    return { status, stdout, stderr };
  }

  async function build(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await runHd(['build', '-f', 'Dockerfile', '-t', 'called', ...args], { cwd: dir, env: env(), timeoutMs: TIMEOUT_MS });
    assert.equal(code, 0, stderr);
    return stdout;
  }

  test('with the words of the command itself, after edits that no command reads too', async () => {
    await build();
    for (const flags of [[], ['--json'], ['-q'], ['--color', 'always']]) {
      const told = await build(...flags);
      const withoutNode = call(['build', '-f', 'Dockerfile', '-t', 'called', ...flags]);
      assert.deepEqual({ ...withoutNode, stdout: withoutNode.stdout.replace(TIMES, 'T').replace(/"ms":[\d.]+/g, 'T') }, { status: 0, stdout: told.replace(TIMES, 'T').replace(/"ms":[\d.]+/g, 'T'), stderr: '' }, flags.join(' '));
    }
    const before = await build('-q');
    writeFileSync(join(dir, 'unread'), '2');
    const after = call(['build', '-f', 'Dockerfile', '-t', 'called', '-q']);
    assert.match(after.stdout, /^[0-9a-f]{64}\n$/);
    assert.notEqual(after.stdout, before, 'the image has the new file');
    assert.equal(await build('-q'), after.stdout);
    assert.equal(servers().length, 1);
  });

  test('Node runs what has to run or be fetched, what is wrong, and what is of another environment', async () => {
    await build();
    const isNode = (args: string[], more: Record<string, string> = {}, at?: string): void => assert.deepEqual(call(args, more, at), { status: 0, stdout: NODE, stderr: '' }, args.join(' '));
    const ours = ['build', '-f', 'Dockerfile', '-t', 'called'];
    for (const flags of [['--no-cache'], ['--pull'], ['--dry-run'], ['--archive', 'image.tar'], ['--unknown'], ['--target', 'missing'], ['--build-arg']]) isNode([...ours, ...flags]);
    isNode(['build', '-f', '-', '-t', 'called']);
    isNode(['build', '-f', 'Dockerfile.missing']);
    isNode(['build']);
    isNode(['image', 'ls']);
    isNode(ours, { OF_ANOTHER: 'environment' });
    writeFileSync(join(dir, 'read'), '2');
    isNode(ours);
    await build();
    assert.notEqual(call(ours).stdout, NODE);
    writeFileSync(join(dir, 'Dockerfile.fetches'), 'FROM 127.0.0.1:1/of/nobody:1\n');
    isNode(['build', '-f', 'Dockerfile.fetches']);
    writeFileSync(join(dir, 'Dockerfile.wrong'), 'FROM busybox:1.36\nCOPY missing .\n');
    isNode(['build', '-f', 'Dockerfile.wrong']);
    assert(!existsSync(join(dir, 'image.tar')));
    assert.equal(servers().length, 1);
  });

  test('a server that is gone, busy, or ends in the middle of its answer is no trouble', async () => {
    await build();
    const ours = ['build', '-f', 'Dockerfile', '-t', 'called'];
    assert.equal(call(ours, {}, join(rig.world.dir, 'nowhere')).stdout, NODE);
    const sockets: [string, (answer: (text: string) => void) => void][] = [['silent', () => {}], ['cut', (answer) => answer('+0 100\nsome')], ['other', (answer) => answer('HTTP/1.0 400 what\n')]];
    for (const [name, serve] of sockets) {
      const at = join(rig.world.dir, name);
      const server = createServer({ allowHalfOpen: true }, (socket) => {
        serve((text) => socket.end(text));
        socket.on('error', () => {});
        socket.resume();
      });
      await listenPrivately(server, at);
      const client = spawn('perl', [join(checkout, 'scripts/ask-server.pl'), at, '1', node, 'main.ts', ...ours], { cwd: dir });
      let out = '';
      client.stdout.setEncoding('utf8').on('data', (text: string) => void (out += text));
      await once(client, 'close');
      assert.equal(out, NODE, name);
      server.close();
    }
    const [server] = servers();
    process.kill(server?.pid ?? 0, 'SIGKILL');
    await waitUntil('it has ended', () => servers().length === 0, { timeoutMs: TIMEOUT_MS });
    assert(readdirSync(join(rig.world.home, 'builds/servers')).includes('door'));
    assert.equal(call(ours).stdout, NODE);
    await build('--no-cache');
    assert.notEqual(call(ours).stdout, NODE);
  });
});
