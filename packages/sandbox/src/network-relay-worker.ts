/**
 * The thread of a private network that stays in the host's network, and serves sockets that are inside: names are asked of resolvers, and connections made to addresses, that only the host can reach.
 */
import { createSocket, type RemoteInfo, type Socket as Datagrams } from 'node:dgram';
import { isIPv6, type Socket } from 'node:net';
import { parentPort } from 'node:worker_threads';
import { assert, sys } from '@hyperdocker/base';
import { dial, Forwarder } from './forwarder.ts';
import type { OutsideCall } from './network-calls.ts';

const SOL_IP = 0;
const SO_ORIGINAL_DST = 80;
const SOCKADDR_BYTES = 16;
/** How long somebody who asked over UDP may be answered. */
const ANSWER_MS = 15_000;
const MAX_OPEN_QUESTIONS = 1_000;

const port = parentPort;
assert(port !== null, 'this is a thread');
port.on('message', (call: OutsideCall) => {
  if (call.kind === 'relay-udp') relayDatagrams(call);
  else if (call.kind === 'relay-tcp') new Forwarder([call.fd], () => dial(call.host, call.port));
  else new Forwarder([call.fd], dialOriginal);
});

/** The connection was redirected by a packet filter, which knows where it was going. */
function dialOriginal(accepted: Socket): Promise<Socket> {
  const { fd } = (accepted as Socket & { _handle: { fd: number } })._handle;
  const address = sys().getSocketOption(fd, SOL_IP, SO_ORIGINAL_DST, SOCKADDR_BYTES);
  return dial(address.subarray(4, 8).join('.'), address.readUInt16BE(2));
}

/** Each question goes on from a socket of its own, so that an answer finds whoever asked. */
function relayDatagrams({ fd, host, port: hostPort }: Extract<OutsideCall, { kind: 'relay-udp' }>): void {
  const inside = createSocket('udp4');
  const open = new Set<Datagrams>();
  inside.on('error', () => {});
  inside.on('message', (question: Buffer, asker: RemoteInfo) => {
    if (open.size >= MAX_OPEN_QUESTIONS) return;
    const onward = createSocket(isIPv6(host) ? 'udp6' : 'udp4');
    open.add(onward);
    const timer = setTimeout(() => onward.close(), ANSWER_MS);
    onward.once('close', () => {
      clearTimeout(timer);
      open.delete(onward);
    });
    onward.on('error', () => onward.close());
    onward.once('message', (answer: Buffer) => {
      inside.send(answer, asker.port, asker.address);
      onward.close();
    });
    onward.send(question, hostPort, host);
  });
  inside.bind({ fd });
}
