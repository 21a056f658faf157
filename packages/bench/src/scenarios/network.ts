import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { freePort } from '@hyperdocker/demo';
import type { Race, Sample, Scenario } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { BASE } from '../workshop.ts';

const CONNECTIONS = 500;
const BYTES = 512 * 2 ** 20;
/** Sends as many bytes as it is told to, and closes. */
const SERVER = `import socket, sys
block = b'x' * (1 << 20)
with socket.create_server(('127.0.0.1', int(sys.argv[1]))) as server:
    print('listening', flush=True)
    while True:
        connection = server.accept()[0]
        left = int(connection.makefile().readline())
        while left > 0:
            left -= connection.send(block[:min(left, len(block))])
        connection.close()
`;

/** What a published port costs. */
export const networkScenarios: Scenario[] = [
  { name: 'network.connections', rounds: 9, unable, what: `${CONNECTIONS} connections one after the other, with an answer of 100 bytes each: to a service in a private network, by its published port; to the same server on the host`, open: (workshop) => race(workshop, CONNECTIONS, 100) },
  { name: 'network.bytes', rounds: 5, unable, what: `an answer of ${BYTES / 2 ** 20} MiB from the same servers`, open: (workshop) => race(workshop, 1, BYTES) },
];

function unable(): string | undefined {
  return spawnSync('python3', ['--version']).error === undefined ? undefined : 'the floor needs python3 on the host';
}

async function race(workshop: Workshop, count: number, size: number): Promise<Race> {
  const dir = workshop.tempDir('network');
  const [published, onHost] = [await freePort(), await freePort()];
  writeFileSync(join(dir, 'server.py'), SERVER);
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "network"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n[services.web]\ncommand = "exec python3 server.py ${published}"\nport = ${published}\nready = { log = "listening" }\n`);
  const hd = workshop.hd(dir);
  await hd.up();
  const server = spawn('python3', [join(dir, 'server.py'), String(onHost)], { stdio: ['ignore', 'pipe', 'inherit'] });
  await once(createInterface({ input: server.stdout }), 'line');
  return {
    sides: [{ name: 'hd, published', run: () => ask(published, count, size) }, { name: 'floor: on the host', run: () => ask(onHost, count, size) }],
    async [Symbol.asyncDispose]() {
      server.kill();
      await hd.down();
    },
  };
}

async function ask(port: number, count: number, size: number): Promise<Sample> {
  const startedMs = performance.now();
  let got = 0;
  for (let n = 0; n < count; n++) got += await receive(port, size);
  return { ms: performance.now() - startedMs, work: `${got} bytes` };
}

function receive(port: number, size: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect({ port, host: '127.0.0.1' });
    let got = 0;
    socket.on('data', (data) => (got += data.length));
    socket.once('error', reject).once('end', () => resolve(got));
    socket.write(`${size}\n`);
  });
}
