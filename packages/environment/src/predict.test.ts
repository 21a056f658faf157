import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import { TreeBuilder, applyDelta, lookupPath, openMemoryStore } from '@hyperdocker/cas';
import type { Store } from '@hyperdocker/cas';
import type { ActionCache } from '@hyperdocker/engine';
import { Asked, nodeLinks, openActionCache } from '@hyperdocker/engine';
import { EMPTY_CONFIG } from '@hyperdocker/oci';
import { parseSpec } from '@hyperdocker/spec';
import fc from 'fast-check';
import type { BuildRecord, StepRecord } from './build-record.ts';
import { layProject } from './build.ts';
import { makePlan } from './plan.ts';
import type { Prediction } from './predict.ts';
import { predict } from './predict.ts';
import type { Preparation } from './prepared-step.ts';
import { prepareStep } from './prepared-step.ts';

/** A step that reads some files, writes `out-<its name>`, and changes nothing else. Paths are relative to the project. */
interface Step { name: string; reads: string[]; write: (contents: string[]) => string; /** Something that makes it another one. */ form?: string }

/** An environment whose steps are functions: builds and predictions without a container. */
class Model {
  readonly store: Store = openMemoryStore({ nodeLinks });
  readonly actions: ActionCache = openActionCache(':memory:', this.store);
  readonly files: Record<string, string>;
  steps: Step[];
  previous: BuildRecord | undefined;

  constructor(files: Record<string, string>, steps: Step[]) {
    this.files = { ...files };
    this.steps = steps;
  }

  predict(options: { noCache?: boolean; traced?: boolean } = {}): Prediction[] {
    return predict({ ...this.#preparation(options.traced), actions: this.actions, noCache: options.noCache ?? false, previous: this.previous });
  }

  /** As one line for each step. */
  predicted(): string[] {
    return this.predict().map((prediction) => (prediction.outcome === 'may run' ? `may run after ${prediction.after.join()}` : prediction.outcome === 'run' ? `run: ${prediction.reason.why}` : 'cached'));
  }

  /** Indexes of the steps that ran. */
  build(): number[] {
    const preparation = this.#preparation();
    let tree = layProject(this.store, preparation.plan, preparation.projected);
    const records: StepRecord[] = [];
    for (const [i, step] of preparation.plan.steps.entries()) {
      const prepared = prepareStep(preparation, step, tree);
      const found = this.actions.find(prepared.key, prepared.input);
      const delta = found.kind === 'hit' ? found.result.delta : this.#run(this.steps[i]!, prepared);
      records.push({ step: step.id, definition: step.definition, key: prepared.key, input: prepared.input, outcome: found.kind === 'hit' ? 'cached' : 'ran' });
      tree = applyDelta(this.store, tree, delta);
    }
    this.previous = { schema: 'hd.build-record/1', atMs: 0, workdir: '/w', steps: records };
    return records.filter(({ outcome }) => outcome === 'ran').map(({ step }) => step.index);
  }

  #run({ name, reads, write }: Step, { key, input }: ReturnType<typeof prepareStep>): TreeDigest {
    const contents = reads.map((path) => {
      const entry = lookupPath(this.store, input, toByteString(`w/${path}`));
      return entry?.kind === 'file' ? this.store.getBlob(entry.digest).toString() : '(none)';
    });
    const delta = this.#tree({ [`w/out-${name}`]: write(contents) });
    const paths = new Map(reads.map((path) => [toByteString(`w/${path}`), Asked.stat | Asked.content]).sort() as [ReturnType<typeof toByteString>, number][]);
    this.actions.record(key, input, { paths, askers: new Map() }, { delta, log: this.store.putBlob(Buffer.from('')), durationMs: 7, caches: [], volatile: [], notPassed: [] });
    return delta;
  }

  #tree(files: Record<string, string>): TreeDigest {
    const builder = new TreeBuilder(this.store);
    for (const [path, text] of Object.entries(files)) builder.set(toByteString(path), { kind: 'file', mode: 0o644, digest: this.store.putBlob(Buffer.from(text)), size: text.length });
    return builder.finish();
  }

  #preparation(traced = true): Preparation {
    const toml = `[environment]\nname = "app"\nbase = "debian:12"\nworkdir = "/w"\n[build]\nsteps = [${this.steps.map(({ name, form = '' }) => `"${name} ${form}"`).join(', ')}]\n`;
    const parsed = parseSpec(toml);
    assert(parsed.ok, toml);
    const image = { tree: this.#tree({ 'etc/passwd': '' }), source: '', resolved: '', config: EMPTY_CONFIG };
    const plan = makePlan(this.store, { spec: parsed.spec, image, projectDir: '', platform: 'linux/amd64', base: 'debian:12' });
    return { store: this.store, plan, projected: this.#tree(this.files), envId: 'app', traced };
  }
}

const size = ([text = '']: string[]): string => String(text.length);
const copy = (contents: string[]): string => contents.join('+');
const STEPS: Step[] = [
  { name: 'count', reads: ['a'], write: size },
  { name: 'show', reads: ['out-count'], write: copy },
  { name: 'both', reads: ['out-count', 'b'], write: copy },
  { name: 'alone', reads: ['c'], write: copy },
];

function built(): Model {
  const model = new Model({ a: 'one', b: 'b', c: 'c' }, STEPS);
  assert.deepEqual(model.build(), [1, 2, 3, 4]);
  return model;
}

test('what never ran is going to run, whatever those before it write; what ran and sees the same, is not', () => {
  const model = new Model({ a: 'one', b: 'b', c: 'c' }, STEPS);
  assert.deepEqual(model.predicted(), STEPS.map(() => 'run: never-ran'));
  model.build();
  assert.deepEqual(model.predicted(), ['cached', 'cached', 'cached', 'cached']);
  const [first] = model.predict();
  assert(first?.outcome === 'cached' && first.facts === 1 && first.savedMs === 7);
});

test('a step that looks at what is going to be written again may run; early cutoff decides', () => {
  const model = built();
  model.files['a'] = 'two';
  assert.deepEqual(model.predicted(), ['run: changed', 'may run after 1', 'may run after 1', 'cached']);
  assert.deepEqual(model.build(), [1]);
  model.files['a'] = 'three';
  assert.deepEqual(model.predicted(), ['run: changed', 'may run after 1', 'may run after 1', 'cached']);
  assert.deepEqual(model.build(), [1, 2, 3]);
});

test('where something else has changed as well, it is going to run for sure', () => {
  const model = built();
  Object.assign(model.files, { a: 'two', b: 'other' });
  const predictions = model.predict();
  assert.deepEqual(model.predicted(), ['run: changed', 'may run after 1', 'run: changed', 'cached']);
  assert(predictions[2]?.outcome === 'run' && predictions[2].reason.why === 'changed' && predictions[2].reason.path === 'w/b');
  assert.deepEqual(model.build(), [1, 3]);
});

test('of what may run, what looks at it may run too', () => {
  const model = new Model({ a: 'one' }, [...STEPS.slice(0, 2), { name: 'last', reads: ['out-show'], write: copy }]);
  model.build();
  model.files['a'] = 'three';
  assert.deepEqual(model.predicted(), ['run: changed', 'may run after 1', 'may run after 2']);
  assert.deepEqual(model.build(), [1, 2, 3]);
});

test('a step in another form is going to run, and says in what it differs; what it writes is taken to be where it wrote before', () => {
  const model = built();
  model.steps = STEPS.map((step, i) => (i === 0 ? { ...step, form: '--fast' } : step));
  assert.deepEqual(model.predicted(), ['run: definition', 'may run after 1', 'may run after 1', 'cached']);
  assert.deepEqual(model.build(), [1]);
});

test('back on an earlier branch nothing is going to run', () => {
  const model = built();
  model.files['a'] = 'three';
  model.build();
  model.files['a'] = 'one';
  assert.deepEqual(model.predicted(), ['cached', 'cached', 'cached', 'cached']);
  assert.deepEqual(model.build(), []);
});

test('without the cache all run, because they were asked to', () => {
  assert.deepEqual(built().predict({ noCache: true }).map((prediction) => prediction.outcome === 'run' && prediction.reason.why), ['asked', 'asked', 'asked', 'asked']);
});

test('untraced, a step depends on everything: none that follows is sure', () => {
  assert.deepEqual(built().predict({ traced: false }).map(({ outcome }) => outcome), ['run', 'may run', 'may run', 'may run']);
});

test('for random steps and edits: what is going to run runs, what is cached does not', () => {
  const NAMES = ['s0', 's1', 's2', 's3', 's4'];
  const FILES = ['a', 'b', 'c'];
  const writers: Step['write'][] = [copy, size, (contents) => String(contents.join('').length % 2), () => 'constant'];
  const steps = fc.tuple(...NAMES.map((name, i) => fc.record({ name: fc.constant(name), reads: fc.uniqueArray(fc.constantFrom(...FILES, ...NAMES.slice(0, i).map((before) => `out-${before}`)), { maxLength: 3 }), write: fc.constantFrom(...writers) })));
  const edit = fc.record({ file: fc.constantFrom(...FILES), text: fc.constantFrom('x', 'y', 'long', 'longer'), form: fc.option(fc.tuple(fc.nat(4), fc.constantFrom('', '-v', '-w')), { freq: 4, nil: undefined }) });
  fc.assert(fc.property(steps, fc.array(fc.array(edit, { minLength: 1, maxLength: 3 }), { maxLength: 8 }), (all, rounds) => {
    const model = new Model({ a: 'x', b: 'x', c: 'x' }, all);
    for (const edits of [[], ...rounds]) {
      for (const { file, text, form } of edits) {
        model.files[file] = text;
        if (form !== undefined) model.steps = model.steps.map((step, i) => (i === form[0] ? { ...step, form: form[1] } : step));
      }
      const predictions = model.predict();
      const ran = model.build();
      for (const { step, outcome } of predictions) {
        if (outcome === 'run') assert(ran.includes(step.index), `step ${step.index} was to run`);
        if (outcome === 'cached') assert(!ran.includes(step.index), `step ${step.index} was to be cached`);
      }
    }
  }), { numRuns: 60 });
});
