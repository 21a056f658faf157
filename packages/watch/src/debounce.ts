/**
 * Many events to few batches: a batch goes out once it has been quiet for `debounceMs`, and at the latest `maxWaitMs` after its first event.
 *
 *              event                    timer before it is due
 *            ┌────────┐               ┌────────┐
 *     ┌──────┴─┐    ┌─▼───────────────▼─┐      │
 *     │  idle  │    │    collecting     ├──────┘
 *     └──────▲─┘    └─┬───────────────┬─┘
 *            └────────┘               └──▶ event: joins the batch, moves the quiet end
 *        timer when due: batch out
 */
export type DebounceState =
  | { readonly kind: 'idle' }
  | {
      readonly kind: 'collecting';
      readonly firstMs: number;
      readonly lastMs: number;
      /** Belongs to this state machine alone and grows in place: a batch may hold a thousand paths. */
      readonly paths: Set<string>;
      readonly events: number;
      readonly lastPath: string | undefined;
      readonly rescan: boolean;
    };

export type DebounceEvent =
  | { readonly kind: 'path'; readonly path: string; readonly nowMs: number }
  /** Something that no list of paths can tell. */
  | { readonly kind: 'rescan'; readonly nowMs: number }
  | { readonly kind: 'timer'; readonly nowMs: number };

export interface DebounceOptions {
  readonly debounceMs: number;
  readonly maxWaitMs: number;
  /** More events than that in one batch, and some may be lost: it becomes a rescan. Repeated events of one path count once. */
  readonly maxEvents: number;
}

/** Paths that changed, or everything may have. */
export type Batch = ReadonlySet<string> | 'rescan';

export interface DebounceStep {
  readonly state: DebounceState;
  readonly batch?: Batch;
  /** When to send the next `timer`; none while idle. */
  readonly wakeAtMs?: number;
}

export const IDLE: DebounceState = { kind: 'idle' };

/** Pure but for the growing set. */
export function debounce(state: DebounceState, event: DebounceEvent, options: DebounceOptions): DebounceStep {
  if (event.kind !== 'timer') return wait(collect(state, event, options), options);
  if (state.kind === 'idle') return { state };
  if (event.nowMs < dueMs(state, options)) return wait(state, options);
  return { state: IDLE, batch: state.rescan ? 'rescan' : state.paths };
}

type Collecting = Extract<DebounceState, { kind: 'collecting' }>;

function collect(state: DebounceState, event: Exclude<DebounceEvent, { kind: 'timer' }>, options: DebounceOptions): Collecting {
  const before: Collecting =
    state.kind === 'collecting'
      ? state
      : { kind: 'collecting', firstMs: event.nowMs, lastMs: event.nowMs, paths: new Set(), events: 0, lastPath: undefined, rescan: false };
  const lastMs = event.nowMs;
  if (event.kind === 'rescan') return { ...before, lastMs, rescan: true };
  before.paths.add(event.path);
  const events = before.events + (event.path === before.lastPath ? 0 : 1);
  return { ...before, lastMs, events, lastPath: event.path, rescan: before.rescan || events > options.maxEvents };
}

function wait(state: Collecting, options: DebounceOptions): DebounceStep {
  return { state, wakeAtMs: dueMs(state, options) };
}

function dueMs(state: Collecting, options: DebounceOptions): number {
  return Math.min(state.lastMs + options.debounceMs, state.firstMs + options.maxWaitMs);
}
