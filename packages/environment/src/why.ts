import { existsSync } from 'node:fs';
import { posix } from 'node:path';
import type { ByteString } from '@hyperdocker/base';
import { HdError, toText } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { FactCounts, RecordedRun } from '@hyperdocker/engine';
import { Asked, askedWords, askerOf, countFacts, nodeLinks, openActionCache } from '@hyperdocker/engine';
import { createMatcher } from '@hyperdocker/watch';
import type { BuildRecord, StepRecord } from './build-record.ts';
import { readBuildRecord, reasonText } from './build-record.ts';
import type { StepId } from './events.ts';
import type { EnvPaths, Home, Project } from './home.ts';
import { projectFilter } from './project-filter.ts';
import { specOrThrow } from './spec-file.ts';
import { inTree } from './step-runner.ts';

/** Why one step of the last build ran, or did not. */
export interface StepWhy {
  step: StepId;
  outcome: StepRecord['outcome'];
  /** The last run in this environment. */
  lastRun?: { atMs: number; durationMs: number; why: string; reason: NonNullable<StepRecord['lastRun']>['reason'] };
  /** What its result stands on. Absent: it is no longer known, or the step failed. */
  facts?: FactCounts;
  /** How long its result took to make. */
  savedMs?: number;
  /** Reasons why a run on another day might differ. */
  volatile: readonly string[];
  /** Variables of the host that its command speaks of and was not given. */
  notPassed: readonly string[];
}

/** What one step has to do with one file. Empty: nothing. */
export interface FileLook { step: StepId; looks: { at: string; asked: string; by?: string }[] }
export interface FileWhy {
  path: string;
  included: boolean;
  /** The pattern that decided. */
  rule: string;
  /** Absolute, inside. */
  inside: string;
  steps: FileLook[];
  /** Services that restart when it changes, with the pattern. */
  services: { name: string; pattern: string }[];
}

interface Place { home: Home; project: Project; paths: EnvPaths }

/** @throws HdError NOT_BUILT */
export function whySteps(place: Place): { atMs: number; steps: StepWhy[] } {
  return withRuns(place, (atMs, runs) => ({ atMs, steps: runs.map(({ record, run }) => stepWhy(record, run)) }));
}

/** @param path relative to the project. @throws HdError NOT_BUILT, SPEC_INVALID */
export function whyFile(place: Place, path: string, env: NodeJS.ProcessEnv): FileWhy {
  const { spec } = specOrThrow(place.project);
  const { included, rule } = projectFilter({ ...place, env }, spec).decide(path, false);
  const services = spec.services.flatMap(({ name, watch }) => watch.filter((pattern) => createMatcher([pattern])(path)).map((pattern) => ({ name, pattern })));
  return withRuns(place, (_atMs, runs, workdir) => {
    const inside = posix.join(workdir, path);
    return { path, included, rule, inside, services, steps: runs.map(({ record, run }) => ({ step: record.step, looks: run === undefined ? [] : looksAt(run, inTree(inside)) })) };
  });
}

function withRuns<T>({ home, project, paths }: Place, use: (atMs: number, runs: Known[], workdir: string) => T): T {
  const record = readBuildRecord(paths.buildRecord);
  if (record === undefined || !existsSync(home.storeDir)) throw new HdError('NOT_BUILT', `${project.dir} has not been built yet`, { hint: 'run `hd up` or `hd build` first' });
  return use(record.atMs, knownRuns(home, record), record.workdir);
}

/** The steps of one build. */
export function whyRecord(home: Home, record: BuildRecord): StepWhy[] {
  return knownRuns(home, record).map(({ record: step, run }) => stepWhy(step, run));
}

interface Known { record: StepRecord; run: RecordedRun | undefined }

function knownRuns(home: Home, { steps }: BuildRecord): Known[] {
  using store = openStore(home.storeDir, { nodeLinks, readOnly: true });
  using actions = openActionCache(home.actionsFile, store);
  return steps.map((step) => ({ record: step, run: step.outcome === 'failed' || step.outcome === 'not reached' || step.input === undefined ? undefined : actions.recorded(step.key, step.input) }));
}

function stepWhy({ step, outcome, lastRun }: StepRecord, run: RecordedRun | undefined): StepWhy {
  return {
    step, outcome,
    ...(lastRun === undefined ? {} : { lastRun: { ...lastRun, why: reasonText(lastRun.reason, 'then') } }),
    ...(run === undefined ? {} : { facts: countFacts(run.paths), savedMs: run.result.durationMs }),
    volatile: run?.result.volatile ?? [],
    notPassed: run?.result.notPassed ?? [],
  };
}

/** At the file itself, and at directories above it, whose lists name it or what leads to it. */
function looksAt(run: RecordedRun, path: ByteString): FileLook['looks'] {
  const parent = path.slice(0, Math.max(0, path.lastIndexOf('/'))) as ByteString;
  return [[path, ~0] as const, [parent, Asked.listing] as const].flatMap(([at, mask]) => {
    const asked = (run.paths.get(at) ?? 0) & mask;
    if (asked === 0) return [];
    const by = askerOf(run.askers, at, asked);
    return [{ at: `/${toText(at)}`, asked: askedWords(asked), ...(by === undefined ? {} : { by }) }];
  });
}
