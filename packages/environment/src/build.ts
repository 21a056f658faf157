import type { ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, hasher } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { applyDelta, lookupPath, setPath } from '@hyperdocker/cas';
import type { ActionCache, ActionDefinition, ActionResult, MissReason } from '@hyperdocker/engine';
import { Asked, definitionKey } from '@hyperdocker/engine';
import { FIXED_MTIME_NS } from '@hyperdocker/mount';
import type { Emit, StepId } from './events.ts';
import type { Plan } from './plan.ts';
import type { StepContext } from './step-runner.ts';
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
 * @throws HdError STEP_FAILED
 */
export async function build(options: BuildOptions): Promise<Build> {
  const { plan, context, actions, emit } = options;
  const { store } = context;
  let tree = layProject(store, plan, options.projected);
  const results: ActionResult[] = [];
  let ran = 0;
  for (const step of plan.steps) {
    context.signal.throwIfAborted();
    const definition: ActionDefinition = context.fuse === undefined ? { ...step.definition, untracedInput: tree } : step.definition;
    const key = definitionKey(definition);
    const found = actions.find(key, tree);
    let result: ActionResult;
    if (found.kind === 'hit') {
      result = found.result;
      emit({ type: 'step', status: 'cached', step: step.id, facts: found.facts, savedMs: result.durationMs });
    } else {
      if (ran === 0) options.onFirstRun?.();
      emit({ type: 'step', status: 'running', step: step.id, reason: explainMiss(found.reason) });
      const caches = startingCaches(options, step.definition, tree);
      const outcome = await runStep(context, definition, tree, caches, (text) => emit({ type: 'step-output', step: step.id, text }));
      if (!outcome.ok) {
        emit({ type: 'step', status: 'failed', step: step.id, ms: outcome.ms, exitCode: outcome.exitCode, log: outcome.log });
        throw stepFailed(step.id, outcome.exitCode);
      }
      result = outcome.result;
      actions.record(key, tree, outcome.paths, result, outcome.askers);
      keepCaches(options, step.definition, result);
      ran++;
      emit({ type: 'step', status: 'ran', step: step.id, ms: result.durationMs, facts: outcome.paths.size, volatile: [...result.volatile] });
    }
    results.push(result);
    tree = applyDelta(store, tree, result.delta);
  }
  return { tree, ran, cached: plan.steps.length - ran, results };
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
      return `${ASKED_WORDS.find(([bit]) => reason.asked & bit)?.[1] ?? 'what it looked at'} /${reason.path} changed (${reason.before} → ${reason.after})${reason.by === undefined ? '' : `, which \`${reason.by}\` looked at`}`;
  }
}

const ASKED_WORDS: [mask: number, words: string][] = [
  [Asked.content, 'the content of'], [Asked.listing, 'the list of'], [Asked.target, 'the link'], [Asked.xattrs, 'the attributes of'], [Asked.stat, 'the presence of'],
];
