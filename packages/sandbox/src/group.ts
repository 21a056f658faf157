import { assert, HdError } from '@hyperdocker/base';
import type { Service } from './service.ts';
import type { ServiceFailure, ServiceState } from './service-state.ts';

export interface GroupMember {
  readonly service: Service;
  readonly dependsOn: readonly Dependency[];
}

export interface Dependency {
  readonly name: string;
  /** `started`: launched. `ready`: ready, or done with exit code 0. `completed`: done with exit code 0. */
  readonly condition: 'started' | 'ready' | 'completed';
}

/** What came of the start of a service. */
export type StartOutcome =
  | { readonly kind: 'ready' }
  | { readonly kind: 'completed' }
  | { readonly kind: 'failed'; readonly failure: ServiceFailure }
  /** Somebody stopped it meanwhile. */
  | { readonly kind: 'stopped' }
  /** Not started: its dependency will not be what it has to be. */
  | { readonly kind: 'blocked'; readonly by: string }
  | { readonly kind: 'aborted' };

/** Services that start in the order of their dependencies, as many at once as that allows, and stop in the reverse order. */
export class ServiceGroup {
  readonly #members = new Map<string, GroupMember>();

  /** Throws `SERVICE_UNKNOWN` and `SERVICE_CYCLE`. */
  constructor(members: readonly GroupMember[]) {
    for (const member of members) this.#members.set(member.service.name, member);
    for (const member of members) {
      const missing = member.dependsOn.find(({ name }) => !this.#members.has(name));
      if (missing !== undefined) throw new HdError('SERVICE_UNKNOWN', `The service ${member.service.name} depends on ${missing.name}, which is not there.`);
    }
    for (const name of this.#members.keys()) this.#checkCycle(name, []);
  }

  /** Starts the named services (all where it is left out) with all they depend on. Resolves when each has an outcome; a service that keeps crashing has none before `signal`. */
  async start(options: { names?: readonly string[]; signal?: AbortSignal } = {}): Promise<Map<string, StartOutcome>> {
    const outcomes = new Map<string, Promise<StartOutcome>>();
    const startOnce = (name: string): Promise<StartOutcome> => {
      const known = outcomes.get(name);
      if (known !== undefined) return known;
      const outcome = this.#startOne(this.#member(name), startOnce, options.signal);
      outcomes.set(name, outcome);
      return outcome;
    };
    for (const name of options.names ?? this.#members.keys()) startOnce(name);
    await Promise.all(outcomes.values());
    return new Map(await Promise.all([...outcomes].map(async ([name, outcome]) => [name, await outcome] as const)));
  }

  /** Stops the named services (all where it is left out) after all that depend on them. Resolves when nothing of them runs. */
  async stop(options: { names?: readonly string[] } = {}): Promise<void> {
    const stopped = new Map<string, Promise<void>>();
    const stopOnce = (name: string): Promise<void> => {
      const known = stopped.get(name);
      if (known !== undefined) return known;
      const done = this.#stopOne(this.#member(name).service, stopOnce);
      stopped.set(name, done);
      return done;
    };
    await Promise.all([...(options.names ?? this.#members.keys())].map(stopOnce));
  }

  async #startOne(member: GroupMember, startOnce: (name: string) => Promise<StartOutcome>, signal: AbortSignal | undefined): Promise<StartOutcome> {
    const { service, dependsOn } = member;
    const met = await Promise.all(dependsOn.map((dependency) => this.#isMet(dependency, startOnce(dependency.name), signal)));
    if (signal?.aborted === true) return { kind: 'aborted' };
    const unmet = dependsOn[met.indexOf(false)];
    if (unmet !== undefined) return { kind: 'blocked', by: unmet.name };
    service.start();
    const state = await service.until((now) => outcomeOf(now) !== undefined, signal);
    return (state && outcomeOf(state)) ?? { kind: 'aborted' };
  }

  async #isMet(dependency: Dependency, outcome: Promise<StartOutcome>, signal: AbortSignal | undefined): Promise<boolean> {
    const { service } = this.#member(dependency.name);
    if (dependency.condition === 'started') {
      const launched = service.until(isUp, signal).then((state) => state !== undefined);
      return Promise.race([launched, outcome.then((end) => end.kind === 'ready' || end.kind === 'completed')]);
    }
    const end = await outcome;
    if (dependency.condition === 'ready' || end.kind !== 'ready') return end.kind === 'ready' || end.kind === 'completed';
    const state = await service.until((now) => now.kind === 'stopped' || now.kind === 'failed', signal);
    return state?.kind === 'stopped' && state.reason === 'completed';
  }

  async #stopOne(service: Service, stopOnce: (name: string) => Promise<void>): Promise<void> {
    const dependents = [...this.#members.values()].filter((member) => member.dependsOn.some(({ name }) => name === service.name));
    await Promise.all(dependents.map((member) => stopOnce(member.service.name)));
    service.stop();
    await service.until((state) => state.kind === 'stopped' || state.kind === 'failed');
  }

  #checkCycle(name: string, path: readonly string[]): void {
    if (path.includes(name)) {
      throw new HdError('SERVICE_CYCLE', `Services depend on each other in a circle: ${[...path.slice(path.indexOf(name)), name].join(' → ')}.`, { hint: 'Remove one of these dependencies.' });
    }
    for (const dependency of this.#members.get(name)?.dependsOn ?? []) this.#checkCycle(dependency.name, [...path, name]);
  }

  #member(name: string): GroupMember {
    const member = this.#members.get(name);
    assert(member !== undefined, `service ${name} belongs to the group`);
    return member;
  }
}

function isUp(state: ServiceState): boolean {
  return state.kind === 'starting' || state.kind === 'ready' || state.kind === 'restarting' || state.kind === 'backing-off';
}

function outcomeOf(state: ServiceState): StartOutcome | undefined {
  if (state.kind === 'ready') return { kind: 'ready' };
  if (state.kind === 'failed') return { kind: 'failed', failure: state.failure };
  if (state.kind === 'stopped') return state.reason === 'completed' ? { kind: 'completed' } : { kind: 'stopped' };
  return undefined;
}
