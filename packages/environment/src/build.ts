import type { ActionDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, hasher, toText } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { applyDelta, lookupPath, setPath } from '@hyperdocker/cas';
import type { ActionCache, ActionDefinition, ActionResult, MissReason, SecretUse } from '@hyperdocker/engine';
import { Asked, definitionKey } from '@hyperdocker/engine';
import { FIXED_MTIME_NS } from '@hyperdocker/mount';
import type { Emit, StepId } from './events.ts';
import { visibleTree } from './inputs.ts';
import type { KeptOutputs } from './outputs.ts';
import type { Plan, PlannedStep } from './plan.ts';
import type { Leak } from './redact.ts';
import type { SecretValues } from './secrets.ts';
import type { StepContext, StepOutcome } from './step-runner.ts';
import { inTree, runStep } from './step-runner.ts';

export interface BuildOptions {
  plan: Plan;
  /** The project's files with their times. */
  projected: TreeDigest;
  context: StepContext;
  actions: ActionCache;
  /** Cache directories belong to one environment. */
  envId: string;
  emit: Emit;
  /** Values of the secrets that are used. @throws HdError SECRET_MISSING, SECRET_TOO_SHORT */
  readSecrets: (uses: readonly SecretUse[]) => SecretValues;
  /** Called once before the first step that has to run: it will take a while. */
  onFirstRun?: () => void;
}

export interface Build {
  /** The image, the project, and all that the steps wrote. */
  tree: TreeDigest;
  ran: number;
  cached: number;
  results: ActionResult[];
}

/**
 * Runs the steps in order, each on the tree that the ones before it left, and only those whose facts have changed.
 * @throws HdError STEP_FAILED, SECRET_LEAKED, WORKDIR_MISSING, TRACE_LOST, and those of reading secrets
 */
export async function build(options: BuildOptions): Promise<Build> {
  const { plan, context, actions, emit } = options;
  const { store } = context;
  let tree = layProject(store, plan, options.projected);
  const results: ActionResult[] = [];
  let ran = 0;
  let secrets: SecretValues | undefined;
  for (const step of plan.steps) {
    context.signal.throwIfAborted();
    const input = inputOf(options, step, tree);
    const definition: ActionDefinition = context.fuse === undefined ? { ...step.definition, untracedInput: input } : step.definition;
    const key = definitionKey(definition);
    const found = actions.find(key, input);
    let result: ActionResult;
    if (found.kind === 'hit') {
      result = found.result;
      emit({ type: 'step', status: 'cached', step: step.id, facts: found.facts, savedMs: result.durationMs });
    } else {
      // That a later step lacks a secret is said now, not after this one has run for an hour.
      secrets ??= options.readSecrets(plan.steps.slice(step.id.index - 1).flatMap((later) => later.definition.secrets ?? []));
      requireWorkdir(store, input, step);
      if (ran++ === 0) options.onFirstRun?.();
      result = await runAndRecord(options, { step, definition, key, input, secrets, reason: found.reason });
    }
    results.push(result);
    tree = applyDelta(store, tree, result.delta);
  }
  return { tree, ran, cached: plan.steps.length - ran, results };
}

interface Missed {
  step: PlannedStep;
  definition: ActionDefinition;
  key: ActionDigest;
  input: TreeDigest;
  secrets: SecretValues;
  reason: MissReason;
}

async function runAndRecord(options: BuildOptions, { step, definition, key, input, secrets, reason }: Missed): Promise<ActionResult> {
  const { id } = step;
  const { emit } = options;
  emit({ type: 'step', status: 'running', step: id, reason: explainMiss(reason) });
  const outcome = await runStep(options.context, {
    definition, input, caches: startingCaches(options, step.definition, input), secrets: secretsOf(step, secrets),
    onOutput: (text) => emit({ type: 'step-output', step: id, text }),
  });
  const { result, paths, outputs } = doneOrThrow(options, step, outcome);
  options.actions.record(key, input, paths, result);
  keepCaches(options, step.definition, result);
  emit({ type: 'step', status: 'ran', step: id, ms: result.durationMs, facts: paths.size, volatile: [...result.volatile], ...notPassedOf(result), ...droppedOf(outputs) });
  for (const path of outputs.missing) emit({ type: 'warning', code: 'OUTPUT_MISSING', message: `build step ${id.index} of ${id.total} has /${toText(path)} in its outputs, which is not there` });
  return result;
}

/** What a step gets to see of the tree that the ones before it left. */
function inputOf({ plan, context, projected }: BuildOptions, { definition }: PlannedStep, tree: TreeDigest): TreeDigest {
  return definition.inputs === undefined ? tree : visibleTree(context.store, tree, inTree(plan.workdir), projected, definition.inputs);
}

/** The runtime would make it, and the command run in an empty directory. Behind a link it is not looked for. @throws HdError WORKDIR_MISSING */
function requireWorkdir(store: Store, input: TreeDigest, { id, definition }: PlannedStep): void {
  const path = inTree(definition.workdir);
  const names = path === '' ? [] : path.split('/');
  for (const [depth] of names.entries()) {
    const entry = lookupPath(store, input, names.slice(0, depth + 1).join('/') as ByteString);
    if (entry?.kind === 'symlink') return;
    if (entry?.kind === 'dir') continue;
    const cause = definition.inputs === undefined ? 'an earlier step has to make it' : 'an earlier step has to make it, or a pattern of `inputs` to match it';
    throw new HdError('WORKDIR_MISSING', `build step ${id.index} of ${id.total} runs in ${definition.workdir}, which is no directory`, { hint: `check \`workdir\` at hd.toml:${id.line}: ${cause}` });
  }
}

function secretsOf({ definition }: PlannedStep, all: SecretValues): SecretValues {
  return new Map([...all].filter(([id]) => definition.secrets?.some((use) => use.id === id)));
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
  const { uid, gid } = plan.user;
  const made = { mtimeNs: FIXED_MTIME_NS, xattrs: [], linkGroup: 0, links: 1, ...existing?.meta, uid, gid };
  return setPath(store, plan.image.tree, path, { kind: 'dir', name: '' as ByteString, mode: existing?.mode ?? 0o755, digest, meta: made });
}

/** Where a step's cache directories were left by its last run in this environment. */
function startingCaches(options: BuildOptions, definition: ActionDefinition, input: TreeDigest): Map<string, TreeDigest> {
  const { store } = options.context;
  const starting = new Map<string, TreeDigest>();
  for (const path of definition.cacheDirs) {
    // What an earlier step made is newer than any leftover.
    if (lookupPath(store, input, inTree(path)) !== undefined) continue;
    const target = store.getRef(cacheRef(options.envId, definition, path))?.target.digest as TreeDigest | undefined;
    if (target !== undefined && store.hasTree(target)) starting.set(path, target);
  }
  return starting;
}

function keepCaches(options: BuildOptions, definition: ActionDefinition, result: ActionResult): void {
  for (const { path, tree } of result.caches) {
    options.context.store.setRef(cacheRef(options.envId, definition, path), { kind: 'tree', digest: tree });
  }
}

function cacheRef(envId: string, { command, workdir, platform }: ActionDefinition, path: string): string {
  return `env/${envId}/cache/${hasher.hash(Buffer.from(JSON.stringify([command, workdir, platform, path]))).slice(0, 32)}`;
}

function stepFailed(step: StepId, exitCode: number): HdError {
  const where = step.line === 0 ? 'comes from [dependencies]' : `is at hd.toml:${step.line}`;
  return new HdError('STEP_FAILED', `build step ${step.index} of ${step.total} ended with exit code ${exitCode}: ${step.command}`, {
    hint: `see its output above; it ${where}, and runs again with the next \`hd up\``,
    details: { line: step.line, exitCode, command: step.command },
  });
}

function secretLeaked(step: StepId, { command }: ActionDefinition, { id, path }: Leak): HdError {
  return new HdError('SECRET_LEAKED', `build step ${step.index} of ${step.total} wrote the secret ${id} to /${path}; nothing that it wrote was stored`, {
    hint: `let the tool read the secret where it is mounted, or remove the file before the step ends (hd.toml:${step.line})`,
    details: { line: step.line, secret: id, path: `/${path}`, command },
  });
}

/** Why a step runs, in words. */
export function explainMiss(reason: MissReason): string {
  switch (reason.why) {
    case 'never-ran':
      return 'it has never run';
    case 'results-gone':
      return 'its outputs are no longer in the store';
    case 'changed-unknown':
      return 'something that it looked at changed';
    case 'changed':
      return `${ASKED_WORDS.find(([bit]) => reason.asked & bit)?.[1] ?? 'what it looked at'} /${reason.path} changed (${reason.before} → ${reason.after})`;
  }
}

const ASKED_WORDS: [mask: number, words: string][] = [
  [Asked.content, 'the content of'], [Asked.listing, 'the list of'], [Asked.target, 'the link'], [Asked.xattrs, 'the attributes of'], [Asked.stat, 'the presence of'],
];
