import type { ChildProcess } from 'node:child_process';
import { createConnection } from 'node:net';
import type { Socket } from 'node:net';
import { createInterface } from 'node:readline';
import { HdError } from '@hyperdocker/base';
import type { HostReply, HostRequest } from './fuse-host-main.ts';

/** How requests get to a FUSE host and answers back: over the pipe to a child, or over the socket of a host whose parent has died. */
export interface HostLink {
  readonly pid: number;
  readonly isOpen: boolean;
  send(request: HostRequest): void;
  onReply(listener: (reply: HostReply) => void): void;
  /** At once where it is gone already. */
  onGone(listener: () => void): void;
  /** Whether this process stays for the sake of the answers. */
  ref(wanted: boolean): void;
  /** Lets go of the host, which then decides by itself whether to stay. */
  close(): void;
}

export function childLink(child: ChildProcess): HostLink {
  child.unref();
  child.channel?.unref();
  return {
    pid: child.pid ?? -1,
    get isOpen() {
      return child.connected;
    },
    send: (request) => void child.send(request),
    onReply: (listener) => void child.on('message', (message) => listener(message as HostReply)),
    onGone: (listener) => void (child.exitCode === null && child.signalCode === null ? child.once('exit', listener) : listener()),
    ref(wanted) {
      if (wanted) child.channel?.ref();
      else child.channel?.unref();
      if (wanted) child.ref();
      else child.unref();
    },
    close: () => child.disconnect(),
  };
}

/** @throws HdError FUSE_HOST_DIED when nobody listens there */
export async function socketLink(path: string, pid: number): Promise<HostLink> {
  const socket = await connected(path);
  let gone = false;
  const reading = createInterface({ input: socket });
  // What goes wrong with it closes it, and that is heard.
  socket.on('error', () => {}).once('close', () => (gone = true)).unref();
  return {
    pid,
    get isOpen() {
      return !gone;
    },
    send: (request) => void socket.write(`${JSON.stringify(request)}\n`),
    onReply: (listener) => void reading.on('line', (line) => listener(JSON.parse(line) as HostReply)),
    onGone: (listener) => void (gone ? listener() : socket.once('close', listener)),
    ref: (wanted) => void (wanted ? socket.ref() : socket.unref()),
    close: () => socket.end(),
  };
}

function connected(path: string): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(path);
    socket.once('connect', () => resolve(socket));
    socket.once('error', (cause) => reject(new HdError('FUSE_HOST_DIED', 'the process that serves the files cannot be reached', { cause, hint: 'start the environment again' })));
  });
}
