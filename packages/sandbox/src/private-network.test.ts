import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync, readdirSync, readlinkSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { freePort, processesIn, waitUntil } from '@hyperdocker/testkit';
import { noIp, noNetworks, packetTables, serverBeyond } from './beyond-fixture.ts';
import { claimPort } from './claim-port.ts';
import { PrivateNetwork, type WayOut } from './private-network.ts';

const missing = (program: string): string | false => noIp || (spawnSync(program, ['--version']).error === undefined ? false : `${program} is not installed`);

const CONNECT = 'const [host, port] = process.argv.slice(1); require("node:net").connect(port, host).setTimeout(3000, function () { this.destroy(new Error("timeout")); }).on("error", (e) => { console.log(e.code ?? e.message); }).on("data", (d) => console.log(String(d)));';

/** Starts Node inside, with a program in text. */
function nodeInside(network: PrivateNetwork, program: string, ...args: string[]): ChildProcess {
  return spawn('nsenter', [`--net=${network.path}`, process.execPath, '-e', program, '--', ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
}

async function printed(child: ChildProcess): Promise<string> {
  assert(child.stdout !== null);
  return (await buffer(child.stdout)).toString().trim();
}

/** A server inside that says when it listens, and ends with its standard input. */
async function serverInside(network: PrivateNetwork, onConnection: string, at: string): Promise<AsyncDisposable> {
  const child = nodeInside(network, `const net = require('node:net'); net.createServer({ allowHalfOpen: true }, ${onConnection}).listen(${at}, () => console.log('listening')); process.stdin.resume().on('end', () => process.exit());`);
  assert(child.stdout !== null);
  await once(createInterface({ input: child.stdout }), 'line');
  return {
    async [Symbol.asyncDispose]() {
      const gone = once(child, 'exit');
      child.stdin?.end();
      await gone;
    },
  };
}

async function published(network: PrivateNetwork, inside: number): Promise<number> {
  const port = await freePort();
  const claim = claimPort(['127.0.0.1', '::1'], port);
  assert(claim.kind === 'claimed');
  await network.forward('it', claim.fds, inside);
  return port;
}

const open = (ways: readonly WayOut[] = ['none']): Promise<PrivateNetwork> => PrivateNetwork.open({ ways, seed: process.pid });

describe('published ports', { skip: noNetworks }, () => {
  test('a connection reaches the service at either loopback address, and is answered after its own last word', async () => {
    await using network = await open();
    for (const [at, host] of [['5000, "127.0.0.1"', '127.0.0.1'], ['5001, "::1"', '::1']] as const) {
      await using _server = await serverInside(network, '(s) => { let all = ""; s.on("data", (d) => all += d).on("end", () => setTimeout(() => s.end("heard " + all), 50)); }', at);
      const port = await published(network, Number(at.slice(0, 4)));
      const socket = connect({ port, host, allowHalfOpen: true });
      socket.end('the last word');
      assert.equal((await buffer(socket)).toString(), 'heard the last word');
    }
  });

  test('32 MB come through unchanged in both directions, past a reader who takes his time', async () => {
    await using network = await open();
    await using _server = await serverInside(network, '(s) => s.pipe(s)', '5000, "127.0.0.1"');
    const socket = connect({ port: await published(network, 5000), host: '127.0.0.1', allowHalfOpen: true });
    const sent = randomBytes(32 * 2 ** 20);
    socket.end(sent);
    // Nothing is read until the first part no longer goes out: whoever is in between has to stop reading, too.
    await waitUntil('it is held up', () => (socket.writableLength > 0 && socket.bytesWritten > 0 ? true : undefined));
    const received = await buffer(socket);
    assert(received.equals(sent), `${received.length} of ${sent.length} bytes`);
  });

  test('three hundred connections at once', async () => {
    await using network = await open();
    await using _server = await serverInside(network, '(s) => s.on("data", (d) => s.end(d))', '5000, "127.0.0.1"');
    const port = await published(network, 5000);
    const answers = await Promise.all(Array.from({ length: 300 }, async (_, n) => {
      const socket = connect({ port, host: '127.0.0.1' });
      socket.write(`number ${n}`);
      return (await buffer(socket)).toString();
    }));
    assert.deepEqual(answers, Array.from({ length: 300 }, (_, n) => `number ${n}`));
  });

  test('where nobody listens, a connection breaks off; while somebody is expected, it waits', async () => {
    await using network = await open();
    const port = await published(network, 5000);
    const broken = connect({ port, host: '127.0.0.1' });
    const [error] = (await once(broken, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNRESET');
    network.expect('it', 'starting');
    const waiting = connect({ port, host: '127.0.0.1' });
    await once(waiting, 'connect');
    await using _server = await serverInside(network, '(s) => s.end("at last")', '5000, "127.0.0.1"');
    assert.equal((await buffer(waiting)).toString(), 'at last');
  });

  test('a side that breaks off is heard of on the other', async () => {
    await using network = await open();
    await using _server = await serverInside(network, '(s) => s.once("data", () => s.resetAndDestroy())', '5000, "127.0.0.1"');
    const socket = connect({ port: await published(network, 5000), host: '127.0.0.1' });
    socket.write('x');
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    assert.equal(error.code, 'ECONNRESET');
  });

  test('a port is taken when anybody has it at either address, and of no machine when the address is not here', async () => {
    const server = createServer().listen(0, '::1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    assert.deepEqual(claimPort(['127.0.0.1', '::1'], port), { kind: 'taken' });
    server.close();
    await once(server, 'close');
    assert.deepEqual(claimPort(['198.51.100.7'], port), { kind: 'no-address' });
  });

  test('readiness is asked inside', async () => {
    await using network = await open();
    const abort = new AbortController();
    const never = network.waitUntilReady({ kind: 'port', port: 5001 }, abort.signal);
    await using _server = await serverInside(network, '(s) => s.end("HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")', '5000, "::1"');
    assert.equal(await network.waitUntilReady({ kind: 'http', port: 5000, path: '/' }, new AbortController().signal), 'ready');
    abort.abort();
    assert.equal(await never, 'aborted');
  });
});

describe('ways out', () => {
  const ways: [WayOut, string | false][] = [['veth', noIp], ['pasta', missing('pasta')], ['slirp4netns', missing('slirp4netns')], ['relay', noIp]];
  for (const [index, [way, skip]] of ways.entries()) {
    test(`${way}: what is beyond this machine can be reached, and sees the machine's own address`, { skip }, async () => {
      await using beyond = await serverBeyond(100 + index);
      await using network = await open([way]);
      if (way === 'veth' && network.way === 'none') return assert.match(network.refused[0]?.reason ?? '', /hand/, 'not on this machine, and it says why');
      assert.deepEqual(network.refused, []);
      assert.equal(await printed(nodeInside(network, CONNECT, beyond.address, '80')), beyond.gateway);
    });
  }

  /** A host of the test's own: a network namespace in which a script says how it is. */
  const onHostWith = async (script: string): Promise<string> => {
    const holder = fileURLToPath(new URL('./private-network.child.ts', import.meta.url));
    const child = spawn('unshare', ['--net', 'sh', '-c', `ip link set lo up && ${script} && exec "$0" "$@"`, process.execPath, holder, 'veth', '9'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const line = await Promise.race([once(createInterface({ input: child.stdout }), 'line'), once(child, 'exit')]);
    if (child.exitCode === null) {
      child.kill();
      await once(child, 'exit');
    }
    return String(line[0]);
  };

  test('veth: not on a host that hands nothing on, nor behind a firewall that drops it; the host is left as it is', { skip: noIp || missing('iptables') }, async () => {
    const forward = 'echo 1 > /proc/sys/net/ipv4/ip_forward';
    assert.equal(await onHostWith(forward), 'veth');
    assert.match(await onHostWith('echo 0 > /proc/sys/net/ipv4/ip_forward'), /^none this machine does not hand packets on/);
    assert.match(await onHostWith(`${forward} && iptables -P FORWARD DROP`), /^none packets do not come through: a firewall/);
    // Where its own range is routed elsewhere, it takes another one.
    assert.equal(await onHostWith(`${forward} && ip link add lan0 type veth peer name lan1 && ip link set lan0 up && ip addr add 10.0.0.1/8 dev lan0`), 'veth');
  });

  test('none: nothing can be reached, and nothing listens there', { skip: noNetworks }, async () => {
    await using network = await open();
    assert.equal(await printed(nodeInside(network, CONNECT, '198.51.100.7', '80')), 'ENETUNREACH');
  });

  test('what does not work is passed over, with the reason', { skip: noNetworks }, async () => {
    await using network = await PrivateNetwork.open({ ways: ['pasta', 'relay'], searchPath: '/nowhere' });
    assert.equal(network.way, 'relay');
    assert.deepEqual(network.refused, [{ way: 'pasta', reason: 'pasta is not installed' }]);
  });

  test('a server of the host that only the host can reach is relayed, for TCP and for names', { skip: noIp }, async () => {
    await using beyond = await serverBeyond(110);
    await using network = await open();
    await network.relay('127.0.0.53', 80, { host: beyond.address, port: 80 });
    await network.relay('127.0.0.54', 7, { host: beyond.address, port: 7, names: true });
    assert.equal(await printed(nodeInside(network, CONNECT, '127.0.0.53', '80')), beyond.gateway);
    const ask = 'const s = require("node:dgram").createSocket("udp4"); s.on("message", (m) => { console.log(String(m)); s.close(); }); s.send("question", 7, "127.0.0.54");';
    assert.equal(await printed(nodeInside(network, ask)), 'answer to question');
  });

  test('nothing gets in by the cable: not from the host, not from another network', { skip: noNetworks }, async () => {
    await using network = await open(['veth']);
    await using other = await PrivateNetwork.open({ ways: ['veth'], seed: process.pid + 1 });
    if (network.way === 'none') return;
    await using _server = await serverInside(network, '(s) => s.end("reached")', '5000, "0.0.0.0"');
    const address = /inet (\d+\.\d+\.\d+\.\d+)/.exec(spawnSync('nsenter', [`--net=${network.path}`, 'ip', '-4', 'addr', 'show', 'eth0'], { encoding: 'utf8' }).stdout)?.[1] ?? '';
    assert.match(address, /^\d/);
    assert.equal(await printed(nodeInside(network, CONNECT, address, '5000')), 'reached', 'it is there');
    assert.equal(await printed(nodeInside(other, CONNECT, address, '5000')), 'timeout');
    assert.equal(await reach(address, 5000), 'timeout');
  });
});

describe('what is left', { skip: noNetworks }, () => {
  const holder = fileURLToPath(new URL('./private-network.child.ts', import.meta.url));

  for (const way of ['veth', 'relay', 'slirp4netns', 'pasta'] as const) {
    test(`${way}: nothing, after a SIGKILL`, { skip: way === 'slirp4netns' || way === 'pasta' ? missing(way) : false }, async () => {
      const port = await freePort();
      const child = spawn(process.execPath, [holder, way, String(port)], { stdio: ['pipe', 'pipe', 'inherit'] });
      const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
      const namespaces = namespacesOf(child.pid ?? 0);
      assert.equal(namespaces.length, 2, 'it has one beside that of the host');
      const name = `hdnet${(child.pid ?? 0) % 8192}`;
      if (line.startsWith('veth')) assert(links().includes(name) && packetTables().includes(name), 'the link and the table can be seen while it is there');
      child.kill('SIGKILL');
      await once(child, 'exit');
      await waitUntil('everything is gone', () => {
        const left = [...links().filter((link) => link === name), ...packetTables().filter((table) => table === name), ...processesIn(namespaces.filter((each) => each !== readlinkSync('/proc/self/ns/net')))];
        assert.deepEqual(left, []);
        return true;
      });
      assert.equal(claimPort(['127.0.0.1', '::1'], port).kind, 'claimed');
    });
  }

  test('nothing, after closing it: no link, no table, no thread, no descriptor', async () => {
    const settled = await open(['veth']);
    await settled[Symbol.asyncDispose]();
    const before = { fds: readdirSync('/proc/self/fd').length, threads: readdirSync('/proc/self/task').length };
    for (let round = 0; round < 5; round++) {
      const network = await open(['veth']);
      await published(network, 80);
      await network[Symbol.asyncDispose]();
      assert.deepEqual(links().filter((name) => name === `hdnet${process.pid % 8192}`), []);
    }
    const after = { fds: readdirSync('/proc/self/fd').length, threads: readdirSync('/proc/self/task').length };
    assert.deepEqual(after, before);
  });
});

function links(): string[] {
  return readFileSync('/proc/self/net/dev', 'utf8').split('\n').slice(2).map((line) => line.split(':')[0]?.trim() ?? '').filter((name) => name !== '');
}

function namespacesOf(pid: number): string[] {
  return [...new Set(readdirSync(`/proc/${pid}/task`).map((task) => readlinkSync(`/proc/${pid}/task/${task}/ns/net`)))];
}

function reach(host: string, port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket: Socket = connect({ host, port, timeout: 1_000 });
    const finish = (answer: string) => (): void => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', finish('reached')).once('error', finish('refused')).once('timeout', finish('timeout'));
  });
}
