import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { isErrno } from '@hyperdocker/base';
import { dial, Forwarder } from './forwarder.ts';
import type { Expected } from './network-calls.ts';

const LOOPBACK = ['127.0.0.1', '::1'];
const POLL_MS = 20;
/** A browser would not wait for much longer either. */
const PATIENCE_MS = 30_000;

/** A port of the host whose connections go on to a service, in the network namespace of the calling thread. */
export class PublishedPort {
  readonly #port: number;
  readonly #forwarder: Forwarder;
  /** Services bind to either loopback address: the one that answered last is asked first. */
  #hosts: readonly string[] = LOOPBACK;
  #state: Expected = 'up';

  constructor(fds: readonly number[], port: number) {
    this.#port = port;
    this.#forwarder = new Forwarder(fds, (accepted) => this.#dial(accepted));
  }

  expect(state: Expected): void {
    this.#state = state;
  }

  close(): void {
    this.#forwarder.close();
  }

  async #dial(accepted: Socket): Promise<Socket> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      // Its socket may be there without it.
      if (this.#state === 'down') throw new Error('it does not run');
      try {
        return await this.#dialEither();
      } catch (error) {
        if (this.#state !== 'starting' || accepted.destroyed || performance.now() > deadline || !isErrno(error, 'ECONNREFUSED')) throw error;
      }
      await delay(POLL_MS);
    }
  }

  async #dialEither(): Promise<Socket> {
    const [first = '', second = ''] = this.#hosts;
    try {
      return await dial(first, this.#port);
    } catch {
      const socket = await dial(second, this.#port);
      this.#hosts = [second, first];
      return socket;
    }
  }
}
