import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActionDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import type { BuilderEntry, Store } from '@hyperdocker/cas';
import { TreeBuilder, openMemoryStore } from '@hyperdocker/cas';
import fc from 'fast-check';
import { definitionKey } from './action.ts';
import type { AskedMask, PathSet } from './facts.ts';
import { Asked, StoredPathSet, TraceRecorder, askerOf, contentKey, decodeAskers, decodePathSet, encodeAskers, encodePathSet, firstDifference, joinPaths, sameFacts } from './facts.ts';
import { at, edit, file, metaOf, treeOf } from './tree-fixture.ts';

const DEFINITION = definitionKey({ command: 'make', workdir: '/w', env: {}, user: '', platform: 'linux/amd64', network: false, cacheDirs: [] });

function asked(questions: Record<string, AskedMask>): PathSet {
  const recorder = new TraceRecorder();
  for (const [path, mask] of Object.entries(questions)) recorder.record(at(path), mask);
  return recorder.finish();
}

/** Does a step that asked `questions` of `before` have to run again on `before` with `edits`? */
function changes(start: Record<string, string | BuilderEntry>, questions: Record<string, AskedMask>, edits: (store: Store) => Record<string, string | BuilderEntry | undefined>): boolean {
  const store = openMemoryStore();
  const before = treeOf(store, start);
  const after = edit(store, before, edits(store));
  assert.notEqual(before, after, 'the edit makes another tree');
  const paths = asked(questions);
  const changed = contentKey(store, DEFINITION, paths, before) !== contentKey(store, DEFINITION, paths, after);
  assert.equal(firstDifference(store, paths, before, after) !== undefined, changed, 'explanation and key agree');
  assert.equal(sameFacts(store, paths, before, after), !changed, 'comparison and key agree');
  return changed;
}

test('a file created where a step looked and found nothing makes it run again', () => {
  assert.equal(changes({ 'src/a': '1' }, { 'src/config': Asked.stat }, () => ({ 'src/config': '' })), true);
  assert.equal(changes({ 'src/a': '1' }, { 'no/such/dir': Asked.stat }, () => ({ 'no/such/dir': '' })), true);
  assert.equal(changes({ 'src/a': '1' }, { 'src/a/below-a-file': Asked.stat }, () => ({ 'src/b': '' })), false);
  assert.equal(changes({ 'src/a': '1' }, { 'src/a': Asked.stat }, () => ({ 'src/a': undefined })), true);
});

test('an unrelated file counts where the directory was listed, and only there', () => {
  const start = { 'src/a': '1', 'src/deep/b': '2' };
  assert.equal(changes(start, { src: Asked.listing }, () => ({ 'src/new': '' })), true);
  assert.equal(changes(start, { src: Asked.listing }, () => ({ 'src/deep/new': '' })), false);
  assert.equal(changes(start, { src: Asked.stat, 'src/a': Asked.content }, () => ({ 'src/new': '' })), false);
  assert.equal(changes(start, { '': Asked.listing }, () => ({ new: '' })), true);
  assert.equal(changes(start, { src: Asked.listing }, () => ({ 'src/a': '3' })), false);
  assert.equal(changes(start, { src: Asked.listing }, () => ({ 'src/a': undefined, 'src/a/x': '' })), true, 'a listing tells kinds');
});

test('an edit that keeps the size counts for who read the file, not for who looked at it', () => {
  assert.equal(changes({ a: '111' }, { a: Asked.stat }, () => ({ a: '222' })), false);
  assert.equal(changes({ a: '111' }, { a: Asked.stat }, () => ({ a: '2222' })), true);
  assert.equal(changes({ a: '111' }, { a: Asked.content }, () => ({ a: '222' })), true);
});

test('mode, owner, link count and attributes count where they were asked for; times never do', () => {
  const any = Asked.stat | Asked.content | Asked.xattrs | Asked.target | Asked.listing;
  assert.equal(changes({ a: '1' }, { a: Asked.stat }, (store) => ({ a: file(store, '1', 0o755) })), true);
  assert.equal(changes({ a: '1' }, { a: Asked.content }, (store) => ({ a: file(store, '1', 0o755) })), false);
  assert.equal(changes({ a: '1' }, { a: Asked.stat }, (store) => ({ a: file(store, '1', 0o644, { uid: 1000 }) })), true);
  assert.equal(changes({ a: '1' }, { a: Asked.stat }, (store) => ({ a: file(store, '1', 0o644, { linkGroup: 7, links: 2 }) })), true);
  assert.equal(changes({ a: '1' }, { a: any }, (store) => ({ a: file(store, '1', 0o644, { mtimeNs: 77n }) })), false);
  const attributes = (value: string) => (store: Store) => ({ a: file(store, '1', 0o644, { xattrs: [[at('user.k'), Buffer.from(value)]] }) });
  assert.equal(changes({ a: '1' }, { a: Asked.xattrs }, attributes('v')), true);
  assert.equal(changes({ a: '1' }, { a: Asked.stat | Asked.content }, attributes('v')), false);
});

test('which names are one inode counts, also where their number stays', () => {
  const pairs = (a: number, b: number) => (store: Store) => {
    const linked = (linkGroup: number): BuilderEntry => file(store, '1', 0o644, { linkGroup, links: 2 });
    return { a: linked(7), b: linked(8), c: linked(a), d: linked(b) };
  };
  const before = pairs(7, 8)(openMemoryStore());
  assert.equal(changes(before, { a: Asked.stat, c: Asked.stat }, pairs(8, 7)), true);
  assert.equal(changes(before, { a: Asked.content, c: Asked.content }, pairs(8, 7)), false);
});

test('links and devices', () => {
  const link = (target: string): BuilderEntry => ({ kind: 'symlink', mode: 0o777, target: at(target) });
  assert.equal(changes({ a: link('x') }, { a: Asked.target }, () => ({ a: link('y') })), true);
  assert.equal(changes({ a: link('x') }, { a: Asked.stat }, () => ({ a: link('y') })), false);
  assert.equal(changes({ a: link('x') }, { a: Asked.target }, () => ({ a: 'a file' })), true);
  const device = (minor: number): BuilderEntry => ({ kind: 'char', mode: 0o666, major: 1, minor });
  assert.equal(changes({ a: device(3) }, { a: Asked.stat }, () => ({ a: device(5) })), true);
});

test('the key depends on the definition and on what was asked', () => {
  const store = openMemoryStore();
  const tree = treeOf(store, { a: '1' });
  const keys = [
    contentKey(store, DEFINITION, asked({ a: Asked.stat }), tree),
    contentKey(store, DEFINITION, asked({ a: Asked.content }), tree),
    contentKey(store, DEFINITION, asked({ a: Asked.stat, b: Asked.stat }), tree),
    contentKey(store, 'ab'.repeat(32) as ActionDigest, asked({ a: Asked.stat }), tree),
  ];
  assert.equal(new Set(keys).size, keys.length);
});

test('a trace is one set: sorted by bytes, questions of one path joined, cache directories left out', () => {
  const recorder = new TraceRecorder();
  for (const path of ['b', 'cache/x', 'a/ü', 'cache', 'cached', 'a']) recorder.record(at(path), Asked.stat);
  recorder.record(at('a'), Asked.listing);
  recorder.record(at('a'), Asked.stat);
  recorder.record('a/\xff' as ByteString, Asked.content);
  const paths = recorder.finish([at('cache')]);
  assert.deepEqual([...paths], [['a', 3], ['a/\xc3\xbc', 1], ['a/\xff', 4], ['b', 1], ['cached', 1]]);
  assert.deepEqual([...decodePathSet(encodePathSet(paths))], [...paths]);
  assert.throws(() => decodePathSet(Buffer.concat([encodePathSet(paths), Buffer.from([0])])), { code: 'CORRUPT_OBJECT' });
});

test('property: a stored path set answers as the decoded one', () => {
  const paths = fc.uniqueArray(fc.string({ unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)), maxLength: 200 }));
  fc.assert(
    fc.property(paths, paths, (inside, others) => {
      const set = new Map(inside.sort().map((path, i) => [path as ByteString, 1 + (i % 31)]));
      const stored = new StoredPathSet(encodePathSet(set));
      assert.equal(stored.size, set.size);
      for (const path of [...inside, ...others] as ByteString[]) assert.equal(stored.get(path), set.get(path));
    }),
  );
  const bytes = encodePathSet(new Map([[at('a'), 1]]));
  assert.throws(() => new StoredPathSet(Buffer.concat([bytes, Buffer.from([0])])), { code: 'CORRUPT_OBJECT' });
  assert.throws(() => new StoredPathSet(bytes.subarray(0, -1)), { code: 'CORRUPT_OBJECT' });
});

test('askers: each question has the program that put it first, and the path set keeps its bytes', () => {
  const recorder = new TraceRecorder();
  const ask = (path: string, mask: AskedMask, program: string | undefined): void => recorder.record(at(path), mask, () => program);
  ask('in', Asked.stat, 'sh');
  ask('in', Asked.stat | Asked.content, 'cat in');
  ask('in', Asked.xattrs, 'cat in');
  ask('in', Asked.content, 'late');
  ask('dir', Asked.listing, 'ls');
  ask('nobody', Asked.stat, undefined);
  recorder.record(at('in'), Asked.content, () => assert.fail('nothing new'));
  const paths = recorder.finish();
  const askers = decodeAskers(encodeAskers({ paths, askers: recorder.askers }), paths);
  assert.deepEqual(Object.fromEntries(askers), { in: [{ asked: Asked.stat, program: 'sh' }, { asked: Asked.content | Asked.xattrs, program: 'cat in' }], dir: [{ asked: Asked.listing, program: 'ls' }] });
  assert.deepEqual([Asked.stat, Asked.content, Asked.stat | Asked.content, Asked.target].map((mask) => askerOf(askers, at('in'), mask)), ['sh', 'cat in', 'cat in', undefined]);
  assert.deepEqual(encodePathSet(paths), encodePathSet(asked({ in: Asked.stat | Asked.content | Asked.xattrs, dir: Asked.listing, nobody: Asked.stat })));
  const fewer = recorder.finish([at('dir')]);
  assert.deepEqual([...decodeAskers(encodeAskers({ paths: fewer, askers }), fewer).keys()], ['in']);
  assert.throws(() => decodeAskers(encodeAskers({ paths, askers }), fewer), { code: 'CORRUPT_OBJECT' });
});

test('the questions of two sets are joined', () => {
  const joined = joinPaths(asked({ b: Asked.stat, c: Asked.stat }), asked({ a: Asked.listing, b: Asked.content }));
  assert.deepEqual([...joined], [['a', Asked.listing], ['b', Asked.stat | Asked.content], ['c', Asked.stat]]);
});

test('a difference says which of the answers differ', () => {
  const store = openMemoryStore();
  const [before, after] = [treeOf(store, { in: 'one' }), treeOf(store, { in: 'two' })];
  assert.equal(firstDifference(store, asked({ in: Asked.stat | Asked.content }), before, after)?.changed, Asked.content);
  assert.equal(firstDifference(store, asked({ in: Asked.stat | Asked.content }), before, treeOf(store, {}))?.changed, Asked.stat | Asked.content);
});

test('the bytes of a path set are frozen', () => {
  const encoded = encodePathSet(asked({ 'usr/bin/cc': Asked.stat | Asked.content, 'etc': Asked.listing }));
  assert.equal(encoded.toString('hex'), '0c68642e706174687365742f310203657463020a7573722f62696e2f636305');
  const store = openMemoryStore();
  const tree = treeOf(store, { 'usr/bin/cc': 'ELF', 'etc/passwd': 'root' });
  assert.equal(contentKey(store, DEFINITION, decodePathSet(encoded), tree), 'bb201580b6f3b5df8b53430673e323923d5ab46c2b687285a6107f9e8151b8e5');
});

/** A naive tree, and naive answers, to hold the keys against. */
type Model = { kind: 'file'; mode: number; text: string; uid: number; mtime: number; xattr: string } | { kind: 'symlink'; target: string } | { kind: 'dir'; mode: number; children: Record<string, Model> };

const names = fc.constantFrom('a', 'b', 'c', 'ü');
const leaf: fc.Arbitrary<Model> = fc.oneof(
  fc.record({ kind: fc.constant('file' as const), mode: fc.constantFrom(0o644, 0o755), text: fc.constantFrom('', 'x', 'y', 'xy'), uid: fc.constantFrom(0, 1), mtime: fc.nat(3), xattr: fc.constantFrom('', 'v', 'w') }),
  fc.record({ kind: fc.constant('symlink' as const), target: names }),
);
const { node } = fc.letrec<{ node: Model; dir: Model }>((tie) => ({
  node: fc.oneof({ maxDepth: 3, depthSize: 'small' }, leaf, tie('dir')),
  dir: fc.record({ kind: fc.constant('dir' as const), mode: fc.constantFrom(0o755, 0o700), children: fc.dictionary(names, tie('node'), { maxKeys: 3, noNullPrototype: true }) }),
}));
const root = fc.dictionary(names, node, { maxKeys: 4, noNullPrototype: true });
const path = fc.array(names, { minLength: 1, maxLength: 3 }).map((parts) => parts.join('/'));
const question = fc.tuple(fc.oneof({ weight: 6, arbitrary: path }, { weight: 1, arbitrary: fc.constant('') }), fc.integer({ min: 1, max: 31 }));
const change = fc.tuple(path, fc.option(node));

function store(model: Record<string, Model>, into: Store): TreeDigest {
  const builder = new TreeBuilder(into);
  const put = (prefix: string, children: Record<string, Model>): void => {
    for (const [name, child] of Object.entries(children)) {
      const here = prefix === '' ? name : `${prefix}/${name}`;
      if (child.kind === 'symlink') builder.set(at(here), { kind: 'symlink', mode: 0o777, target: at(child.target) });
      else if (child.kind === 'file') builder.set(at(here), file(into, child.text, child.mode, { uid: child.uid, mtimeNs: BigInt(child.mtime), xattrs: child.xattr === '' ? [] : [[at('user.x'), Buffer.from(child.xattr)]] }));
      else {
        builder.set(at(here), { kind: 'dir', mode: child.mode, meta: metaOf({}) });
        put(here, child.children);
      }
    }
  };
  put('', model);
  return builder.finish();
}

function find(model: Record<string, Model>, asking: string): Model | undefined {
  let found: Model | undefined = { kind: 'dir', mode: 0o755, children: model };
  for (const name of asking === '' ? [] : asking.split('/')) found = found?.kind === 'dir' && Object.hasOwn(found.children, name) ? found.children[name] : undefined;
  return found;
}

function naiveAnswer(model: Record<string, Model>, asking: string, mask: number): unknown {
  const found = find(model, asking);
  if (found === undefined) return 'absent';
  const has = (bit: number): boolean => (mask & bit) !== 0;
  if (found.kind === 'file') return ['file', has(Asked.stat) && [found.mode, found.uid, Buffer.byteLength(found.text)], has(Asked.content) && found.text, has(Asked.xattrs) && found.xattr];
  if (found.kind === 'symlink') return ['symlink', has(Asked.stat) && Buffer.byteLength(found.target), has(Asked.target) && found.target];
  return ['dir', has(Asked.stat) && found.mode, has(Asked.listing) && Object.entries(found.children).map(([name, child]) => `${name} ${child.kind}`).sort()];
}

function edited(model: Record<string, Model>, edits: [string, Model | null][]): Record<string, Model> {
  const copy = structuredClone(model);
  for (const [where, to] of edits) {
    const parts = where.split('/');
    const name = parts.pop() ?? '';
    const parent = find(copy, parts.join('/'));
    if (parent?.kind !== 'dir') continue;
    if (to === null) delete parent.children[name];
    else parent.children[name] = structuredClone(to);
  }
  return copy;
}

test('property: two trees have one content key exactly when they answer all that was asked alike', () => {
  let [equal, different] = [0, 0];
  fc.assert(
    fc.property(root, fc.array(change, { maxLength: 3 }), fc.array(question, { minLength: 1, maxLength: 4 }), (before, edits, questions) => {
      const after = edited(before, edits);
      const memory = openMemoryStore();
      const paths = new TraceRecorder();
      for (const [asking, mask] of questions) paths.record(at(asking), mask);
      const set = paths.finish();
      const [old, now] = [store(before, memory), store(after, memory)];
      const differing = [...set].filter(([asking, mask]) => {
        const text = Buffer.from(asking, 'latin1').toString();
        return JSON.stringify(naiveAnswer(before, text, mask)) !== JSON.stringify(naiveAnswer(after, text, mask));
      });
      const same = differing.length === 0;
      if (same) equal++;
      else different++;
      assert.equal(contentKey(memory, DEFINITION, set, old) === contentKey(memory, DEFINITION, set, now), same);
      assert.equal(firstDifference(memory, set, old, now)?.path, differing[0]?.[0]);
      assert.equal(sameFacts(memory, set, old, now), same);
      assert.equal(sameFacts(memory, new StoredPathSet(encodePathSet(set)), old, now), same);
    }),
    { numRuns: 1500 },
  );
  assert(equal > 100 && different > 100, `both cases occur: ${equal} equal, ${different} different`);
});
