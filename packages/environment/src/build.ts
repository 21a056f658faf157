import { availableParallelism } from 'node:os';
import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, toText } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { applyDelta, lookupPath, setPath } from '@hyperdocker/cas';
import type { ActionCache, ActionDefinition, ActionResult, SecretUse } from '@hyperdocker/engine';
import { FIXED_MTIME_NS } from '@hyperdocker/mount';
import type { BuildRecord, RunReason, StepRecord } from './build-record.ts';
import { counterpart, reasonText, recordStep, refineReason } from './build-record.ts';
import type { Emit, StepId } from './events.ts';
import type { KeptOutputs } from './outputs.ts';
import type { Plan, PlannedStep } from './plan.ts';
import type { Preparation, PreparedStep } from './prepared-step.ts';
import { keepCaches, lookedUp, prepareStep } from './prepared-step.ts';
import type { Leak } from './redact.ts';
import type { SecretValues } from './secrets.ts';
import type { StepContext, StepOutcome } from './step-runner.ts';
import { inTree } from './step-runner.ts';
import { StepRuns } from './step-runs.ts';
import type { WriteLease } from './write-lease.ts';

/** Characters of a command in the message of an error. */
const MESSAGE_COMMAND = 72;

export interface BuildOptions {
  plan: Plan;
  /** The project's files with their times. */
  projected: TreeDigest;
  context: StepContext;
  actions: ActionCache;
  /** From before the project's files were stored until after the refs are moved; given back while steps run. */
  lease: WriteLease;
  /** Cache directories belong to one environment. */
  envId: string;
  emit: Emit;
  /** Values of the secrets that are used. @throws HdError SECRET_MISSING, SECRET_TOO_SHORT */
  readSecrets: (uses: readonly SecretUse[]) => SecretValues;
  /** How many steps run at once. Default: as many as there are processors. */
  jobs?: number;
  /** Run every step. */
  noCache?: boolean;
  /** The record of the last build of this environment, for explanations. */
  previous?: BuildRecord | undefined;
  /** What became of a step, in their order. Not of those after one that failed. */
  onStep?: (record: StepRecord) => void;
  /** Called once before the first step that has to run: it will take a while. */
  onFirstRun?: () => void;
}

export interface Build {
  /** The image, the project, and all that the steps wrote. */
  tree: TreeDigest;
  ran: number;
  cached: number;
  /** Runs ahead of their turn that were thrown away: what they had looked at was changed by a step before them. */
  discarded: number;
  results: ActionResult[];
}

/**
 * Brings the steps' results together in their order, and runs those whose facts have changed; several at once where that makes no difference.
 * @throws HdError STEP_FAILED, SECRET_LEAKED, WORKDIR_MISSING, TRACE_LOST, and those of reading secrets
 */
export async function build(options: BuildOptions): Promise<Build> {
  const { plan, context, actions, emit, envId, noCache = false, jobs = availableParallelism() } = options;
  const { store } = context;
  const preparation: Preparation = { store, plan, projected: options.projected, envId, traced: context.fuse !== undefined };
  const prepare = (step: PlannedStep, tree: TreeDigest): PreparedStep => prepareStep(preparation, step, tree);
  let cached = 0;
  let discarded = 0;
  let secrets: SecretValues | undefined;
  // Of all steps to come at once: one that would want for a secret is not found out after others have run for an hour.
  const allSecrets = (): SecretValues => (secrets ??= options.readSecrets(plan.steps.slice(cached).flatMap(({ definition }) => definition.secrets ?? [])));
  await using runs = new StepRuns({ context, actions, steps: plan.steps, prepare, secrets: allSecrets, jobs, noCache, emit, onDiscarded: () => discarded++ });
  let tree = layProject(store, plan, options.projected);
  const results: ActionResult[] = [];
  let ran = 0;
  for (const step of plan.steps) {
    context.signal.throwIfAborted();
    const prepared = prepare(step, tree);
    const found = noCache ? ({ kind: 'miss', reason: { why: 'asked' } } as const) : actions.find(prepared.key, prepared.input);
    if (found.kind === 'hit') {
      options.onStep?.(recordStep(options.previous, lookedUp(prepared), 'cached'));
      runs.drop(step.id);
      emit({ type: 'step', status: 'cached', step: step.id, facts: found.facts, savedMs: found.result.durationMs });
      results.push(found.result);
      cached++;
    } else {
      if (ran++ === 0) options.onFirstRun?.();
      results.push(await runInTurn(options, runs, prepared, refine(options, prepared, found.reason), tree));
    }
    tree = applyDelta(store, tree, results.at(-1)!.delta);
  }
  return { tree, ran, cached, discarded, results };
}

async function runInTurn(options: BuildOptions, runs: StepRuns, prepared: PreparedStep, reason: RunReason, tree: TreeDigest): Promise<ActionResult> {
  const { actions, context: { store }, emit, envId, lease } = options;
  const { step: { id, definition }, key, input } = prepared;
  const inUse = [tree, input].map((digest) => ({ kind: 'tree' as const, digest }));
  const outcome = await lease.apart(inUse, () => runs.take(prepared, reasonText(reason), tree));
  options.onStep?.(recordStep(options.previous, lookedUp(prepared), outcome.kind === 'done' ? 'ran' : 'failed', { reason, durationMs: outcome.ms }));
  const { trace, outputs, result } = doneOrThrow(options, prepared.step, outcome);
  actions.record(key, input, trace, result);
  keepCaches(store, envId, definition, result);
  emit({ type: 'step', status: 'ran', step: id, ms: result.durationMs, facts: trace.paths.size, volatile: [...result.volatile], ...notPassedOf(result), ...droppedOf(outputs) });
  for (const path of outputs.missing) emit({ type: 'warning', code: 'OUTPUT_MISSING', message: `build step ${id.index} of ${id.total} has /${toText(path)} in its outputs, which is not there` });
  return result;
}

function refine({ previous }: BuildOptions, { step, key, definition }: PreparedStep, reason: RunReason): RunReason {
  return refineReason(reason, counterpart(previous, step, key), definition);
}

function doneOrThrow({ emit }: BuildOptions, { id, definition }: PlannedStep, outcome: StepOutcome): Extract<StepOutcome, { kind: 'done' }> {
  switch (outcome.kind) {
    case 'done':
      return outcome;
    case 'failed':
      emit({ type: 'step', status: 'failed', step: id, ms: outcome.ms, exitCode: outcome.exitCode, log: outcome.log });
      throw stepFailed(id, outcome.exitCode);
    case 'leaked':
      throw secretLeaked(id, definition, outcome.leak);
  }
}

function notPassedOf({ notPassed }: ActionResult): { notPassed?: string[] } {
  return notPassed.length === 0 ? {} : { notPassed: [...notPassed] };
}

function droppedOf({ dropped, firstDropped }: Omit<KeptOutputs, 'delta'>): { dropped?: { count: number; first: string } } {
  return firstDropped === undefined ? {} : { dropped: { count: dropped, first: `/${toText(firstDropped)}` } };
}

/** The image with the project over its working directory, as `COPY . .` would put it, and the directory the user's: steps and services write there. */
export function layProject(store: Store, plan: Plan, projected: TreeDigest): TreeDigest {
  const path = inTree(plan.workdir);
  if (path === '') return applyDelta(store, plan.image.tree, projected);
  const existing = lookupPath(store, plan.image.tree, path);
  const digest = existing?.kind === 'dir' ? applyDelta(store, existing.digest, projected) : projected;
  const { uid, gid } = plan.owner;
  const made = { mtimeNs: FIXED_MTIME_NS, xattrs: [], linkGroup: 0, links: 1, ...existing?.meta, uid, gid };
  return setPath(store, plan.image.tree, path, { kind: 'dir', name: '' as ByteString, mode: existing?.mode ?? 0o755, digest, meta: made });
}

function stepFailed(step: StepId, exitCode: number): HdError {
  const where = step.line === 0 ? 'comes from [dependencies]' : `is at hd.toml:${step.line}`;
  return new HdError('STEP_FAILED', `build step ${step.index} of ${step.total} ended with exit code ${exitCode}: ${inShort(step.command)}`, {
    hint: `see its output above; it ${where}, and runs again with the next \`hd up\``,
    details: { line: step.line, exitCode, command: step.command },
  });
}

/** For a message: the whole command is in the details. */
function inShort(command: string): string {
  const line = command.trim().replace(/\s*\n\s*/g, ' ');
  return line.length <= MESSAGE_COMMAND ? line : `${line.slice(0, MESSAGE_COMMAND - 1)}…`;
}

function secretLeaked(step: StepId, { command }: ActionDefinition, { id, path }: Leak): HdError {
  return new HdError('SECRET_LEAKED', `build step ${step.index} of ${step.total} wrote the secret ${id} to /${path}; nothing that it wrote was stored`, {
    hint: `let the tool read the secret where it is mounted, or remove the file before the step ends (hd.toml:${step.line})`,
    details: { line: step.line, secret: id, path: `/${path}`, command },
  });
}
