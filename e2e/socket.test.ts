/** A socket that the supervisor holds: no request fails while the service behind it restarts. */
import assert from 'node:assert/strict';
import { get } from 'node:http';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BusyboxRig, makeBusyboxRoot, noBusybox, writeOciDir } from './busybox.ts';
import { addPython } from './host-programs.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

/** Python's own HTTP server on the socket that it was handed. Told to end, it answers what it has accepted, as servers do that are worth the name. */
const SERVER = `
import os, signal, socket, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
assert os.environ["LISTEN_PID"] == str(os.getpid()), (os.environ["LISTEN_PID"], os.getpid())
assert (os.environ["LISTEN_FDS"], os.environ["LISTEN_FDNAMES"]) == ("1", "web")
VERSION = open("version").read().strip()
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        time.sleep(0.002)
        body = (VERSION + " " + os.environ["PO" + "RT"]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(ThreadingHTTPServer):
    daemon_threads = False
server = Server(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
time.sleep(0.3)
server.serve_forever(poll_interval=0.01)
server.server_close()
`;

interface Load { answers: Map<string, number>; failures: string[]; slowestMs: number }

/** Requests from several clients at once, each with a connection of its own, until `done` resolves. */
async function loadWhile(url: string, done: Promise<unknown>): Promise<Load> {
  const load: Load = { answers: new Map(), failures: [], slowestMs: 0 };
  let going = true;
  const client = async (): Promise<void> => {
    while (going) {
      const began = performance.now();
      const { answer, failure } = await ask(url);
      load.slowestMs = Math.max(load.slowestMs, performance.now() - began);
      if (answer !== undefined) load.answers.set(answer, (load.answers.get(answer) ?? 0) + 1);
      if (failure !== undefined) load.failures.push(failure);
    }
  };
  const clients = Promise.all(Array.from({ length: 8 }, client));
  await done;
  going = false;
  await clients;
  return load;
}

function ask(url: string): Promise<{ answer?: string; failure?: string }> {
  return new Promise((resolve) => {
    const request = get(url, { agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => (text += part)).on('end', () => resolve(response.statusCode === 200 ? { answer: text } : { failure: `status ${response.statusCode}` })).on('error', (error) => resolve({ failure: error.message }));
    });
    request.on('error', (error) => resolve({ failure: error.message }));
  });
}

const isReady = { until: (event: { type: string; status?: string }): boolean => event.type === 'service' && event.status === 'ready' };

describe('a socket that outlives its service', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
    const root = join(rig.world.dir, 'python-root');
    makeBusyboxRoot(root);
    addPython(root);
    writeOciDir(join(rig.world.dir, 'python'), { layers: [root] });
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const make = (name: string, more = ''): Promise<ProjectRig> =>
    rig.environment(name, `${more}[services.web]\ncommand = "cd . && python3 server.py"\nwatch = ["version"]\nport = PORT\nsocket = true\n`, { 'server.py': SERVER, version: '0' }, 'oci:../python');

  for (const [name, more] of [['socket-private', ''], ['socket-host', 'network = "host"\n']] as const) {
    test(`no request fails over five restarts under load: ${name}`, async () => {
      const project = await make(name, more);
      await project.up();
      const restarts = (async () => {
        for (let version = 1; version <= 5; version++) await project.edit(() => project.write('version', String(version)), isReady);
      })();
      const load = await loadWhile(project.url, restarts);
      assert.deepEqual(load.failures, [], `slowest: ${load.slowestMs} ms; ${JSON.stringify([...load.answers])}; ${(await project.hd('logs')).stdout.slice(-2000)}`);
      assert.equal(load.answers.size >= 5, true, [...load.answers.keys()].join());
      const { services } = await (await project.client()).status();
      assert.deepEqual(services.map(({ restarts: count, status }) => [count, status]), [[5, 'ready']]);
      // It does not run: whoever asks is told so, and not kept waiting.
      if (more === '') {
        await project.hd('stop', 'web');
        assert.match((await ask(project.url)).failure ?? '', /socket hang up|ECONNRESET/);
        assert.equal((await project.hd('start', 'web')).code, 0);
        assert.equal((await ask(project.url)).answer, `5 ${project.port}`);
      }
      await project.hd('down');
      assert.match((await ask(project.url)).failure ?? '', /ECONNREFUSED/);
    });
  }

  test('it is ready once it accepts, not once it listens', async () => {
    const project = await rig.environment('accepts', `[services.web]\ncommand = "while [ ! -e /go ]; do sleep 0.05; done; exec python3 server.py"\nport = PORT\nsocket = true\n`, { 'server.py': SERVER, version: '0' }, 'oci:../python');
    await using up = project.start('up', '--json');
    await up.waitFor(/"status":"starting"/);
    const waiting = ask(project.url);
    await project.hd('exec', 'true');
    assert.doesNotMatch(up.output(), /"status":"ready"/);
    await project.hd('exec', 'touch', '/go');
    await up.waitFor(/"status":"ready"/);
    assert.equal((await waiting).answer, `0 ${project.port}`);
    await project.hd('down');
  });
});
