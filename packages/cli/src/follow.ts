import { readlinkSync } from 'node:fs';
import { isAbsolute, relative } from 'node:path';
import { HdError, describeError } from '@hyperdocker/base';
import type { BootingSupervisor, Emitted, SupervisorClient } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { EventDisplay } from './event-display.ts';
import { EXIT } from './exit-code.ts';
import { Interrupts } from './interrupts.ts';
import { LogPrefix } from './log-prefix.ts';
import { loadSpec } from './load-spec.ts';
import type { ProjectPlace } from './project.ts';
import type { Session } from './running.ts';
import { isDone, sayAttached } from './running.ts';
import type { StartOptions } from './session.ts';
import { attachOrLaunch } from './session.ts';

export interface FollowOptions extends StartOptions {
  /** After which event this command is done. */
  until: 'up' | 'stopped';
  timeoutSeconds?: number;
}

/** Attaches to the supervisor that runs, or tells the one that is booting what to do, and follows the events to the end. */
export async function follow(invocation: Invocation, place: ProjectPlace, options: FollowOptions, found: { running: Session | undefined; booting: BootingSupervisor | undefined }): Promise<number> {
  const { terminal } = invocation;
  const { text, spec } = loadSpec(place.project, terminal);
  using display = new EventDisplay(invocation, { services: spec.services.map(({ name }) => name), specText: text, ownOutputs: ownOutputs(place.project.dir) });
  const follower = new Follower(invocation, options, display);
  using _interrupts = new Interrupts((count) => follower.interrupt(count));
  terminal.closed.addEventListener('abort', () => follower.interrupt(1));
  const session = found.running ?? (await attachOrLaunch(place, { text, spec }, options, invocation, found.booting));
  if (session.attached) sayAttached(invocation);
  if (isDone(options, session)) return EXIT.ok;
  // Awaited here: the signals are ours until then.
  return await follower.follow(session);
}

/** Files of the project that this process prints to. */
function ownOutputs(projectDir: string): string[] {
  return [1, 2].flatMap((fd) => {
    try {
      const path = relative(projectDir, readlinkSync(`/proc/self/fd/${fd}`));
      return path.startsWith('..') || isAbsolute(path) ? [] : [path];
    } catch {
      return [];
    }
  });
}

const FAILED_SERVICE_LINES = 20;

/** Shows the events of one supervisor and turns Ctrl-C into stopping it. */
class Follower {
  readonly #invocation: Invocation;
  readonly #options: FollowOptions;
  readonly #display: EventDisplay;
  #client: SupervisorClient | undefined;
  #interrupted = 0;
  #isUp = false;
  /** Set while the supervisor is being stopped. */
  #stopping: Promise<void> | undefined;
  #failure: HdError | undefined;
  #attached = false;
  /** The latest lines of each service, for those that fail where logs are not shown. */
  readonly #tails = new Map<string, string[]>();

  constructor(invocation: Invocation, options: FollowOptions, display: EventDisplay) {
    this.#invocation = invocation;
    this.#options = options;
    this.#display = display;
  }

  /** The first asks for a stop, any further one for an immediate one. Before there is anything to stop it is remembered. */
  interrupt(count: number): void {
    const { terminal } = this.#invocation;
    this.#interrupted = Math.max(this.#interrupted, count);
    if (this.#client === undefined) return;
    const hint = this.#attached ? ' To leave it running, use `hd up -d` and `hd logs -f`.' : '';
    this.#display.print(() => terminal.err(count === 1 ? `Stopping… (press Ctrl-C again to kill)${hint}\n` : 'Killing…\n'));
    this.#stop(count > 1);
  }

  async follow({ client, since, attached }: Session): Promise<number> {
    this.#client = client;
    this.#attached = attached;
    this.#isUp = since > 0;
    if (this.#isUp) this.#display.skipBuild();
    if (this.#interrupted > 0) this.interrupt(this.#interrupted);
    const timeout = new AbortController();
    const { timeoutSeconds, until } = this.#options;
    const timer = timeoutSeconds === undefined ? undefined : setTimeout(() => timeout.abort(), timeoutSeconds * 1000);
    let last: Emitted | undefined;
    try {
      for await (const event of client.events(since, timeout.signal)) {
        last = event;
        this.#show(event);
        if (event.type === 'up') {
          this.#isUp = true;
          if (until === 'up' && this.#interrupted === 0) return this.#detach(event.failed);
        } else if (event.type === 'failed') {
          this.#failure = HdError.fromJSON(event.error);
          this.#stop(false);
        } else if (event.type === 'stopped' && this.#failure !== undefined) {
          break;
        }
      }
    } catch (error) {
      if (!timeout.signal.aborted) throw error;
    } finally {
      clearTimeout(timer);
    }
    if (timeout.signal.aborted) throw new HdError('TIMEOUT', `it is not up after ${timeoutSeconds} s`, { hint: 'it goes on starting: see `hd status`, `hd logs`, or stop it with `hd down`' });
    await this.#stopping;
    return this.#outcome(last);
  }

  #outcome(last: Emitted | undefined): number {
    if (this.#interrupted > 0) return this.#isUp ? EXIT.ok : EXIT.interrupted;
    if (this.#failure !== undefined) throw this.#failure;
    if (last?.type !== 'stopped') throw new HdError('SUPERVISOR_GONE', 'the supervisor of the environment ended unexpectedly', { hint: '`hd up` goes on with its files, for some minutes from now' });
    return EXIT.ok;
  }

  #detach(failed: readonly string[]): number {
    const { terminal, json, quiet } = this.#invocation;
    if (failed.length > 0) {
      this.#showTails(failed);
      throw new HdError('SERVICE_FAILED', `not running: ${failed.join(', ')}`, { hint: 'the environment goes on, and an edit may mend it; see `hd logs`, or stop it with `hd down`' });
    }
    if (!json && !quiet) terminal.out('Running in the background: `hd logs -f` follows it, `hd down` stops it.\n');
    return EXIT.ok;
  }

  #show(event: Emitted): void {
    if (!this.#invocation.json && this.#options.until === 'up' && event.type === 'log') return this.#remember(event.service, event.text);
    this.#display.show(event);
  }

  #remember(service: string, text: string): void {
    const tail = this.#tails.get(service) ?? [];
    tail.push(text);
    if (tail.length > FAILED_SERVICE_LINES) tail.shift();
    this.#tails.set(service, tail);
  }

  #showTails(services: readonly string[]): void {
    const { terminal } = this.#invocation;
    const prefix = new LogPrefix(services);
    for (const service of services) {
      for (const text of this.#tails.get(service) ?? []) {
        for (const line of prefix.lines(service, text, terminal.errPaint)) terminal.err(`${line}\n`);
      }
    }
  }

  #stop(kill: boolean): void {
    this.#stopping = this.#client?.down({ kill }).catch((error: unknown) => {
      // That it is gone already is what was asked for.
      if (!(error instanceof HdError && error.code === 'NOT_RUNNING')) this.#invocation.terminal.err(`hd: stopping failed: ${describeError(error)}\n`);
    });
  }
}
