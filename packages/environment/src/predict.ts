import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { applyDelta } from '@hyperdocker/cas';
import type { ActionCache, PathSet, RecordedRun } from '@hyperdocker/engine';
import { differences, sameFacts } from '@hyperdocker/engine';
import type { BuildRecord, RunReason } from './build-record.ts';
import { counterpart, refineReason } from './build-record.ts';
import { layProject } from './build.ts';
import type { StepId } from './events.ts';
import type { PlannedStep } from './plan.ts';
import type { Preparation, PreparedStep } from './prepared-step.ts';
import { prepareStep } from './prepared-step.ts';

/** What the next build is going to do with one step. */
export type Prediction =
  | { step: StepId; outcome: 'cached'; facts: number; savedMs: number }
  /** Whatever the steps before it write. */
  | { step: StepId; outcome: 'run'; reason: RunReason }
  /** It looks at what the steps `after` wrote, which are going to run, or may. If they write the same again, it need not run. */
  | { step: StepId; outcome: 'may run'; after: number[] };

export interface PredictOptions extends Preparation {
  actions: ActionCache;
  noCache: boolean;
  previous: BuildRecord | undefined;
}

/** A step that is going to run, or may, with the trees before and after it if it wrote what it wrote the last time. `after` undefined: that is not known. */
interface Unsure { index: number; before: TreeDigest; after: TreeDigest | undefined }

/**
 * Without running anything. A step that has to run is taken to write the paths that it wrote the last time; what it writes there is taken to be unknown.
 * So of each step that looks at one of them it is said that it may run.
 */
export function predict(options: PredictOptions): Prediction[] {
  const { store, plan, actions, noCache, previous } = options;
  let tree = layProject(store, plan, options.projected);
  const unsure: Unsure[] = [];
  return plan.steps.map((step): Prediction => {
    const prepared = prepareStep(options, step, tree);
    const found = noCache ? ({ kind: 'miss', reason: { why: 'asked' } } as const) : actions.find(prepared.key, prepared.input);
    const known = found.kind === 'hit' ? actions.recorded(prepared.key, prepared.input) : actions.newest(prepared.key);
    const after = unsure.filter((before) => known === undefined || mayChange(options, step, known.paths, before)).map(({ index }) => index);
    const last = counterpart(previous, step, prepared.key);
    // In another form it has most likely written the same paths.
    const result = found.kind === 'hit' ? found.result : (known ?? lastRun(actions, last))?.result;
    const isSure = found.kind === 'miss' && (after.length === 0 || noCache || isSureToMiss(options, prepared, unsure));
    const before = tree;
    if (result !== undefined) tree = applyDelta(store, tree, result.delta);
    if (found.kind === 'miss' || after.length > 0) unsure.push({ index: step.id.index, before, after: result === undefined ? undefined : tree });
    if (isSure) return { step: step.id, outcome: 'run', reason: refineReason(found.reason, last, step.definition) };
    if (after.length > 0) return { step: step.id, outcome: 'may run', after };
    return { step: step.id, outcome: 'cached', facts: known?.paths.size ?? 0, savedMs: result?.durationMs ?? 0 };
  });
}

function lastRun(actions: ActionCache, last: ReturnType<typeof counterpart>): RecordedRun | undefined {
  return last?.input === undefined ? undefined : actions.recorded(last.key, last.input);
}

/** Are there answers to these questions that depend on what that step is going to write? */
function mayChange(options: PredictOptions, step: PlannedStep, paths: PathSet, { before, after }: Unsure): boolean {
  return after === undefined || !sameFacts(options.store, paths, prepareStep(options, step, before).input, prepareStep(options, step, after).input);
}

/** Of every run of it that is known, something else than what these steps write is different now. */
function isSureToMiss(options: PredictOptions, { step, key, input }: PreparedStep, unsure: readonly Unsure[]): boolean {
  const { store, actions, traced } = options;
  // Untraced, what they write is part of its key.
  if (!traced) return false;
  const isUnknown = unsure.some(({ after }) => after === undefined);
  const changed = (paths: PathSet, from: TreeDigest, to: TreeDigest): ByteString[] => [...differences(store, paths, from, to)].map(({ path }) => path);
  for (const run of actions.runs(key)) {
    const open = new Set(unsure.flatMap(({ before, after = before }) => changed(run.paths, prepareStep(options, step, before).input, prepareStep(options, step, after).input)));
    if (isUnknown || changed(run.paths, run.input, input).every((path) => open.has(path))) return false;
  }
  return true;
}
