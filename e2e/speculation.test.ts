/** Steps that run ahead of their turn: whatever they have seen by then, the result is that of the list in order. */
import assert from 'node:assert/strict';
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { World } from '@hyperdocker/testkit';
import { inMountNamespace, tempWorld } from '@hyperdocker/testkit';
import { noBusybox } from './busybox.ts';
import type { Timing } from './soundness/gated-runtime.ts';
import { GatedRuntime } from './soundness/gated-runtime.ts';
import type { Environment, Outcome, Recipe, StepEvent } from './soundness/workshop.ts';
import { Workshop } from './soundness/workshop.ts';

const FILES = { f: 'old', a: 'a', b: 'b', 'd/a': 'in d', 'd/b': 'b', 'd/sub/c': 'c', 'lib/x': 'x' };

/** What one step does to what another one, run at the same time, looks at. */
const HAZARDS: Record<string, string[]> = {
  'read after write': ['echo new > f', 'cat f > seen'],
  'a read of what was deleted': ['rm f', 'cat f > seen 2>&1; true'],
  'absent, then created': ['echo yes > .config', 'if test -e .config; then cat .config; else echo no; fi > seen'],
  'a search that comes to an end sooner': ['mkdir first && echo first > first/x', 'for dir in first lib; do test -e $dir/x && cat $dir/x && break; done > seen'],
  'a listing with a name more': ['echo new > d/new', 'ls d > seen'],
  'a mode that changed': ['chmod 700 d/a', 'stat -c %a d/a > seen'],
  'a link that leads elsewhere': ['ln -s d/a link', 'ln -sf d/b link', 'cat link > seen'],
  'write after write': ['echo one > out', 'echo two > out'],
  'write after write, over a file of the project': ['echo first > f', 'echo two > f'],
  'appending': ['echo one >> f', 'echo two >> f', 'echo three >> f'],
  'both make one directory': ['mkdir -p made && echo 1 > made/one', 'mkdir -p made && echo 2 > made/two'],
  'a file and a directory of one name': ['rm f && mkdir f', 'echo x > f/x || echo no > seen'],
  'a directory is renamed, then listed': ['mv d e', 'ls d e > seen 2>&1; true'],
  'a directory is renamed, then written to by its old name': ['mv d e', 'echo new > d/new || echo none > seen'],
  'a file in it is written, then the directory is renamed': ['echo new > d/a', 'mv d e'],
  'a deep file is deleted, then the directory above it renamed': ['rm d/sub/c', 'mv d e'],
  'two renames on one name': ['mv d e', 'mv lib e/lib 2>/dev/null || mv lib e'],
  'a directory is replaced by one of the same name': ['rm -r d && mkdir d && echo other > d/other', 'cp -r d copy'],
  'a directory is deleted, then a file made in it': ['rm -r d', 'echo x > d/x 2>/dev/null || echo gone > seen'],
  'atomic publishing': ['echo new > f.tmp && mv f.tmp f', 'cp f seen'],
  'a hard link shares what is written': ['ln f g', 'echo new > g', 'cat f > seen'],
  'fails on what was, not on what is': ['echo ready > ready', 'cat ready > seen'],
  'each reads what the one before wrote': ['cat f a > 1', 'cat 1 b > 2', 'cat 2 f > 3', 'cat 1 2 3 > 4'],
};
/** In order, these come to an end at their last step; run too early, they would not. */
const FAILURES: Record<string, string[]> = {
  'what it needs is taken away': ['rm f', 'cat f > seen'],
  'its directory is renamed': ['mv d e', 'echo new > d/new'],
};

if (inMountNamespace(import.meta.filename)) describe('speculation', { skip: noBusybox }, speculation);

function speculation(): void {
  let world: World;
  let workshop: Workshop;
  let runtime: GatedRuntime;
  let count = 0;
  before(async () => {
    world = tempWorld();
    runtime = new GatedRuntime({ path: '', root: join(world.dir, 'run') });
    workshop = await Workshop.open({ dir: world.dir, executor: 'chroot', jobs: 1, runtime });
  });
  after(async () => {
    await workshop[Symbol.asyncDispose]();
    await world[Symbol.asyncDispose]();
  });

  function recipe(steps: readonly string[], jobs = steps.length): Recipe {
    const project = join(world.dir, `project-${++count}`);
    for (const [path, text] of Object.entries(FILES)) {
      mkdirSync(dirname(join(project, path)), { recursive: true });
      writeFileSync(join(project, path), `${text}\n`);
    }
    return { project, steps, workdir: '/workspace', user: '', jobs, onStep: (event) => runtime.onStep(event) };
  }

  async function build(environment: Environment, what: Recipe, timing: Timing = 'early'): Promise<Outcome> {
    runtime.begin(timing);
    const { outcome, needless } = await environment.build(what);
    assert.deepEqual(needless, []);
    if (outcome.ok) assert.equal(outcome.discarded, numbers(outcome, 'discarded').length, 'each one is told of and counted');
    return outcome;
  }

  /** One step after the other, with no memory. */
  async function inOrder(what: Recipe): Promise<Outcome> {
    using environment = workshop.environment();
    const outcome = await build(environment, { ...what, jobs: 1 });
    assert.equal(runtime.mostAtOnce, 1);
    assert.deepEqual(numbers(outcome, 'ahead'), []);
    return outcome;
  }

  function assertSame(outcome: Outcome, expected: Outcome): void {
    assert.equal(outcome.ok, expected.ok);
    if (outcome.ok && expected.ok) assert.deepEqual(workshop.trees.difference(expected.tree, outcome.tree), []);
    else if (!outcome.ok && !expected.ok) assert.deepEqual([outcome.step, outcome.exitCode, outcome.log], [expected.step, expected.exitCode, expected.log]);
  }

  for (const [i, [name, steps]] of Object.entries({ ...FAILURES, ...HAZARDS }).entries()) {
    const timings: Timing[] = i < 4 ? ['early', 'late'] : i % 2 === 0 ? ['early'] : ['late'];
    test(`${name} (${timings.join(', ')})`, async () => {
      const what = recipe(steps);
      const expected = await inOrder(what);
      assert.equal(expected.ok, name in HAZARDS, name);
      for (const timing of timings) {
        using environment = workshop.environment();
        const outcome = await build(environment, what, timing);
        assertSame(outcome, expected);
        assert.deepEqual(numbers(outcome, 'ahead'), steps.slice(1).map((_, i) => i + 2), 'nothing was known of them: all were run ahead');
        assert(numbers(outcome, 'discarded').includes(steps.length), `the last one was thrown away, ${timing}`);
        if (!outcome.ok) continue;
        const again = await build(environment, what, timing);
        assertSame(again, expected);
        assert.deepEqual([again.ran, numbers(again, 'ahead')], [0, []]);
      }
    });
  }

  test('steps that have nothing to do with each other run at once, and nothing is thrown away', async () => {
    const what = recipe(['cat a > out-a', 'cat b > out-b', 'cat f > lib/out-f', 'cp -r d copied']);
    const expected = await inOrder(what);
    using environment = workshop.environment();
    const outcome = await build(environment, what, 'late');
    assertSame(outcome, expected);
    assert.equal(runtime.mostAtOnce, 4);
    assert.deepEqual([numbers(outcome, 'ahead'), numbers(outcome, 'discarded'), numbers(outcome, 'ran')], [[2, 3, 4], [], [1, 2, 3, 4]]);
  });

  test('an overwritten file that is never looked at is no hazard: only its size is a fact, and that is the same', async () => {
    const what = recipe(['echo one > f', 'echo two > f']);
    using environment = workshop.environment();
    const outcome = await build(environment, what);
    assert.deepEqual(numbers(outcome, 'discarded'), []);
    assertSame(outcome, await inOrder(what));
  });

  test('no more run at once than there are jobs', async () => {
    const what = recipe(['cat a > 1', 'cat a > 2', 'cat a > 3', 'cat a > 4', 'cat a > 5'], 2);
    using environment = workshop.environment();
    const outcome = await build(environment, what, 'late');
    assert.equal(runtime.mostAtOnce, 2);
    assertSame(outcome, await inOrder(what));
  });

  test('two steps of one command are one run and a hit', async () => {
    const what = recipe(['cat a > out', 'cat a > out']);
    using environment = workshop.environment();
    const outcome = await build(environment, what);
    assertSame(outcome, await inOrder(what));
    assert.deepEqual(numbers(outcome, 'ahead'), []);
  });

  test('what clashed the last time is not run ahead again; what did not, is', async () => {
    const what = recipe(['cat f > 1', 'cat 1 > 2', 'cat a > 3']);
    using environment = workshop.environment();
    const first = await build(environment, what);
    assert.deepEqual([numbers(first, 'ahead'), numbers(first, 'discarded')], [[2, 3], [2]]);
    for (const file of ['f', 'a']) writeFileSync(join(what.project, file), 'edited\n');
    const second = await build(environment, what);
    assert.deepEqual([numbers(second, 'ahead'), numbers(second, 'discarded'), numbers(second, 'ran')], [[3], [], [1, 2, 3]]);
    assertSame(second, await inOrder(what));
  });

  test('a run ahead of a step that turns out to be cached is ended, and makes room', async () => {
    const what = recipe(['cat f > 1', 'cat 1 > 2', 'cat a > 3']);
    using environment = workshop.environment();
    await build(environment, what);
    const other = { ...what, steps: what.steps.with(0, 'cat f > 1; true') };
    const outcome = await build(environment, other, 'late');
    assert.deepEqual([numbers(outcome, 'ahead'), numbers(outcome, 'discarded'), numbers(outcome, 'ran'), numbers(outcome, 'cached')], [[2], [2], [1], [2, 3]]);
    assertSame(outcome, await inOrder(other));
  });

  test('a failure ends what runs ahead, and nothing of that is kept', async () => {
    const what = recipe(['cat a > 1; exit 3', 'cat b > 2']);
    using environment = workshop.environment();
    const outcome = await build(environment, what, 'late');
    assert(!outcome.ok && outcome.step === 1 && outcome.exitCode === 3);
    assert.deepEqual([numbers(outcome, 'ahead'), numbers(outcome, 'discarded')], [[2], [2]]);
    const mended = { ...what, steps: what.steps.with(0, 'cat a > 1') };
    assertSame(await build(environment, mended), await inOrder(mended));
  });

  test('early cutoff: a step that writes the same again runs nothing after it, and one that does not, only what looks at that', async () => {
    const what = recipe(['wc -c < f > size; cat a > copy', 'cat size > 2', 'cat 2 > 3', 'cat copy > 4']);
    using environment = workshop.environment();
    const edits: [file: string, text: string, ran: number[]][] = [['f', 'new\n', [1]], ['f', 'longer\n', [1, 2, 3]], ['a', 'other\n', [1, 4]], ['a', 'a\n', []], ['b', 'read by none\n', []]];
    assert.deepEqual(numbers(await build(environment, what), 'ran'), [1, 2, 3, 4]);
    for (const [file, text, ran] of edits) {
      writeFileSync(join(what.project, file), text);
      const outcome = await build(environment, what);
      assert.deepEqual([numbers(outcome, 'ran'), numbers(outcome, 'cached')], [ran, [1, 2, 3, 4].filter((step) => !ran.includes(step))], `${file}: ${text}`);
      assertSame(outcome, await inOrder(what));
    }
  });

  test('several path sets: a switch back to an earlier branch is a hit, whatever each of them looked at', async () => {
    const what = recipe(['if test -e config; then cat $(cat config); else cat a; fi > out'], 1);
    using environment = workshop.environment();
    const branches: (string | undefined)[] = [undefined, 'b', 'f', 'd/a'];
    const to = (branch: string | undefined): void => writeFileSync(join(what.project, branch === undefined ? 'unrelated' : 'config'), branch ?? '');
    const first: Outcome[] = [];
    for (const branch of branches) {
      to(branch);
      first.push(await build(environment, what));
    }
    assert.deepEqual(first.map(({ ran }) => ran), [1, 1, 1, 1]);
    for (const [i, branch] of branches.entries()) {
      if (branch === undefined) continue;
      to(branch);
      writeFileSync(join(what.project, 'lib/x'), `edited meanwhile ${i}`);
      const again = await build(environment, what);
      assert.equal(again.ran, 0, branch);
      assertSame(again, await inOrder(what));
    }
    // What was read on another branch alone.
    writeFileSync(join(what.project, 'b'), 'edited');
    assert.equal((await build(environment, what)).ran, 0);
    to('b');
    assert.equal((await build(environment, what)).ran, 1);
  });
}

/** The steps of which something was told, in the order of the list. */
function numbers({ events }: Outcome, status: StepEvent['status']): number[] {
  return events.filter((event) => event.status === status).map(({ step }) => step.index).sort((a, b) => a - b);
}
