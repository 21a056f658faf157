import type { TreeDigest } from '@hyperdocker/base';
import { applyDelta } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import { sameFacts } from '@hyperdocker/engine';
import type { BuildRecord, RunReason } from './build-record.ts';
import { counterpart, refineReason } from './build-record.ts';
import { layProject } from './build.ts';
import type { StepId } from './events.ts';
import type { Preparation } from './prepared-step.ts';
import { prepareStep } from './prepared-step.ts';

/** What the next build is going to do with one step. */
export type Prediction =
  | { step: StepId; outcome: 'cached'; facts: number; savedMs: number }
  | { step: StepId; outcome: 'run'; reason: RunReason }
  /** It looks at what steps before it wrote that are going to run: if they write the same again, it need not run. */
  | { step: StepId; outcome: 'may run'; after: number[] };

export interface PredictOptions extends Preparation {
  actions: ActionCache;
  noCache: boolean;
  previous: BuildRecord | undefined;
}

/** Without running anything. What a step that has to run is going to write is taken to be what it wrote the last time. */
export function predict(options: PredictOptions): Prediction[] {
  const { store, plan, actions, noCache, previous } = options;
  let tree = layProject(store, plan, options.projected);
  /** Steps that are going to run, or may, with what they change as far as that is known. */
  const unsure: { index: number; before: TreeDigest; after: TreeDigest | undefined }[] = [];
  return plan.steps.map((step): Prediction => {
    const prepared = prepareStep(options, step, tree);
    const found = noCache ? ({ kind: 'miss', reason: { why: 'asked' } } as const) : actions.find(prepared.key, prepared.input);
    const known = found.kind === 'hit' ? actions.recorded(prepared.key, prepared.input) : actions.newest(prepared.key);
    const after = unsure
      .filter(({ before, after: then }) => then === undefined || known === undefined || !sameFacts(store, known.paths, prepareStep(options, step, before).input, prepareStep(options, step, then).input))
      .map(({ index }) => index);
    const last = counterpart(previous, step, prepared.key);
    // In another form it has most likely written the same paths.
    const result = found.kind === 'hit' ? found.result : (known ?? (last === undefined ? undefined : actions.recorded(last.key, last.input)))?.result;
    const before = tree;
    if (result !== undefined) tree = applyDelta(store, tree, result.delta);
    if (found.kind === 'miss' || after.length > 0) unsure.push({ index: step.id.index, before, after: result === undefined ? undefined : tree });
    if (found.kind === 'miss' && (after.length === 0 || noCache)) {
      const reason = refineReason(found.reason, last, step.definition);
      return { step: step.id, outcome: 'run', reason };
    }
    if (after.length > 0) return { step: step.id, outcome: 'may run', after };
    return { step: step.id, outcome: 'cached', facts: known?.paths.size ?? 0, savedMs: result?.durationMs ?? 0 };
  });
}
