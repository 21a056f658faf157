import { unreachable, type HdError } from '@hyperdocker/base';
import type { ContainerExit } from './contract.ts';

/**
 * The life of a service. Each launch is a generation with a number of its own, and a launch happens only from states in which no generation lives: there are never two.
 *
 *                  start, restart
 *      ┌─────────┐ ─────────────────────────────▶ ┌────────────────────────────┐
 *      │ stopped │                                │ starting ── ready ─▶ ready │
 *      └─▲──▲──▲─┘ ◀──────── exited, done ─────── └─┬────┬────┬────┬─────▲─────┘
 *        │  │  │                 exited, to retry   │    │    │    │     │
 *        │  │  │  stop  ┌─────────────┐ ◀───────────┘    │    │    │     │
 *        │  │  └─────── │ backing-off │ ── timer, start, restart ─────────┤
 *        │  │           └─────────────┘                  │    │    │     │
 *        │  │     stop  ┌─────────────┐ ◀────────────────┘    │    │     │
 *        │  └────────── │   failed    │ ── start, restart ────────────────┤
 *        │              └─────────────┘   exited, no retry;   │    │     │
 *        │                                not launched        │    │     │
 *        │      exited  ┌─────────────┐ ◀─────────────────────┘    │     │
 *        └───────────── │  stopping   │   stop, not ready in time  │     │
 *                       └─▲─────────┬─┘                            │     │
 *                    stop │         │ start, restart               │     │
 *                       ┌─┴─────────▼─┐ ◀──────── restart ─────────┘     │
 *                       │ restarting  │ ── exited ───────────────────────┘
 *                       └─────────────┘
 *
 * `backing-off` leaves by its timer, `failed` by nothing but a start or a restart: it waits for a change. A restart takes either to `starting` at once, with the
 * count of failures at nought. A restart while `restarting` changes nothing: exactly one follows. While stopping because somebody asked for it, a changed file does not
 * bring the service back, a request does; while stopping because it did not become ready, both do, and without either its exit counts as a failure like others.
 */
export type ServiceState =
  | { readonly kind: 'stopped'; readonly generation: number; readonly reason: 'never-started' | 'requested' }
  /** It has done what it was for. */
  | { readonly kind: 'stopped'; readonly generation: number; readonly reason: 'completed'; readonly exit: ContainerExit }
  | { readonly kind: 'starting'; readonly generation: number; readonly failures: number }
  | { readonly kind: 'ready'; readonly generation: number; readonly failures: number }
  /** `generation` is on its way out, the next one follows. */
  | { readonly kind: 'restarting'; readonly generation: number; readonly cause: RestartCause }
  | { readonly kind: 'backing-off'; readonly generation: number; readonly failures: number; readonly delayMs: number; readonly failure: ServiceFailure }
  | { readonly kind: 'failed'; readonly generation: number; readonly failure: ServiceFailure }
  /** `failure`: why it is being stopped, if nobody asked for it. */
  | { readonly kind: 'stopping'; readonly generation: number; readonly failures: number; readonly failure?: ServiceFailure };

export type RestartCause =
  | { readonly kind: 'change'; readonly paths: readonly string[] }
  | { readonly kind: 'request' };

export type ServiceFailure =
  | { readonly kind: 'exited'; readonly exit: ContainerExit }
  | { readonly kind: 'not-launched'; readonly error: HdError }
  | { readonly kind: 'not-ready'; readonly afterMs: number };

export type ServiceEvent =
  | { readonly kind: 'start' }
  | { readonly kind: 'stop' }
  | { readonly kind: 'restart'; readonly cause: RestartCause }
  | { readonly kind: 'ready'; readonly generation: number }
  | { readonly kind: 'exited'; readonly generation: number; readonly exit: ContainerExit }
  | { readonly kind: 'not-launched'; readonly generation: number; readonly error: HdError }
  /** The timer of the state has run out. */
  | { readonly kind: 'timeout' };

export type ServiceEffect =
  /** Launch, and look whether it is ready. */
  | { readonly kind: 'launch'; readonly generation: number }
  | { readonly kind: 'terminate'; readonly generation: number }
  /** The timer of the new state. A state has one at most, and leaving the state cancels it. */
  | { readonly kind: 'timer'; readonly delayMs: number };

export interface ServicePolicy {
  readonly restart: 'always' | 'on_failure' | 'never';
  /** How long `starting` may take; no limit where it is left out. */
  readonly readyTimeoutMs?: number;
}

export interface ServiceStep {
  readonly state: ServiceState;
  readonly effects: readonly ServiceEffect[];
}

export const NEVER_STARTED: ServiceState = { kind: 'stopped', generation: 0, reason: 'never-started' };

export const FIRST_BACK_OFF_MS = 100;
export const LAST_BACK_OFF_MS = 10_000;
/** Ready for so long, and earlier failures count no more. */
export const HEALTHY_AFTER_MS = 10_000;

/** Pure. The same state object comes back where the event means nothing in it. */
export function transition(state: ServiceState, event: ServiceEvent, policy: ServicePolicy): ServiceStep {
  switch (state.kind) {
    case 'stopped':
      return whileStopped(state, event, policy);
    case 'starting':
    case 'ready':
      return whileRunning(state, event, policy);
    case 'restarting':
      if (event.kind === 'stop') return { state: { kind: 'stopping', generation: state.generation, failures: 0 }, effects: [] };
      return endsGeneration(event, state) ? launch(state.generation, 0, policy) : unchanged(state);
    case 'stopping':
      return whileStopping(state, event, policy);
    case 'backing-off':
      return event.kind === 'timeout' ? launch(state.generation, state.failures, policy) : whileWaiting(state, event, policy);
    case 'failed':
      return whileWaiting(state, event, policy);
    default:
      return unreachable(state);
  }
}

type StateOf<Kind extends ServiceState['kind']> = Extract<ServiceState, { kind: Kind }>;

function whileStopped(state: StateOf<'stopped'>, event: ServiceEvent, policy: ServicePolicy): ServiceStep {
  if (event.kind === 'start') return launch(state.generation, 0, policy);
  // What has done its work does it again when its files change; what was stopped or never started stays so.
  const wanted = event.kind === 'restart' && (event.cause.kind === 'request' || state.reason === 'completed');
  return wanted ? launch(state.generation, 0, policy) : unchanged(state);
}

function whileRunning(state: StateOf<'starting' | 'ready'>, event: ServiceEvent, policy: ServicePolicy): ServiceStep {
  const { generation, failures } = state;
  switch (event.kind) {
    case 'start':
      return unchanged(state);
    case 'stop':
      return { state: { kind: 'stopping', generation, failures }, effects: [{ kind: 'terminate', generation }] };
    case 'restart':
      return { state: { kind: 'restarting', generation, cause: event.cause }, effects: [{ kind: 'terminate', generation }] };
    case 'ready':
      if (event.generation !== generation || state.kind === 'ready') return unchanged(state);
      return { state: { kind: 'ready', generation, failures }, effects: failures === 0 ? [] : [{ kind: 'timer', delayMs: HEALTHY_AFTER_MS }] };
    case 'exited':
      return event.generation === generation ? afterExit(generation, failures, event.exit, policy) : unchanged(state);
    case 'not-launched':
      // What could not even be tried will not succeed for being tried again.
      return event.generation === generation ? { state: { kind: 'failed', generation, failure: event }, effects: [] } : unchanged(state);
    case 'timeout':
      if (state.kind === 'ready') return { state: { kind: 'ready', generation, failures: 0 }, effects: [] };
      return {
        state: { kind: 'stopping', generation, failures, failure: { kind: 'not-ready', afterMs: policy.readyTimeoutMs ?? 0 } },
        effects: [{ kind: 'terminate', generation }],
      };
    default:
      return unreachable(event);
  }
}

function whileStopping(state: StateOf<'stopping'>, event: ServiceEvent, policy: ServicePolicy): ServiceStep {
  const { generation, failures, failure } = state;
  if (event.kind === 'stop') return failure === undefined ? unchanged(state) : { state: { kind: 'stopping', generation, failures: 0 }, effects: [] };
  if (event.kind === 'start') return { state: { kind: 'restarting', generation, cause: { kind: 'request' } }, effects: [] };
  if (event.kind === 'restart' && (event.cause.kind === 'request' || failure !== undefined)) {
    return { state: { kind: 'restarting', generation, cause: event.cause }, effects: [] };
  }
  if (!endsGeneration(event, state)) return unchanged(state);
  return failure === undefined ? { state: { kind: 'stopped', generation, reason: 'requested' }, effects: [] } : afterFailure(generation, failures, failure, policy);
}

function whileWaiting(state: StateOf<'backing-off' | 'failed'>, event: ServiceEvent, policy: ServicePolicy): ServiceStep {
  if (event.kind === 'start' || event.kind === 'restart') return launch(state.generation, 0, policy);
  if (event.kind === 'stop') return { state: { kind: 'stopped', generation: state.generation, reason: 'requested' }, effects: [] };
  return unchanged(state);
}

function afterExit(generation: number, failures: number, exit: ContainerExit, policy: ServicePolicy): ServiceStep {
  if (exit.problem !== undefined) return { state: { kind: 'failed', generation, failure: { kind: 'exited', exit } }, effects: [] };
  if (exit.code === 0 && policy.restart !== 'always') return { state: { kind: 'stopped', generation, reason: 'completed', exit }, effects: [] };
  return afterFailure(generation, failures, { kind: 'exited', exit }, policy);
}

function afterFailure(generation: number, earlier: number, failure: ServiceFailure, policy: ServicePolicy): ServiceStep {
  if (policy.restart === 'never') return { state: { kind: 'failed', generation, failure }, effects: [] };
  const failures = earlier + 1;
  const delayMs = Math.min(LAST_BACK_OFF_MS, FIRST_BACK_OFF_MS * 2 ** (failures - 1));
  return { state: { kind: 'backing-off', generation, failures, delayMs, failure }, effects: [{ kind: 'timer', delayMs }] };
}

function launch(last: number, failures: number, policy: ServicePolicy): ServiceStep {
  const generation = last + 1;
  const timer: ServiceEffect[] = policy.readyTimeoutMs === undefined ? [] : [{ kind: 'timer', delayMs: policy.readyTimeoutMs }];
  return { state: { kind: 'starting', generation, failures }, effects: [{ kind: 'launch', generation }, ...timer] };
}

function endsGeneration(event: ServiceEvent, state: ServiceState): boolean {
  return (event.kind === 'exited' || event.kind === 'not-launched') && event.generation === state.generation;
}

function unchanged(state: ServiceState): ServiceStep {
  return { state, effects: [] };
}
