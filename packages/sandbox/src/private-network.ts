import { closeSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describeError, HdError } from '@hyperdocker/base';
import type { Expected, InsideCall, InsideProbe, InsideReply, OutsideCall } from './network-calls.ts';
import { startPasta, startSlirp4netns, type HelpedNamespace, type Helper } from './network-helpers.ts';

/**
 * How processes inside reach what is outside.
 *
 * - `veth`: a cable to the host, which hands packets on under its own address. Everything over IPv4.
 * - `pasta`, `slirp4netns`: the program of that name. Everything.
 * - `relay`: a thread of ours connects in their stead. TCP over IPv4, and names.
 * - `none`: not at all.
 */
export type WayOut = 'veth' | 'pasta' | 'slirp4netns' | 'relay' | 'none';

export const WAYS_OUT: readonly WayOut[] = ['veth', 'pasta', 'slirp4netns', 'relay', 'none'];

export interface PrivateNetworkOptions {
  /** The first of these that works is taken: all of them, in their order, where it is left out. */
  readonly ways?: readonly WayOut[];
  /** PATH. */
  readonly searchPath?: string;
  /** Two networks with different ones have different addresses, and one with the same has the same, where that can be. */
  readonly seed?: number;
  /** A thread of it ended without having been asked to: nothing goes in or out any more. */
  readonly onDeath?: (error: Error) => void;
}

/** What did not work, before something did. */
export interface Refusal {
  readonly way: WayOut;
  readonly reason: string;
}

/**
 * A network namespace with loopback and a way out. It belongs to this process: it ends when this process has ended, however that came about, and with it everything in it.
 */
export class PrivateNetwork implements AsyncDisposable {
  readonly way: WayOut;
  readonly refused: readonly Refusal[];
  readonly #inside: InsideThread;
  #outside: OutsideThread | undefined;
  readonly #helper: Helper | undefined;

  private constructor(inside: InsideThread, found: Found, refused: readonly Refusal[]) {
    this.#inside = inside;
    this.way = found.way;
    this.#outside = found.outside;
    this.#helper = found.helper;
    this.refused = refused;
  }

  /** @throws HdError NETWORK_NAMESPACE where there can be none */
  static async open(options: PrivateNetworkOptions = {}): Promise<PrivateNetwork> {
    const ways = options.ways ?? WAYS_OUT;
    const cable = { kind: 'cable', seed: options.seed ?? 0 } as const;
    const { inside, first } = await InsideThread.start(options.onDeath ?? (() => {}), ways[0] === 'veth' ? cable : undefined);
    const refused: Refusal[] = [];
    try {
      for (const [nth, way] of ways.entries()) {
        try {
          if (way !== 'veth') return new PrivateNetwork(inside, await takeWay(way, inside, options), refused);
          await (nth === 0 ? first : inside.ask(cable));
          return new PrivateNetwork(inside, { way }, refused);
        } catch (error) {
          refused.push({ way, reason: describeError(error) });
        }
      }
      return new PrivateNetwork(inside, { way: 'none' }, refused);
    } catch (error) {
      await inside.close();
      throw error;
    }
  }

  /** A path of the namespace, for as long as this is open: for the runtime of a container, `nsenter` and the like. */
  get path(): string {
    return this.#inside.path;
  }

  /** Hands connections to these sockets, which listen in the host's network, to a port inside. They belong to this network from now on. */
  async forward(name: string, fds: readonly number[], port: number): Promise<void> {
    await this.#inside.ask({ kind: 'forward', name, fds, port });
  }

  /** What becomes of connections to a forwarded port. */
  expect(name: string, state: Expected): void {
    this.#inside.ask({ kind: 'expect', name, state }).catch(() => {});
  }

  /** A socket that listens inside, to hand to a program there. It belongs to whoever asked. @throws HdError SYSTEM_CALL */
  async hold(address: string, port: number): Promise<number> {
    return await this.#inside.listen('hold', address, port);
  }

  /** Waits until a port inside is ready, as `waitUntilReady` does for one of this process's own network. */
  async waitUntilReady(probe: InsideProbe, signal: AbortSignal): Promise<'ready' | 'aborted'> {
    const { id, answer } = this.#inside.begin({ kind: 'probe', probe });
    const abort = (): void => void this.#inside.ask({ kind: 'stop-probe', probeId: id }).catch(() => {});
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    try {
      return (await answer) as 'ready' | 'aborted';
    } finally {
      signal.removeEventListener('abort', abort);
    }
  }

  /** Lets processes inside reach a server of the host's at an address of theirs: names over UDP as well as TCP, with `names`. */
  async relay(address: string, port: number, to: { host: string; port: number; names?: boolean }): Promise<void> {
    const outside = (this.#outside ??= new OutsideThread());
    const target = { host: to.host, port: to.port };
    outside.post({ kind: 'relay-tcp', fd: await this.#inside.listen('listen', address, port), ...target });
    if (to.names === true) outside.post({ kind: 'relay-udp', fd: await this.#inside.listen('datagrams', address, port), ...target });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#helper?.end();
    await this.#outside?.close();
    await this.#inside.close();
  }
}

interface Found {
  readonly way: WayOut;
  readonly outside?: OutsideThread;
  readonly helper?: Helper;
}

const RELAY_PORT = 52_153;

async function takeWay(way: Exclude<WayOut, 'veth'>, inside: InsideThread, options: PrivateNetworkOptions): Promise<Found> {
  switch (way) {
    case 'pasta':
      return { way, helper: await startPasta(helped(inside), options.searchPath) };
    case 'slirp4netns':
      return { way, helper: await startSlirp4netns(helped(inside), options.searchPath) };
    case 'relay': {
      await inside.ask({ kind: 'redirect', port: RELAY_PORT });
      const fd = await inside.listen('listen', '127.0.0.1', RELAY_PORT);
      const outside = new OutsideThread();
      outside.post({ kind: 'relay-redirected', fd });
      return { way, outside };
    }
    case 'none':
      return { way };
  }
}

function helped(inside: InsideThread): HelpedNamespace {
  return { descriptor: inside.namespace, isRouted: async () => (await inside.ask({ kind: 'is-routed' })) as boolean };
}

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;

/** Sockets go from thread to thread by their numbers: Node shall not mind who closes what. */
const OWN_DESCRIPTORS = { trackUnmanagedFds: false };

const FIRST_CALL = 0;

/** The main thread's end of `network-worker.ts`. */
class InsideThread {
  readonly #worker: Worker;
  readonly namespace: number;
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #calls = FIRST_CALL;
  #closing = false;

  private constructor(worker: Worker, namespace: number, onDeath: (error: Error) => void) {
    this.#worker = worker;
    this.namespace = namespace;
    worker.on('message', (reply: InsideReply) => this.#settle(reply));
    const die = (cause?: unknown): void => {
      const error = new HdError('NETWORK_THREAD_DIED', `the thread of the network ended unexpectedly${cause === undefined ? '' : `: ${describeError(cause)}`}`, { cause });
      for (const { reject } of this.#waiting.values()) reject(error);
      this.#waiting.clear();
      if (!this.#closing) onDeath(error);
      this.#closing = true;
    };
    worker.on('error', die);
    worker.on('exit', () => die());
  }

  /** @param call what it is asked first: it is on its way while the thread starts, and need not wait for a main thread that is busy then */
  static start(onDeath: (error: Error) => void, call: WithoutId<InsideCall> | undefined): Promise<{ inside: InsideThread; first: Promise<unknown> | undefined }> {
    return new Promise((resolve, reject) => {
      const worker = new Worker(new URL('./network-worker.ts', import.meta.url), OWN_DESCRIPTORS);
      if (call !== undefined) worker.postMessage({ ...call, id: FIRST_CALL });
      // What it has to do, it does while somebody else keeps the process.
      worker.unref();
      const fail = (cause: unknown): void => reject(new HdError('NETWORK_NAMESPACE', `no network namespace can be made: ${describeError(cause)}`, { cause, hint: 'set `network = "host"` in [environment]; see `hd doctor`' }));
      worker.once('error', fail);
      worker.once('message', (reply: InsideReply) => {
        worker.off('error', fail);
        if (reply.kind === 'inside') {
          const inside = new InsideThread(worker, reply.namespace, onDeath);
          resolve({ inside, first: call === undefined ? undefined : inside.#answerTo(FIRST_CALL) });
        } else fail(new Error(`it said ${reply.kind} first`));
      });
    });
  }

  get path(): string {
    return `/proc/${process.pid}/fd/${this.namespace}`;
  }

  begin(call: WithoutId<InsideCall>): { id: number; answer: Promise<unknown> } {
    const id = ++this.#calls;
    const answer = this.#answerTo(id);
    this.#worker.postMessage({ ...call, id });
    return { id, answer };
  }

  #answerTo(id: number): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#waiting.set(id, { resolve, reject });
    this.#worker.ref();
    return promise;
  }

  ask(call: WithoutId<InsideCall>): Promise<unknown> {
    return this.begin(call).answer;
  }

  async listen(kind: 'listen' | 'datagrams' | 'hold', address: string, port: number): Promise<number> {
    return (await this.ask({ kind, address, port })) as number;
  }

  async close(): Promise<void> {
    if (!this.#closing) {
      this.#closing = true;
      await this.ask({ kind: 'close' }).catch(() => {});
      await this.#worker.terminate();
    }
    closeSync(this.namespace);
  }

  #settle(reply: InsideReply): void {
    if (reply.kind === 'inside') return;
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (this.#waiting.size === 0) this.#worker.unref();
    if (reply.kind === 'done') waiting?.resolve(reply.value);
    else waiting?.reject(HdError.fromJSON(reply.error));
  }
}

/** The main thread's end of `network-relay-worker.ts`. */
class OutsideThread {
  readonly #worker = new Worker(new URL('./network-relay-worker.ts', import.meta.url), OWN_DESCRIPTORS);

  constructor() {
    this.#worker.unref();
  }

  post(call: OutsideCall): void {
    this.#worker.postMessage(call);
  }

  async close(): Promise<void> {
    await this.#worker.terminate();
  }
}
