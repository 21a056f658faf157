/**
 * The thread of a private network: it alone of the process is inside the network namespace, so that what it connects to, and what it asks, is what the services see. It makes the namespace
 * and what leads out of it, hands connections of published ports in, and asks whether services are ready. The namespace lives for as long as a process is in it or has it open.
 */
import { openSync, readFileSync } from 'node:fs';
import { parentPort } from 'node:worker_threads';
import { assert, describeError, HdError, sys } from '@hyperdocker/base';
import { datagramsAt, listenAt } from './claim-port.ts';
import type { InsideCall, InsideReply } from './network-calls.ts';
import { openCable, type Cable } from './network-cable.ts';
import { claimAllAddresses, LOOPBACK_INDEX, setUp } from './network-links.ts';
import { Netlink } from './netlink.ts';
import { redirectOutgoing } from './packet-filter.ts';
import { PublishedPort } from './published-port.ts';
import { waitUntilReady } from './readiness.ts';

/** Links and addresses of the host: made before this thread goes inside. */
const host = new Netlink('route');
const { namespace, inside } = goInside();
const forwards = new Map<string, PublishedPort>();
const probes = new Map<number, AbortController>();
let wayOut: Cable | Disposable | undefined;

const port = parentPort;
assert(port !== null, 'this is a thread');
port.postMessage({ kind: 'inside', namespace } satisfies InsideReply);
port.on('message', (call: InsideCall) => {
  carryOut(call).then(
    (value) => port.postMessage({ kind: 'done', id: call.id, ...(value === undefined ? {} : { value }) } satisfies InsideReply),
    (error: unknown) => port.postMessage({ kind: 'failed', id: call.id, error: toHdError(error).toJSON() } satisfies InsideReply),
  );
});

function goInside(): { namespace: number; inside: Netlink } {
  sys().unshareNetwork();
  // Of the thread: /proc/self would be that of the process's first one.
  const fd = openSync('/proc/thread-self/ns/net', 'r');
  const netlink = new Netlink('route');
  setUp(netlink, LOOPBACK_INDEX);
  return { namespace: fd, inside: netlink };
}

async function carryOut(call: InsideCall): Promise<unknown> {
  switch (call.kind) {
    case 'forward':
      forwards.set(call.name, new PublishedPort(call.fds, call.port));
      return undefined;
    case 'expect':
      forwards.get(call.name)?.expect(call.state);
      return undefined;
    case 'probe':
      return await probe(call);
    case 'stop-probe':
      probes.get(call.probeId)?.abort();
      return undefined;
    case 'listen':
      return listenAt(call.address, call.port);
    case 'hold':
      return listenAt(call.address, call.port, { blocking: true });
    case 'datagrams':
      return datagramsAt(call.address, call.port);
    case 'cable':
      wayOut = await openCable({ host, inside, namespace, seed: call.seed });
      return undefined;
    case 'redirect':
      wayOut = redirectOutgoing('hyperdocker', call.port);
      claimAllAddresses(inside);
      return undefined;
    case 'is-routed':
      return readFileSync('/proc/thread-self/net/route', 'utf8').split('\n').some((line) => line.split('\t')[1] === '00000000');
    case 'close':
      return close();
  }
}

async function probe({ id, probe: question }: Extract<InsideCall, { kind: 'probe' }>): Promise<'ready' | 'aborted'> {
  const abort = new AbortController();
  probes.set(id, abort);
  try {
    return await waitUntilReady(question, abort.signal);
  } finally {
    probes.delete(id);
  }
}

function close(): void {
  for (const forward of forwards.values()) forward.close();
  for (const abort of probes.values()) abort.abort();
  wayOut?.[Symbol.dispose]();
  host[Symbol.dispose]();
  inside[Symbol.dispose]();
}

function toHdError(error: unknown): HdError {
  return error instanceof HdError ? error : new HdError('INTERNAL', describeError(error));
}
