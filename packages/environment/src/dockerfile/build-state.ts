import { HdError } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import type { BuildRecord, StepRecord } from '../build-record.ts';
import type { Emit } from '../events.ts';
import type { Home } from '../home.ts';
import type { StepContext } from '../step-runner.ts';
import type { DryBuild } from './foresee-command.ts';
import type { DockerfileRequest } from './request.ts';
import type { Semaphore } from './semaphore.ts';
import type { SharedLease } from './shared-lease.ts';

export interface BuilderOptions {
  home: Home;
  store: Store;
  actions: ActionCache;
  request: DockerfileRequest;
  /** Of the host. */
  env: NodeJS.ProcessEnv;
  emit: Emit;
  signal: AbortSignal;
  /** What runs commands. Without it, a build in which none has to run comes to its end, and another to `NEEDS_RUNNER`. */
  runner?: Omit<StepContext, 'user' | 'limits'>;
  /** Only foresees what would run: nothing is run or fetched. */
  dry?: DryBuild;
}

/** Thrown where a command or a fetch is called for, and there is nothing to run it with. */
export const NEEDS_RUNNER = new HdError('NEEDS_RUNNER', 'a command has to run');

/** What the commands of one build share. */
export interface BuildState {
  readonly options: BuilderOptions;
  readonly lease: SharedLease;
  /** For those that run. */
  readonly turns: Semaphore;
  /** Of whoever asked for the build, and of a stage that has failed. */
  readonly signal: AbortSignal;
  ran: number;
  cached: number;
  /** The last build of the same Dockerfile, for explanations. */
  readonly previous: BuildRecord | undefined;
  /** What became of each RUN. */
  readonly records: StepRecord[];
  /** Build arguments that every command gets, and that are no part of what it is. */
  readonly proxies: Record<string, string>;
  /** Errors get the line that led to them. */
  at<T>(line: number, work: () => T): T;
}
