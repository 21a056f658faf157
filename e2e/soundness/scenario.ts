import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { Edit } from './edits.ts';
import { applyEdit, pathsBelow, randomEdit, randomProject, replaceAll } from './edits.ts';
import type { Names } from './names.ts';
import { randomNames } from './names.ts';
import type { PlainOutcome } from './plain.ts';
import { Random } from './random.ts';
import { randomStep } from './steps.ts';
import type { Outcome, Recipe, Workshop } from './workshop.ts';
import { cleanBuild } from './workshop.ts';

/** What happens between two builds. */
export type Change =
  | Edit
  | { kind: 'step-text'; index: number; step: string }
  | { kind: 'step-insert'; index: number; step: string }
  | { kind: 'step-remove'; index: number }
  | { kind: 'step-swap'; index: number; other: number }
  /** Project and steps as they were after a round; 0 is the start. As a switch to another branch and back. */
  | { kind: 'return'; to: number };

/** A project, its steps, and what is done to both; after the start and after each round it is built and checked. Plain data: survives JSON. */
export interface Scenario {
  workdir: string;
  user: string;
  project: Edit[];
  steps: string[];
  rounds: Change[][];
}

export interface Tally {
  /** Builds after an edit, and the first of each scenario. */
  rounds: number;
  stepsRun: number;
  hits: number;
  failedBuilds: number;
  returns: number;
  /** Runs that were held against all that was recorded before. */
  checkedRuns: number;
  /** Clean builds by the product itself. Else the steps in an ordinary directory gave the same, or there would have been one. */
  cleanBuilds: number;
}

export const nothingYet = (): Tally => ({ rounds: 0, stepsRun: 0, hits: 0, failedBuilds: 0, returns: 0, checkedRuns: 0, cleanBuilds: 0 });

export interface Played {
  tally: Tally;
  /** What was played, up to the problem. */
  scenario: Scenario;
  /** What is wrong, or undefined. */
  problem: string | undefined;
}

/** Makes a scenario from a seed while playing it: edits are made to what is there. */
export async function playRandom(workshop: Workshop, dir: string, seed: number, rounds: number): Promise<Played> {
  const random = new Random(seed);
  const names = randomNames(random);
  const scenario: Scenario = {
    workdir: random.pick(['/workspace', '/workspace', '/srv/the app', '/']),
    user: random.chance(0.15) ? 'dev' : '',
    project: randomProject(random, names),
    steps: random.some(2, 6, () => randomStep(random, names)),
    rounds: [],
  };
  return await play(workshop, dir, scenario, (round, project, steps) => (round > rounds ? undefined : randomRound(random, names, round, project, steps)));
}

export async function replay(workshop: Workshop, dir: string, scenario: Scenario): Promise<Played> {
  return await play(workshop, dir, { ...scenario, rounds: [] }, (round) => scenario.rounds[round - 1]);
}

function randomRound(random: Random, names: Names, round: number, project: string, steps: readonly string[]): Change[] {
  const roll = random.next();
  if (round > 1 && roll < 0.12) return [{ kind: 'return', to: random.int(0, round - 2) }];
  if (roll < 0.24) return [randomStepChange(random, names, steps)];
  return random.some(1, 3, () => randomEdit(random, names, pathsBelow(project)));
}

function randomStepChange(random: Random, names: Names, steps: readonly string[]): Change {
  const index = random.int(0, steps.length - 1);
  if (steps.length > 1 && random.chance(0.3)) return { kind: 'step-swap', index, other: random.int(0, steps.length - 1) };
  if (steps.length > 2 && random.chance(0.3)) return { kind: 'step-remove', index };
  return { kind: random.chance(0.5) ? 'step-insert' : 'step-text', index, step: randomStep(random, names) };
}

interface State { project: string; steps: string[]; built: boolean }

/** @param next the changes of a round, from 1; undefined ends it */
async function play(workshop: Workshop, dir: string, scenario: Scenario, next: (round: number, project: string, steps: readonly string[]) => Change[] | undefined): Promise<Played> {
  const tally = nothingYet();
  const project = join(dir, 'project');
  const states: State[] = [];
  let steps = [...scenario.steps];
  mkdirSync(project, { recursive: true });
  try {
    using environment = workshop.environment();
    for (const edit of scenario.project) applyEdit(project, edit);
    for (let round = 0; ; round++) {
      const changes = round === 0 ? [] : next(round, project, steps);
      if (changes === undefined) return { tally, scenario, problem: undefined };
      if (round > 0) scenario.rounds.push(changes);
      for (const change of changes) steps = applyChange(change, project, steps, states);
      const recipe: Recipe = { project, steps, workdir: scenario.workdir, user: scenario.user };
      const { outcome, needless } = await environment.build(recipe);
      count(tally, outcome, steps.length);
      tally.checkedRuns = environment.checkedRuns;
      const [only] = changes;
      const returned = changes.length === 1 && only?.kind === 'return' ? states[only.to] : undefined;
      if (returned !== undefined) tally.returns++;
      const problem = needless[0] ?? missedReturn(returned, outcome) ?? (await unlikeClean(workshop, recipe, outcome, tally));
      if (problem !== undefined) return { tally, scenario, problem: `after round ${round}: ${problem}` };
      states.push(saveState(dir, round, project, steps, outcome.ok));
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function count(tally: Tally, outcome: Outcome, steps: number): void {
  tally.rounds++;
  tally.stepsRun += outcome.ran;
  tally.hits += (outcome.ok ? steps : outcome.step - 1) - outcome.ran;
  if (!outcome.ok) tally.failedBuilds++;
}

function applyChange(change: Change, project: string, steps: readonly string[], states: readonly State[]): string[] {
  const edited = [...steps];
  switch (change.kind) {
    case 'step-text':
      if (change.index < edited.length) edited[change.index] = change.step;
      return edited;
    case 'step-insert':
      return edited.toSpliced(change.index, 0, change.step);
    case 'step-remove':
      return edited.length > 1 ? edited.toSpliced(change.index, 1) : edited;
    case 'step-swap': {
      const [a, b] = [edited[change.index], edited[change.other]];
      return a === undefined || b === undefined ? edited : edited.with(change.index, b).with(change.other, a);
    }
    case 'return': {
      const state = states[change.to];
      if (state === undefined) return edited;
      replaceAll(state.project, project);
      return [...state.steps];
    }
    default:
      applyEdit(project, change);
      return edited;
  }
}

function saveState(dir: string, round: number, project: string, steps: string[], built: boolean): State {
  const copy = join(dir, `state-${round}`);
  replaceAll(project, copy);
  return { project: copy, steps, built };
}

/** Back to what was built before, nothing is left to do. */
function missedReturn(state: State | undefined, outcome: Outcome): string | undefined {
  if (state?.built !== true) return undefined;
  if (!outcome.ok) return `back to a state that could be built, step ${outcome.step} failed with ${outcome.exitCode}`;
  return outcome.ran === 0 ? undefined : `back to a state that was built before, ${outcome.ran} steps ran`;
}

/**
 * How an incremental build differs from one that remembers nothing. What the steps make in an ordinary directory is enough where it is the same; where it is
 * not, the product's own clean build decides.
 */
async function unlikeClean(workshop: Workshop, recipe: Recipe, outcome: Outcome, tally: Tally): Promise<string | undefined> {
  const plain = await workshop.plain(recipe);
  if (plain !== undefined && likePlain(workshop, outcome, plain)) return undefined;
  tally.cleanBuilds++;
  const clean = await cleanBuild(workshop, recipe);
  const difference = differenceOf(workshop, outcome, clean);
  if (difference === undefined) return undefined;
  const again = differenceOf(workshop, await cleanBuild(workshop, recipe), clean);
  return again === undefined ? `not what a clean build gives (-: this one, +: clean):\n${difference}` : `two clean builds differ, so a step is no function of its files:\n${again}`;
}

function likePlain({ store, trees }: Workshop, outcome: Outcome, plain: PlainOutcome): boolean {
  if (!outcome.ok || !plain.ok) return !outcome.ok && !plain.ok && outcome.step === plain.step && outcome.exitCode === plain.exitCode && outcome.log === plain.log;
  const sameLogs = outcome.results.every((result, i) => store.getBlob(result.log).equals(Buffer.from(plain.logs[i] ?? '')));
  return sameLogs && trees.plainDigest(outcome.tree) === trees.plainDigest(plain.tree);
}

function differenceOf({ store, trees }: Workshop, outcome: Outcome, clean: Outcome): string | undefined {
  if (!outcome.ok || !clean.ok) {
    const [a, b] = [outcome, clean].map((one) => (one.ok ? 'built' : `step ${one.step} failed with ${one.exitCode}:\n${one.log}`));
    return a === b ? undefined : `- ${a}\n+ ${b}`;
  }
  for (const [i, result] of outcome.results.entries()) {
    const other = clean.results[i]!;
    if (trees.digest(result.delta) !== trees.digest(other.delta)) return [`what step ${i + 1} wrote:`, ...trees.difference(result.delta, other.delta)].join('\n');
    if (result.log !== other.log) return `what step ${i + 1} printed:\n- ${store.getBlob(result.log).toString()}\n+ ${store.getBlob(other.log).toString()}`;
  }
  if (trees.digest(outcome.tree) === trees.digest(clean.tree)) return undefined;
  return ['the tree as a whole:', ...trees.difference(outcome.tree, clean.tree)].join('\n');
}
