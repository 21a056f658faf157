import type { ActionDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { HdError, hasher } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { lookupPath } from '@hyperdocker/cas';
import type { ActionDefinition, ActionResult } from '@hyperdocker/engine';
import { definitionKey } from '@hyperdocker/engine';
import type { StepId } from './events.ts';
import { visibleTree } from './inputs.ts';
import type { Plan, PlannedStep } from './plan.ts';
import { inTree } from './step-runner.ts';

/** A step with the tree that it would run on. */
export interface PreparedStep {
  step: PlannedStep;
  definition: ActionDefinition;
  key: ActionDigest;
  /** What it gets to see. */
  input: TreeDigest;
  /** Where its cache directories were left by its last run in this environment, by absolute path. */
  caches: ReadonlyMap<string, TreeDigest>;
}

/** A step, ready to be looked up. */
export interface LookedUpStep { id: StepId; definition: ActionDefinition; key: ActionDigest; input: TreeDigest }

export interface Preparation {
  store: Store;
  plan: Plan;
  /** The project's files with their times. */
  projected: TreeDigest;
  /** Cache directories belong to one environment. */
  envId: string;
  /** Without a tracer the whole input is part of the definition. */
  traced: boolean;
}

/** @param tree what the steps before it left */
export function prepareStep({ store, plan, projected, envId, traced }: Preparation, step: PlannedStep, tree: TreeDigest): PreparedStep {
  const { inputs } = step.definition;
  const input = inputs === undefined ? tree : visibleTree(store, tree, inTree(plan.workdir), projected, inputs);
  const definition: ActionDefinition = traced ? step.definition : { ...step.definition, untracedInput: input };
  return { step, definition, key: definitionKey(definition), input, caches: startingCaches(store, envId, step.definition, input) };
}

/** What there is to look it up by. */
export function lookedUp({ step: { id }, definition, key, input }: PreparedStep): LookedUpStep {
  return { id, definition, key, input };
}

/** The runtime would make it, and the command run in an empty directory. Behind a link it is not looked for. */
export function hasWorkdir(store: Store, { input, step: { definition } }: PreparedStep): boolean {
  const path = inTree(definition.workdir);
  const names = path === '' ? [] : path.split('/');
  for (const [depth] of names.entries()) {
    const entry = lookupPath(store, input, names.slice(0, depth + 1).join('/') as ByteString);
    if (entry?.kind === 'symlink') return true;
    if (entry?.kind !== 'dir') return false;
  }
  return true;
}

/** @throws HdError WORKDIR_MISSING */
export function requireWorkdir(store: Store, prepared: PreparedStep): void {
  if (hasWorkdir(store, prepared)) return;
  const { id, definition } = prepared.step;
  const cause = definition.inputs === undefined ? 'an earlier step has to make it' : 'an earlier step has to make it, or a pattern of `inputs` to match it';
  throw new HdError('WORKDIR_MISSING', `build step ${id.index} of ${id.total} runs in ${definition.workdir}, which is no directory`, { hint: `check \`workdir\` at hd.toml:${id.line}: ${cause}` });
}

function startingCaches(store: Store, envId: string, definition: ActionDefinition, input: TreeDigest): Map<string, TreeDigest> {
  const starting = new Map<string, TreeDigest>();
  for (const path of definition.cacheDirs) {
    // What an earlier step made is newer than any leftover.
    if (lookupPath(store, input, inTree(path)) !== undefined) continue;
    const target = store.getRef(cacheRef(envId, definition, path))?.target.digest as TreeDigest | undefined;
    if (target !== undefined && store.hasTree(target)) starting.set(path, target);
  }
  return starting;
}

/** The next run of this step starts with them. */
export function keepCaches(store: Store, envId: string, definition: ActionDefinition, result: ActionResult): void {
  for (const { path, tree } of result.caches) store.setRef(cacheRef(envId, definition, path), { kind: 'tree', digest: tree });
}

function cacheRef(envId: string, { command, workdir, platform }: ActionDefinition, path: string): string {
  return `env/${envId}/cache/${hasher.hash(Buffer.from(JSON.stringify([command, workdir, platform, path]))).slice(0, 32)}`;
}
