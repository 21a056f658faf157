import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, readSync, writeSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { sys } from '@hyperdocker/base';

/** Why no network can be made here for a test, or false. */
export const noNetworks: string | false = process.getuid?.() !== 0 ? 'needs root: network namespaces' : spawnSync('unshare', ['--net', 'true']).status !== 0 ? 'no network namespace can be made here' : false;

export const noIp: string | false = noNetworks || (spawnSync('ip', ['-V']).error === undefined ? false : 'no ip on this machine (Debian has it in iproute2)');

/** A server beyond this machine, as far as the machine can tell: in a network namespace of its own, at the other end of a cable. It answers each connection with the address that it comes from. */
export interface Beyond extends AsyncDisposable {
  address: string;
  port: number;
  /** The machine's own address on that cable. */
  gateway: string;
}

const SERVE = `
const net = require('node:net'), dgram = require('node:dgram');
const udp = dgram.createSocket('udp4').bind(7, () => net.createServer((socket) => socket.end(socket.remoteAddress)).listen(80, '0.0.0.0', () => console.log('listening')));
udp.on('message', (question, from) => udp.send('answer to ' + question, from.port, from.address));
process.stdin.resume().on('end', () => process.exit());
`;

/** @param third tells tests that run at the same time apart. */
export async function serverBeyond(third: number): Promise<Beyond> {
  const link = `hdtest${third}`;
  const [gateway, address] = [`198.18.${third}.1`, `198.18.${third}.2`];
  const child = spawn('unshare', ['--net', process.execPath, '-e', SERVE], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(createInterface({ input: child.stdout }), 'line');
  const ip = (...args: string[]): void => void execFileSync('ip', args);
  const inside = (...args: string[]): void => void execFileSync('nsenter', ['--target', String(child.pid), '--net', 'ip', ...args]);
  ip('link', 'add', link, 'type', 'veth', 'peer', 'name', 'eth0', 'netns', String(child.pid));
  ip('address', 'add', `${gateway}/24`, 'dev', link);
  ip('link', 'set', link, 'up');
  inside('address', 'add', `${address}/24`, 'dev', 'eth0');
  inside('link', 'set', 'eth0', 'up');
  return {
    address, port: 80, gateway,
    async [Symbol.asyncDispose]() {
      const gone = once(child, 'exit');
      child.stdin.end();
      await gone;
    },
  };
}

/** Names of the tables of nf_tables in the network of this process. Asked of the kernel: `nft` may not be there. */
export function packetTables(): string[] {
  const fd = sys().socket(16, 3, 12);
  try {
    const request = Buffer.alloc(20);
    request.writeUInt32LE(20, 0);
    request.writeUInt16LE((10 << 8) | 1, 4);
    request.writeUInt16LE(0x301, 6);
    writeSync(fd, request);
    const answer = Buffer.alloc(1 << 16);
    const names: string[] = [];
    for (let isDone = false; !isDone; ) {
      const end = readSync(fd, answer);
      for (let at = 0; at < end; at += (answer.readUInt32LE(at) + 3) & ~3) {
        isDone ||= answer.readUInt16LE(at + 4) <= 3;
        // The name is the first attribute.
        if (!isDone) names.push(answer.toString('latin1', at + 24, at + 20 + answer.readUInt16LE(at + 20) - 1));
      }
    }
    return names;
  } finally {
    closeSync(fd);
  }
}
