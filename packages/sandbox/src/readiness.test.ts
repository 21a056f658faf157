import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer as createHttpServer } from 'node:http';
import { connect, createServer, type Server } from 'node:net';
import { test } from 'node:test';
import { listenAt } from './claim-port.ts';
import { LineMatcher, waitUntilReady } from './readiness.ts';

async function portOf(server: Server): Promise<number> {
  await once(server, 'listening');
  return (server.address() as { port: number }).port;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  const port = await portOf(server);
  server.close();
  await once(server, 'close');
  return port;
}

test('a port is ready once something listens', async () => {
  const port = await freePort();
  const ready = waitUntilReady({ kind: 'port', port }, new AbortController().signal);
  const server = createServer().listen(port, '127.0.0.1');
  assert.equal(await ready, 'ready');
  server.close();
});

test('listening on ::1 alone is enough', async (t) => {
  const server = createServer().listen(0, '::1');
  const failed = await Promise.race([once(server, 'error').then(() => true), once(server, 'listening').then(() => false)]);
  if (failed) return t.skip('this machine has no IPv6 loopback');
  const { port } = server.address() as { port: number };
  assert.equal(await waitUntilReady({ kind: 'port', port }, new AbortController().signal), 'ready');
  server.close();
});

test('HTTP is ready below 500', async () => {
  const answers = [503, 500, 404];
  const asked: string[] = [];
  const server = createHttpServer((request, response) => {
    asked.push(request.url ?? '');
    response.writeHead(answers.shift() ?? 200).end();
  }).listen(0, '127.0.0.1');
  const port = await portOf(server);
  assert.equal(await waitUntilReady({ kind: 'http', port, path: '/health?x' }, new AbortController().signal), 'ready');
  assert.deepEqual(asked, ['/health?x', '/health?x', '/health?x']);
  server.close();
});

test('a command is asked until it says yes; a failure is a no', async () => {
  let asked = 0;
  const run = async (): Promise<boolean> => {
    asked++;
    if (asked === 1) throw new Error('not there yet');
    return asked === 3;
  };
  assert.equal(await waitUntilReady({ kind: 'command', run }, new AbortController().signal), 'ready');
  assert.equal(asked, 3);
});

test('a log line may come in pieces, in colour, and without its end', async () => {
  for (const pieces of [['Listening on 80\n'], ['noise\nLis', 'tening on', ' 80'], ['\x1b[32mListening\x1b[0m on 80\n'], ['é'.repeat(10), '\nListening on 80']]) {
    const lines = new LineMatcher(/^Listening on \d+/g);
    for (const piece of pieces) lines.write(Buffer.from(piece));
    assert.equal(await waitUntilReady({ kind: 'log', lines }, new AbortController().signal), 'ready');
  }
});

test('every probe ends when it is aborted', async () => {
  const port = await freePort();
  const never = () => new Promise<boolean>(() => {});
  const deaf = createServer(() => {}).listen(0, '127.0.0.1');
  const deafPort = await portOf(deaf);
  const stop = new AbortController();
  const waits = [
    waitUntilReady({ kind: 'port', port }, stop.signal),
    waitUntilReady({ kind: 'http', port, path: '/' }, stop.signal),
    waitUntilReady({ kind: 'http', port: deafPort, path: '/' }, stop.signal),
    waitUntilReady({ kind: 'log', lines: new LineMatcher(/x/) }, stop.signal),
    waitUntilReady({ kind: 'command', run: (signal) => Promise.race([never(), once(signal, 'abort').then(() => true)]) }, stop.signal),
  ];
  stop.abort();
  assert.deepEqual(new Set(await Promise.all(waits)), new Set(['aborted']));
  assert.equal(await waitUntilReady({ kind: 'started' }, stop.signal), 'aborted');
  deaf.close();
});

test('accepted: not while the kernel alone answers, but once somebody takes the connection', async () => {
  const port = await freePort();
  const fd = listenAt('127.0.0.1', port);
  const stop = new AbortController();
  const connected = connect({ host: '127.0.0.1', port });
  await once(connected, 'connect');
  const ready = waitUntilReady({ kind: 'accepted', port }, stop.signal);
  // The port answers, and has a connection in its queue that nobody takes.
  assert.equal(await waitUntilReady({ kind: 'port', port }, stop.signal), 'ready');
  const early = new AbortController();
  const never = waitUntilReady({ kind: 'accepted', port }, early.signal);
  early.abort();
  assert.equal(await never, 'aborted');
  const server = createServer((socket) => socket.on('error', () => {})).listen({ fd });
  assert.equal(await ready, 'ready');
  connected.destroy();
  server.close();
});
