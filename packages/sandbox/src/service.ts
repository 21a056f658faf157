import { HdError } from '@hyperdocker/base';
import type { ContainerExit } from './contract.ts';
import { NEVER_STARTED, transition, type RestartCause, type ServiceEffect, type ServiceEvent, type ServicePolicy, type ServiceState } from './service-state.ts';

/** Starts a generation of a service. The only way from a service to processes. */
export interface Launcher {
  /** An `HdError` thrown here is the failure of this generation. */
  launch(generation: number): Launched;
}

export interface Launched {
  /** Never rejects, and resolves only when nothing of the generation runs any more. */
  readonly exit: Promise<ContainerExit>;
  /** SIGTERM, grace, SIGKILL: `exit` resolves in bounded time. */
  stop(): void;
  /** Resolves when it is ready, or when `signal` aborts; which of the two is the caller's to know. At once where it is left out. */
  ready?(signal: AbortSignal): Promise<unknown>;
}

/** The clock, so that tests need no time. */
export interface Timers {
  /** Returns what cancels it. */
  after(delayMs: number, callback: () => void): () => void;
}

export interface ServiceOptions {
  readonly name: string;
  readonly launcher: Launcher;
  readonly policy: ServicePolicy;
  readonly timers?: Timers;
}

export type ServiceListener = (state: ServiceState, before: ServiceState) => void;

export const REAL_TIMERS: Timers = {
  after(delayMs, callback) {
    const timer = setTimeout(callback, delayMs);
    return () => clearTimeout(timer);
  },
};

/** Carries out what the state machine of a service says. Methods return at once; `until` and `subscribe` tell what came of it. */
export class Service {
  readonly name: string;
  readonly #options: ServiceOptions;
  readonly #listeners = new Set<ServiceListener>();
  readonly #queue: ServiceEvent[] = [];
  #state: ServiceState = NEVER_STARTED;
  #running: Launched | undefined;
  #stopProbe = (): void => {};
  #cancelTimer = (): void => {};
  #busy = false;

  constructor(options: ServiceOptions) {
    this.name = options.name;
    this.#options = options;
  }

  get state(): ServiceState {
    return this.#state;
  }

  start(): void {
    this.#dispatch({ kind: 'start' });
  }

  stop(): void {
    this.#dispatch({ kind: 'stop' });
  }

  restart(cause: RestartCause): void {
    this.#dispatch({ kind: 'restart', cause });
  }

  /** Calls back after each change of state; returns what ends it. */
  subscribe(listener: ServiceListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** The first state, from now on, for which `wanted` holds; `undefined` once `signal` aborts. */
  until(wanted: (state: ServiceState) => boolean, signal?: AbortSignal): Promise<ServiceState | undefined> {
    return new Promise((resolve) => {
      const finish = (state: ServiceState | undefined): void => {
        unsubscribe();
        signal?.removeEventListener('abort', abort);
        resolve(state);
      };
      const abort = (): void => finish(undefined);
      const unsubscribe = this.subscribe((state) => {
        if (wanted(state)) finish(state);
      });
      signal?.addEventListener('abort', abort);
      if (wanted(this.#state)) finish(this.#state);
      else if (signal?.aborted === true) finish(undefined);
    });
  }

  /** One event after the other: an event that comes out of an effect waits until the effects before it are carried out. */
  #dispatch(event: ServiceEvent): void {
    this.#queue.push(event);
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) this.#step(next);
    } finally {
      this.#busy = false;
    }
  }

  #step(event: ServiceEvent): void {
    const before = this.#state;
    const { state, effects } = transition(before, event, this.#options.policy);
    if (state === before) return;
    this.#state = state;
    this.#cancelTimer();
    this.#cancelTimer = () => {};
    if (state.kind !== 'starting' || state.generation !== before.generation) this.#stopProbe();
    for (const effect of effects) this.#carryOut(effect);
    for (const listener of [...this.#listeners]) listener(state, before);
  }

  #carryOut(effect: ServiceEffect): void {
    switch (effect.kind) {
      case 'launch':
        return this.#launch(effect.generation);
      case 'terminate':
        return this.#running?.stop();
      case 'timer':
        this.#cancelTimer = (this.#options.timers ?? REAL_TIMERS).after(effect.delayMs, () => this.#dispatch({ kind: 'timeout' }));
    }
  }

  #launch(generation: number): void {
    try {
      this.#running = this.#options.launcher.launch(generation);
    } catch (error) {
      if (!(error instanceof HdError)) throw error;
      this.#dispatch({ kind: 'not-launched', generation, error });
      return;
    }
    void this.#running.exit.then((exit) => {
      this.#running = undefined;
      this.#dispatch({ kind: 'exited', generation, exit });
    });
    const probe = new AbortController();
    this.#stopProbe = () => probe.abort();
    void (this.#running.ready?.(probe.signal) ?? Promise.resolve()).then(() => {
      if (!probe.signal.aborted) this.#dispatch({ kind: 'ready', generation });
    });
  }
}
