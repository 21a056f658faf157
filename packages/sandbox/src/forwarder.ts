import { connect, createServer, type Server, type Socket } from 'node:net';

/** Where a connection goes on to; asked anew for each. */
export type Dial = (accepted: Socket) => Promise<Socket>;

/**
 * Hands each connection to listening sockets on, and its bytes both ways: a side that has said its last word can still be answered, a side that reads slowly slows the other down, and a
 * connection that breaks on one side breaks on the other. Knows nothing of what goes through.
 */
export class Forwarder {
  readonly #servers: Server[];
  readonly #open = new Set<Socket>();

  /** @param fds sockets that listen; they are closed with this */
  constructor(fds: readonly number[], dial: Dial) {
    this.#servers = fds.map((fd) => {
      const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true }, (accepted) => void this.#forward(accepted, dial));
      // Without descriptors left, a connection waits until one is free.
      server.on('error', () => {});
      return server.listen({ fd });
    });
  }

  /** Also ends the connections that are open. */
  close(): void {
    for (const server of this.#servers) server.close();
    for (const socket of this.#open) socket.destroy();
  }

  async #forward(accepted: Socket, dial: Dial): Promise<void> {
    this.#track(accepted);
    let onward: Socket;
    try {
      onward = await dial(accepted);
    } catch {
      // As if nobody listened here: which is the truth of the other side.
      accepted.resetAndDestroy();
      return;
    }
    this.#track(onward);
    join(accepted, onward);
    join(onward, accepted);
  }

  #track(socket: Socket): void {
    this.#open.add(socket);
    socket.once('close', () => this.#open.delete(socket));
    // What follows from it is done on 'close'.
    socket.on('error', () => {});
  }
}

function join(from: Socket, to: Socket): void {
  if (from.destroyed) {
    to.resetAndDestroy();
    return;
  }
  from.pipe(to);
  from.once('close', (hadError) => {
    if (hadError) to.resetAndDestroy();
    else if (!from.readableEnded) to.destroy();
  });
}

/** A connection that nothing is read from yet. */
export function dial(host: string, port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, allowHalfOpen: true, noDelay: true });
    socket.once('error', reject);
    socket.once('connect', () => {
      socket.off('error', reject);
      socket.pause();
      resolve(socket);
    });
  });
}
