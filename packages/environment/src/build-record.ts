import type { ActionDigest, TreeDigest } from '@hyperdocker/base';
import type { ActionDefinition, DefinitionChange, MissReason } from '@hyperdocker/engine';
import { Asked, askedWords, compareDefinitions, definitionKey } from '@hyperdocker/engine';
import type { StepId } from './events.ts';
import { readJson, writeJson } from './json-file.ts';
import type { LookedUpStep } from './prepared-step.ts';

/** Why a step had to run. */
export type RunReason =
  | MissReason
  /** It ran before in another form. */
  | { why: 'definition'; changes: DefinitionChange[] }
  /** It ran in this form, and failed: nothing was recorded. */
  | { why: 'failed' }
  /** `--no-cache` */
  | { why: 'asked' };

/** What became of one step in the last build of an environment: what `hd why` tells of. */
export interface StepRecord {
  step: StepId;
  definition: ActionDefinition;
  key: ActionDigest;
  /** What it ran on or would have run on. Absent: it was not reached, in any build. */
  input?: TreeDigest;
  /** `not reached`: a step before it failed. Then the rest is of the build before, where it was in that. */
  outcome: 'ran' | 'cached' | 'failed' | 'not reached';
  /** The last time that it ran in this environment. Absent: its result came from another one, or from a time before the record. */
  lastRun?: { atMs: number; durationMs: number; reason: RunReason };
}

export interface BuildRecord {
  schema: 'hd.build-record/1';
  atMs: number;
  /** Where the project lies, in the container. */
  workdir: string;
  steps: StepRecord[];
  /** Of a build from a Dockerfile: what was built. */
  dockerfile?: { name: string; contextDir: string; images: string[] };
}

/** Undefined: none, or one that this version cannot read. It is there for explanations alone. */
export function readBuildRecord(file: string): BuildRecord | undefined {
  const record = readJson(file) as Partial<BuildRecord> | undefined;
  return record?.schema === 'hd.build-record/1' && Array.isArray(record.steps) ? (record as BuildRecord) : undefined;
}

export function writeBuildRecord(file: string, workdir: string, steps: StepRecord[], dockerfile?: BuildRecord['dockerfile']): void {
  const record: BuildRecord = { schema: 'hd.build-record/1', atMs: Date.now(), workdir, steps, ...(dockerfile === undefined ? {} : { dockerfile }) };
  writeJson(file, record);
}

/** @param run undefined: it did not run */
export function recordStep(previous: BuildRecord | undefined, { id, definition, key, input }: LookedUpStep, outcome: StepRecord['outcome'], run?: { reason: RunReason; durationMs: number }): StepRecord {
  const before = previous?.steps.find((known) => known.key === key)?.lastRun;
  const lastRun = run === undefined ? before : { atMs: Date.now(), ...run };
  return { step: id, definition, key, input, outcome, ...(lastRun === undefined ? {} : { lastRun }) };
}

/** The same step in the last build: of the same definition, else the one at its place in hd.toml by name or number. */
export function counterpart(previous: BuildRecord | undefined, { id, definition }: { id: StepId; definition: ActionDefinition }, key: ActionDigest): StepRecord | undefined {
  const steps = previous?.steps ?? [];
  return steps.find((step) => step.key === key)
    ?? steps.find(({ definition: old }) => old.command === definition.command)
    ?? steps.find(({ step }) => step.command === id.command)
    ?? steps.find(({ step }) => step.index === id.index && (step.line === 0) === (id.line === 0));
}

/** What is left of a plan whose build came to its end before: what was known of those steps stays known. */
export function unreached(plan: readonly { id: StepId; definition: ActionDefinition }[], reached: number, previous: BuildRecord | undefined): StepRecord[] {
  return plan.slice(reached).map(({ id, definition }) => {
    const key = definitionKey(definition);
    return { ...(counterpart(previous, { id, definition }, key) ?? { definition, key }), step: id, outcome: 'not reached' };
  });
}

/** A step of which no run in this form is recorded may have failed, or have run in another one. */
export function refineReason(reason: RunReason, before: StepRecord | undefined, definition: ActionDefinition): RunReason {
  // One that no build has reached has run in no form.
  if (reason.why !== 'never-ran' || before?.input === undefined) return reason;
  const changes = compareDefinitions(before.definition, definition);
  if (changes.length > 0) return { why: 'definition', changes };
  return before.outcome === 'failed' ? { why: 'failed' } : reason;
}

/** Why a step runs, in words; or why it ran, `then`. */
export function reasonText(reason: RunReason, tense: 'now' | 'then' = 'now'): string {
  switch (reason.why) {
    case 'never-ran':
      return tense === 'now' ? 'it has never run' : 'it had never run before';
    case 'failed':
      return tense === 'now' ? 'it failed the last time' : 'it had failed the time before';
    case 'results-gone':
      return `its outputs ${tense === 'now' ? 'are' : 'were'} no longer in the store`;
    case 'changed-unknown':
      return 'something that it looked at changed';
    case 'changed':
      return `${changedWords(reason)} /${reason.path} changed (${reason.before} → ${reason.after})${reason.by === undefined ? '' : `, which \`${reason.by}\` looked at`}`;
    case 'definition':
      return reason.changes.map(changeText).join(', ');
    case 'asked':
      return 'you asked for it';
  }
}

/** Where a file is there as before, it is not its presence that changed. */
function changedWords({ asked, before, after }: Extract<MissReason, { why: 'changed' }>): string {
  return asked === Asked.stat && before !== 'absent' && after !== 'absent' ? 'the kind, size, mode or owner of' : askedWords(asked);
}

function changeText({ part, name, before, after }: DefinitionChange): string {
  if (part === 'command') return 'its command changed';
  const what = part === 'variable' ? `the variable ${name ?? ''}` : `its ${part}`;
  if (before === undefined) return `${what} is new (${after ?? ''})`;
  return after === undefined ? `${what} is gone` : `${what} changed (${before || 'none'} → ${after || 'none'})`;
}
