import type { ByteString, TreeDigest } from '@hyperdocker/base';
import type { RefTarget, Store } from '@hyperdocker/cas';
import { applyDelta } from '@hyperdocker/cas';
import type { ActionCache, PathSet } from '@hyperdocker/engine';
import { sameFacts } from '@hyperdocker/engine';
import type { Emit, HdEvent, StepId } from './events.ts';
import type { PlannedStep } from './plan.ts';
import type { PreparedStep } from './prepared-step.ts';
import { hasWorkdir, requireWorkdir } from './prepared-step.ts';
import type { SecretValues } from './secrets.ts';
import type { StepContext, StepOutcome } from './step-runner.ts';
import { runStep } from './step-runner.ts';

export interface StepRunsOptions {
  context: StepContext;
  actions: ActionCache;
  steps: readonly PlannedStep[];
  prepare: (step: PlannedStep, tree: TreeDigest) => PreparedStep;
  secrets: () => SecretValues;
  /** How many run at once. 1: nothing is run ahead of its turn. */
  jobs: number;
  /** Run also what the cache would answer. */
  noCache: boolean;
  emit: Emit;
  /** A run ahead of its turn was of no use. */
  onDiscarded?: () => void;
}

/**
 * The steps of one build that run now. Besides the one whose turn it is, later ones are run ahead on the tree that there is so far, as if the steps between wrote
 * nothing that matters to them (Rattle's speculation: Spall, Mitchell, Tobin-Hochstadt, "Build Scripts with Perfect Dependencies", 2020). When the turn
 * of such a step comes, what it asked is asked of the tree as it is then: if the answers are the same, it would do the same again, and its outcome stands.
 * Otherwise it is thrown away, and the step runs once more. So the result is that of running the list in order, whatever was guessed.
 *
 *   (not started) ──ahead──▶ running early ──turn, same answers──▶ running in turn ──▶ done
 *         │                        └──another answer──▶ thrown away ──┐      ▲
 *         └──────────────turn──────────────────────────────────────────┴──────┘
 */
export class StepRuns implements AsyncDisposable {
  readonly #options: StepRunsOptions;
  readonly #store: Store;
  readonly #running = new Map<number, StepRun>();
  /** Steps that were guessed wrong once are not run ahead again in this build. */
  readonly #misguessed = new Set<number>();
  /** Runs that are coming to their end, unwanted. */
  readonly #dropped: Promise<void>[] = [];
  /** The run whose outcome was given out last: it is recorded before the next one is asked for. */
  #taken: StepRun | undefined;

  constructor(options: StepRunsOptions) {
    this.#options = options;
    this.#store = options.context.store;
  }

  /**
   * What a step comes to whose turn it is. `tree` is what all before it left.
   * @throws HdError WORKDIR_MISSING, TRACE_LOST, and those of reading secrets
   */
  async take(prepared: PreparedStep, reason: string, tree: TreeDigest): Promise<StepOutcome> {
    const { id } = prepared.step;
    requireWorkdir(this.#store, prepared);
    this.#taken?.release();
    for (;;) {
      const early = await this.#earlyRun(prepared);
      const run = early ?? this.#start(prepared, 'in turn');
      run.announce(reason);
      this.#lookAhead(id, tree);
      // What was only looked at is written too, and what is written and not flushed keeps collections waiting.
      this.#store.flush();
      const outcome = await (early === undefined ? run.outcome : this.#watched(run, prepared));
      this.#running.delete(id.index);
      if (outcome !== undefined && (early === undefined || this.#holds(run, prepared, outcome))) {
        this.#taken = run;
        return outcome;
      }
      this.#throwAway(run);
    }
  }

  /** It need not run: what it was run ahead on was not what there is now. */
  drop({ index }: StepId): void {
    const run = this.#running.get(index);
    if (run === undefined) return;
    this.#running.delete(index);
    this.#dropped.push(run.end().then(() => run.release()));
    this.#discard(run);
  }

  /** Ends what was run ahead and is not wanted any more. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const run of this.#running.values()) this.drop(run.prepared.step.id);
    await Promise.all(this.#dropped);
    this.#taken?.release();
  }

  #start(prepared: PreparedStep, when: 'in turn' | 'ahead'): StepRun {
    const run = new StepRun(this.#options.context, prepared, this.#options.secrets(), this.#options.emit, when);
    this.#running.set(prepared.step.id.index, run);
    return run;
  }

  /** The early run of this step, unless what it has asked so far is answered otherwise by now. */
  async #earlyRun(prepared: PreparedStep): Promise<StepRun | undefined> {
    const { index } = prepared.step.id;
    const run = this.#running.get(index);
    if (run === undefined) return undefined;
    if (sameStart(run.prepared, prepared) && (await this.#mayHold(run, prepared))) return run;
    this.#running.delete(index);
    await run.end();
    this.#throwAway(run);
    return undefined;
  }

  async #mayHold(run: StepRun, prepared: PreparedStep): Promise<boolean> {
    if (run.isSettled) return await run.outcome.then((outcome) => this.#holds(run, prepared, outcome), () => false);
    // What it asked the last time that it ran, it is going to ask again.
    const last = this.#options.actions.newest(prepared.key);
    return this.#answersAlike(run.asked, run, prepared) && (last === undefined || this.#answersAlike(last.paths, run, prepared));
  }

  /** Undefined: it has asked something that is answered otherwise, and was ended. */
  async #watched(run: StepRun, prepared: PreparedStep): Promise<StepOutcome | undefined> {
    let wrong = false;
    run.onAsked = (paths) => {
      if (wrong || this.#answersAlike(paths, run, prepared)) return;
      wrong = true;
      void run.end();
    };
    try {
      return await run.outcome;
    } catch (error) {
      if (wrong) return undefined;
      throw error;
    }
  }

  #holds(run: StepRun, prepared: PreparedStep, outcome: StepOutcome): boolean {
    return outcome.kind !== 'leaked' && this.#answersAlike(outcome.trace.paths, run, prepared);
  }

  #answersAlike(paths: PathSet, run: StepRun, prepared: PreparedStep): boolean {
    return sameFacts(this.#store, paths, run.prepared.input, prepared.input);
  }

  #throwAway(run: StepRun): void {
    this.#misguessed.add(run.prepared.step.id.index);
    this.#discard(run);
    run.release();
  }

  #discard(run: StepRun): void {
    if (run.when === 'in turn') return;
    this.#options.emit({ type: 'step', status: 'discarded', step: run.prepared.step.id });
    this.#options.onDiscarded?.();
  }

  #lookAhead({ index }: StepId, tree: TreeDigest): void {
    const { steps, jobs, prepare } = this.#options;
    for (const step of steps.slice(index)) {
      if (this.#running.size >= jobs) return;
      if (this.#running.has(step.id.index) || this.#misguessed.has(step.id.index)) continue;
      const ahead = prepare(step, tree);
      if (this.#isWorthStarting(ahead, index, tree)) this.#start(ahead, 'ahead');
    }
  }

  #isWorthStarting(ahead: PreparedStep, turn: number, tree: TreeDigest): boolean {
    const { actions, noCache, context } = this.#options;
    // Untraced, there would be nothing to check it by.
    if (context.fuse === undefined || [...this.#running.values()].some(({ prepared }) => prepared.key === ahead.key)) return false;
    if (!noCache && actions.find(ahead.key, ahead.input).kind === 'hit') return false;
    return hasWorkdir(this.#store, ahead) && this.#isIndependent(ahead, turn, tree);
  }

  /** As far as is known: would its answers stay the same if the steps before it wrote what they wrote the last time? */
  #isIndependent(ahead: PreparedStep, turn: number, tree: TreeDigest): boolean {
    const { actions, steps, prepare } = this.#options;
    const own = actions.newest(ahead.key);
    if (own === undefined) return true;
    let expected = tree;
    for (const before of steps.slice(turn - 1, ahead.step.id.index - 1)) {
      const last = actions.newest(prepare(before, expected).key);
      if (last === undefined) return true;
      expected = applyDelta(this.#store, expected, last.result.delta);
    }
    return sameFacts(this.#store, own.paths, ahead.input, prepare(ahead.step, expected).input);
  }
}

/** One container of one step, in its turn or ahead of it. Ahead of it, nothing is said of it but that it runs. */
class StepRun {
  readonly prepared: PreparedStep;
  readonly when: 'in turn' | 'ahead';
  readonly outcome: Promise<StepOutcome>;
  readonly #emit: Emit;
  readonly #abort = new AbortController();
  readonly #pins = new DisposableStack();
  readonly #asked = new Map<ByteString, number>();
  /** What there will be to tell once its turn has come. */
  #untold: HdEvent[] | undefined = [];
  isSettled = false;
  onAsked: ((paths: PathSet) => void) | undefined;

  constructor(context: StepContext, prepared: PreparedStep, secrets: SecretValues, emit: Emit, when: 'in turn' | 'ahead') {
    this.prepared = prepared;
    this.when = when;
    this.#emit = emit;
    const { definition, input, caches, step } = prepared;
    if (when === 'ahead') emit({ type: 'step', status: 'ahead', step: step.id });
    const own = new Map([...secrets].filter(([id]) => definition.secrets?.some((use) => use.id === id)));
    const end = (): void => this.#abort.abort(context.signal.reason);
    context.signal.addEventListener('abort', end, { once: true });
    if (context.signal.aborted) end();
    const keep = (target: RefTarget): void => void this.#pins.use(context.store.pin(target, `build step ${step.id.index}`));
    keep({ kind: 'tree', digest: input });
    this.outcome = runStep({ ...context, signal: this.#abort.signal }, {
      definition, input, caches, secrets: own, keep,
      onOutput: (text) => this.#tell({ type: 'step-output', step: step.id, text }),
      ...(when === 'ahead' ? { onAsked: (paths: PathSet) => this.#addAsked(paths) } : {}),
    }).finally(() => {
      this.isSettled = true;
      context.signal.removeEventListener('abort', end);
    });
    // Whoever waits for it sees the error; one that was run ahead may never be waited for.
    this.outcome.catch(() => {});
  }

  /** What it has asked so far, a moment ago. */
  get asked(): PathSet {
    return this.#asked;
  }

  /** Its turn has come: from here on what it prints is passed on at once. */
  announce(reason: string): void {
    const untold = this.#untold ?? [];
    this.#untold = undefined;
    this.#emit({ type: 'step', status: 'running', step: this.prepared.step.id, reason });
    for (const event of untold) this.#emit(event);
  }

  async end(): Promise<void> {
    this.#abort.abort(new Error('what it was run ahead on has changed'));
    await this.outcome.catch(() => {});
  }

  /** Nobody needs what it ran on, nor what it left, any more. */
  release(): void {
    this.#pins.dispose();
  }

  #addAsked(paths: PathSet): void {
    for (const [path, asked] of paths) this.#asked.set(path, (this.#asked.get(path) ?? 0) | asked);
    this.onAsked?.(paths);
  }

  #tell(event: HdEvent): void {
    if (this.#untold === undefined) this.#emit(event);
    else this.#untold.push(event);
  }
}

/** Caches are no facts: an early run must have started with the same ones. */
function sameStart(early: PreparedStep, now: PreparedStep): boolean {
  return early.key === now.key && early.caches.size === now.caches.size && [...now.caches].every(([path, tree]) => early.caches.get(path) === tree);
}
