import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { applyDelta } from '@hyperdocker/cas';
import type { ActionCache, ActionResult, PathSet, RecordedRun } from '@hyperdocker/engine';
import { differences, sameFacts } from '@hyperdocker/engine';
import type { BuildRecord, RunReason } from './build-record.ts';
import { counterpart, refineReason } from './build-record.ts';
import { layProject } from './build.ts';
import type { StepId } from './events.ts';
import type { LookedUpStep, Preparation } from './prepared-step.ts';
import { lookedUp, prepareStep } from './prepared-step.ts';

/** What the next build is going to do with one step. */
export type Prediction =
  | { step: StepId; outcome: 'cached'; facts: number; savedMs: number }
  /** Whatever the steps before it write. */
  | { step: StepId; outcome: 'run'; reason: RunReason }
  /** It looks at what the steps `after` wrote, which are going to run, or may. If they write the same again, it need not run. None: it looks at what has to be fetched first. */
  | { step: StepId; outcome: 'may run'; after: number[] };

/** What predictions are made from. */
export interface Foresight {
  store: Store;
  actions: ActionCache;
  noCache: boolean;
  previous: BuildRecord | undefined;
  /** Untraced, what other steps write is part of the key of a step. */
  traced: boolean;
}

export interface PredictOptions extends Preparation, Foresight {}

/**
 * Something that is going to be made anew, or may be, with the trees before and after it if it comes out as the last time: outputs of step `index`; 0: what has to be fetched.
 * `after` undefined: that is not known.
 */
export interface Doubt { index: number; before: TreeDigest; after: TreeDigest | undefined }

/**
 * Without running anything. A step that has to run is taken to write the paths that it wrote the last time; what it writes there is taken to be unknown.
 * So of each step that looks at one of them it is said that it may run.
 */
export function predict(options: PredictOptions): Prediction[] {
  const { store, plan } = options;
  let tree = layProject(store, plan, options.projected);
  const doubts: Doubt[] = [];
  return plan.steps.map((step): Prediction => {
    const seen = (on: TreeDigest): TreeDigest => prepareStep(options, step, on).input;
    const { prediction, result } = foresee(options, lookedUp(prepareStep(options, step, tree)), doubts.map((doubt) => doubtOn(doubt, seen)));
    const before = tree;
    if (result !== undefined) tree = applyDelta(store, tree, result.delta);
    if (prediction.outcome !== 'cached') doubts.push({ index: step.id.index, before, after: result === undefined ? undefined : tree });
    return prediction;
  });
}

/** The same doubt of other trees: of what is made of them. */
export function doubtOn({ index, before, after }: Doubt, make: (tree: TreeDigest) => TreeDigest): Doubt {
  return { index, before: make(before), after: after === undefined ? undefined : make(after) };
}

/**
 * Of one step, on what it would see if all before it came out as the last time.
 * @param doubts of what it would see @returns `result`: what it wrote the last time, as far as is known
 */
export function foresee(foresight: Foresight, step: LookedUpStep, doubts: readonly Doubt[]): { prediction: Prediction; result: ActionResult | undefined } {
  const { actions, noCache, previous } = foresight;
  const { id, definition, key, input } = step;
  const found = noCache ? ({ kind: 'miss', reason: { why: 'asked' } } as const) : actions.find(key, input);
  const known = found.kind === 'hit' ? actions.recorded(key, input) : actions.newest(key);
  const open = doubts.filter((doubt) => known === undefined || mayChange(foresight, known.paths, doubt));
  const last = counterpart(previous, step, key);
  // In another form it has most likely written the same paths.
  const result = found.kind === 'hit' ? found.result : (known ?? lastRun(actions, last))?.result;
  const isSure = found.kind === 'miss' && (open.length === 0 || noCache || isSureToMiss(foresight, step, doubts));
  if (isSure) return { result, prediction: { step: id, outcome: 'run', reason: refineReason(found.reason, last, definition) } };
  if (open.length > 0) return { result, prediction: { step: id, outcome: 'may run', after: stepsOf(open) } };
  return { result, prediction: { step: id, outcome: 'cached', facts: known?.paths.size ?? 0, savedMs: result?.durationMs ?? 0 } };
}

/** Which steps they come from. */
export function stepsOf(doubts: readonly Doubt[]): number[] {
  return [...new Set(doubts.map(({ index }) => index))].filter((index) => index > 0).sort((a, b) => a - b);
}

function lastRun(actions: ActionCache, last: ReturnType<typeof counterpart>): RecordedRun | undefined {
  return last?.input === undefined ? undefined : actions.recorded(last.key, last.input);
}

/** Are there answers to these questions that depend on what is in doubt? */
function mayChange({ store }: Foresight, paths: PathSet, { before, after }: Doubt): boolean {
  return after === undefined || !sameFacts(store, paths, before, after);
}

/** Of every run of it that is known, something else than what is in doubt is different now. */
function isSureToMiss({ store, actions, traced }: Foresight, { key, input }: LookedUpStep, doubts: readonly Doubt[]): boolean {
  if (!traced) return false;
  const isUnknown = doubts.some(({ after }) => after === undefined);
  const changed = (paths: PathSet, from: TreeDigest, to: TreeDigest): ByteString[] => [...differences(store, paths, from, to)].map(({ path }) => path);
  for (const run of actions.runs(key)) {
    const open = new Set(doubts.flatMap(({ before, after = before }) => changed(run.paths, before, after)));
    if (isUnknown || changed(run.paths, run.input, input).every((path) => open.has(path))) return false;
  }
  return true;
}
