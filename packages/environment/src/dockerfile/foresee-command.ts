import type { TreeDigest } from '@hyperdocker/base';
import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { applyDelta } from '@hyperdocker/cas';
import type { StepId } from '../events.ts';
import type { Doubt, Foresight, Prediction } from '../predict.ts';
import { doubtOn, foresee, stepsOf } from '../predict.ts';
import type { BuildState } from './build-state.ts';
import type { Files } from './foreseen-files.ts';
import { unknownFiles } from './foreseen-files.ts';
import type { Borrowed, CommandRun } from './run-command.ts';
import { entryAt, lookedUp, prepare, withBorrowed } from './run-command.ts';

/** What a dry run gathers. */
export interface DryBuild extends Foresight {
  predictions: Prediction[];
  /** Names of images that are not here. */
  missing: Set<string>;
}

/** What a stage would be after a RUN, if that wrote what it wrote the last time. */
export function foreseeCommand(builder: BuildState, dry: DryBuild, run: CommandRun): Files {
  const { store } = builder.options;
  const tell = (prediction: Prediction): void => void dry.predictions.push(prediction);
  const doubts = [...run.files.doubts, ...run.borrowed.flatMap(({ files }) => files.doubts)];
  const prepared = prepareIfKnown(builder, run, doubts);
  if (prepared === undefined) {
    const hasRun = dry.previous?.steps.some(({ step: { command }, input }) => command === run.id.command && input !== undefined) === true;
    tell(hasRun && !run.baseMissing ? { step: run.id, outcome: 'may run', after: stepsOf(doubts) } : neverRan(run.id));
    return unknownFiles(run.files.tree, [...doubts, { index: run.id.index, before: run.files.tree, after: undefined }]);
  }
  const { own, ownOf } = prepared;
  // Without the image's variables it is another command than it is going to be.
  const { prediction, result } = run.baseMissing ? { prediction: neverRan(run.id), result: undefined } : foresee(dry, lookedUp(prepared, run.id), [
    ...run.files.doubts.map((doubt) => doubtOn(doubt, (tree) => withBorrowed(store, ownOf(tree), run.borrowed))),
    ...run.borrowed.flatMap((mount) => mount.files.doubts.map((doubt) => doubtOn(doubt, (tree) => withBorrowed(store, own, borrowedFrom(store, run, mount, tree))))),
  ]);
  tell(prediction);
  if (result === undefined) return { tree: own, doubts: [...run.files.doubts, { index: run.id.index, before: own, after: undefined }] };
  const tree = applyDelta(store, own, result.delta);
  return { tree, doubts: prediction.outcome === 'cached' ? run.files.doubts : [...run.files.doubts, { index: run.id.index, before: own, after: tree }] };
}

/** What a mount has of other files; nothing, where they lack it. */
function borrowedFrom(store: Store, run: CommandRun, mount: Borrowed, tree: TreeDigest): Borrowed[] {
  return run.borrowed.flatMap((other) => (other !== mount ? [other] : hasEntry(store, tree, mount.source) ? [{ ...mount, files: { tree, doubts: [] } }] : []));
}

function neverRan(step: StepId): Prediction {
  return { step, outcome: 'run', reason: { why: 'never-ran' } };
}

/** Undefined: its user, or a file that is mounted for it, has yet to be made. */
function prepareIfKnown(builder: BuildState, run: CommandRun, doubts: readonly Doubt[]): ReturnType<typeof prepare> | undefined {
  try {
    return builder.at(run.id.line, () => prepare(builder, run));
  } catch (error) {
    if (doubts.length > 0 && error instanceof HdError && NOT_THERE.includes(error.code)) return undefined;
    throw error;
  }
}

const NOT_THERE = ['USER_NOT_FOUND', 'GROUP_NOT_FOUND', 'COPY_FAILED'];

function hasEntry(store: Store, tree: TreeDigest, source: string): boolean {
  try {
    entryAt(store, tree, source);
    return true;
  } catch (error) {
    if (error instanceof HdError) return false;
    throw error;
  }
}
