import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import type { Server, Socket } from 'node:net';
import { createServer } from 'node:net';
import { createInterface } from 'node:readline';
import { listenPrivately } from '@hyperdocker/base';
import type { HostReply, HostRequest } from './fuse-host-main.ts';

/** What a host does when its owner is gone. */
export interface Keep {
  /** Ids of mounts that stay. None: it ends with its owner. */
  mounts: readonly string[];
  /** Where another owner can connect: a Unix socket. */
  socket: string;
  /** How long it waits for one. */
  waitMs: number;
  /** Run when nobody has come: cleans up what else was left. */
  after: readonly string[];
}

export interface OwnerEvents {
  request(request: HostRequest): void;
  /** Nobody is there: mounts that do not stay can go. */
  left(kept: readonly string[]): void;
  end(): void;
}

/**
 * Whom a FUSE host serves: the process that started it, and when that has died whichever connects to its socket next. There is one at a time, and the
 * lock that each has to hold is not the host's business.
 *
 *     owned ── gone, something to keep ──▶ waiting ── connected ──▶ owned
 *       └───── gone, nothing to keep ───▶ ended ◀── time is up ──┘
 */
export class Owner {
  readonly #events: OwnerEvents;
  #reply: ((reply: HostReply) => void) | undefined = (reply) => void process.send?.(reply);
  #keep: Keep | undefined;
  #server: Server | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(events: OwnerEvents) {
    this.#events = events;
    process.on('message', (message) => events.request(message as HostRequest));
    const parent = this.#reply;
    process.once('disconnect', () => {
      if (this.#reply === parent) this.#gone();
    });
  }

  reply(message: HostReply): void {
    this.#reply?.(message);
  }

  /** Resolves when another owner could connect. */
  async keep(keep: Keep): Promise<void> {
    this.#keep = keep.mounts.length === 0 ? undefined : keep;
    // Who is connected stays so.
    this.#server?.close();
    this.#server = undefined;
    if (this.#keep === undefined) return;
    this.#server = createServer((socket) => this.#connected(socket));
    await listenPrivately(this.#server, keep.socket);
  }

  #connected(socket: Socket): void {
    clearTimeout(this.#timer);
    // The end of the owner before may be heard of later than this one's beginning.
    if (this.#reply !== undefined) this.#events.left(this.#keep?.mounts ?? []);
    const reply = (message: HostReply): void => void socket.write(`${JSON.stringify(message)}\n`);
    this.#reply = reply;
    createInterface({ input: socket }).on('line', (line) => this.#events.request(JSON.parse(line) as HostRequest));
    socket.on('error', () => {}).once('close', () => {
      if (this.#reply === reply) this.#gone();
    });
  }

  #gone(): void {
    this.#reply = undefined;
    const keep = this.#keep;
    if (keep === undefined) return this.#events.end();
    this.#events.left(keep.mounts);
    this.#timer = setTimeout(() => {
      rmSync(keep.socket, { force: true });
      const [command, ...args] = keep.after;
      if (command !== undefined) spawn(command, args, { detached: true, stdio: 'ignore', cwd: '/' }).unref();
      this.#events.end();
    }, keep.waitMs);
  }
}
