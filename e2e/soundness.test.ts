/**
 * The result of an incremental build is that of a clean one, whatever the steps do and whatever changes; and no step runs that nothing calls for.
 *
 *   HD_SOUNDNESS_SEED=…    the same scenarios again
 *   HD_SOUNDNESS_ROUNDS=N  so many builds, each after an edit and each compared; in containers a tenth of it
 *   HD_SOUNDNESS_JOBS=N    how many steps a build may run at once
 *   HD_SOUNDNESS_REPLAY=F  plays the scenario in a file, as a failure prints it, and nothing else
 */
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { TestContext } from 'node:test';
import type { World } from '@hyperdocker/testkit';
import { inMountNamespace, tempWorld } from '@hyperdocker/testkit';
import { noBusybox } from './busybox.ts';
import { unable } from './rig.ts';
import { applyEdit } from './soundness/edits.ts';
import { EVERYTHING, EVERYTHING_PROJECT, LIST_EVERYTHING } from './soundness/everything.ts';
import type { Played, Scenario, Tally } from './soundness/scenario.ts';
import { nothingYet, playRandom, replay } from './soundness/scenario.ts';
import { shrink } from './soundness/shrink.ts';
import { KNOWN_TRAPS } from './soundness/traps.ts';
import type { Environment, Executor, Recipe } from './soundness/workshop.ts';
import { Workshop } from './soundness/workshop.ts';

const SEED = Number(process.env['HD_SOUNDNESS_SEED'] ?? 1);
const ROUNDS = Number(process.env['HD_SOUNDNESS_ROUNDS'] ?? 30);
const JOBS = Number(process.env['HD_SOUNDNESS_JOBS'] ?? 2);
const REPLAY = process.env['HD_SOUNDNESS_REPLAY'];
const ROUNDS_PER_SCENARIO = 15;
const SHRINK_MS = 60_000;

if (inMountNamespace(import.meta.filename)) {
  describe('in a chroot', { skip: noBusybox }, () => soundness('chroot', ROUNDS));
  describe('in a container', { skip: unable || noBusybox }, () => soundness('container', Math.ceil(ROUNDS / 10)));
}

function soundness(executor: Executor, rounds: number): void {
  let world: World;
  let workshop: Workshop;
  before(async () => {
    world = tempWorld();
    workshop = await Workshop.open({ dir: world.dir, executor, jobs: JOBS });
  });
  after(async () => {
    await workshop[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  test('incremental is clean, after every edit', { skip: REPLAY !== undefined && 'HD_SOUNDNESS_REPLAY is set' }, async (t) => {
    const tally = nothingYet();
    for (let scenario = 0; tally.rounds < rounds; scenario++) {
      const seed = SEED + scenario;
      const played = await playRandom(workshop, join(world.dir, `scenario-${scenario}`), seed, Math.min(ROUNDS_PER_SCENARIO, rounds - tally.rounds - 1));
      for (const key of Object.keys(tally) as (keyof Tally)[]) tally[key] += played.tally[key];
      if (played.problem !== undefined) await report(t, played, seed);
    }
    t.diagnostic(`HD_SOUNDNESS_SEED=${SEED}: ${JSON.stringify(tally)}`);
  });

  test('a printed scenario', { skip: REPLAY === undefined && 'HD_SOUNDNESS_REPLAY names no scenario' }, async () => {
    const { problem } = await play(JSON.parse(readFileSync(REPLAY ?? '', 'utf8')) as Scenario);
    assert.equal(problem, undefined);
  });

  test('what a step leaves is what the next one sees, when it has run and when it is replayed', async () => {
    const project = join(world.dir, 'everything');
    mkdirSync(project);
    for (const [path, content] of Object.entries(EVERYTHING_PROJECT)) applyEdit(project, { kind: 'write', path, content });
    using environment = workshop.environment();
    const recipe: Recipe = { project, workdir: '/workspace', user: '', steps: [`${EVERYTHING}\n${LIST_EVERYTHING}`, LIST_EVERYTHING] };
    const [ran, seen] = await logsOf(environment, recipe, 2);
    assert.equal(seen, ran);
    assert.match(ran ?? '', /hole regular file 300000 1 /);
    assert.match(ran ?? '', /hard-3 regular file 2 3 /);
    const [replayed, seenOfReplay] = await logsOf(environment, { ...recipe, steps: recipe.steps.with(1, `# another text\n${LIST_EVERYTHING}`) }, 1);
    assert.deepEqual([replayed, seenOfReplay], [ran, ran]);
  });

  async function logsOf(environment: Environment, recipe: Recipe, ran: number): Promise<string[]> {
    const { outcome, needless } = await environment.build(recipe);
    assert(outcome.ok, JSON.stringify(outcome));
    assert.deepEqual([outcome.ran, needless], [ran, []]);
    return outcome.results.map(({ log }) => workshop.store.getBlob(log).toString('latin1'));
  }

  for (const [name, scenario] of executor === 'container' ? Object.entries(KNOWN_TRAPS) : []) {
    test(name, async () => assert.equal((await play(scenario)).problem, undefined));
  }

  let plays = 0;
  async function play(scenario: Scenario): Promise<Played> {
    return await replay(workshop, join(world.dir, `play-${++plays}`), scenario);
  }

  async function report(t: TestContext, { scenario, problem }: Played, seed: number): Promise<void> {
    t.diagnostic(`HD_SOUNDNESS_SEED=${seed}: ${problem}\nThis is being shortened.`);
    const short = await shrink(scenario, async (candidate) => (await play(candidate)).problem !== undefined, SHRINK_MS);
    const { problem: shown = problem } = await play(short);
    assert.fail(`HD_SOUNDNESS_SEED=${seed}: ${shown}\nA shorter scenario, for HD_SOUNDNESS_REPLAY:\n${JSON.stringify(short, undefined, 1)}`);
  }
}
