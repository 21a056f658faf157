import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Operation } from './operation.ts';
import { PowerCuts, imageDigest } from './power-cut.ts';
import type { Image, Survival } from './power-cut.ts';

const ROOT = 1;
const [A, B, DIR] = [2, 3, 4];
const create = (ino: number, name: string, dir = ROOT): Operation => ({ kind: 'create', dir, name, ino, type: ino === DIR ? 'dir' : 'file', mode: 0o644, target: '' });
const write = (ino: number, text: string, offset = 0): Operation => ({ kind: 'write', ino, offset, bytes: Buffer.from(text) });
const sync = (ino: number): Operation => ({ kind: 'sync', ino });

function cut(log: Operation[], survival: Survival): Image {
  const cuts = new PowerCuts(log);
  while (cuts.next() !== undefined);
  return cuts.image(survival);
}
const NONE: Survival = { kind: 'none' };
const ALL: Survival = { kind: 'all' };
const show = (image: Image): Record<string, string> =>
  Object.fromEntries([...image].map(([path, entry]) => [path, entry.type === 'file' ? Buffer.from(entry.bytes).toString('latin1').replaceAll('\0', '.') : entry.type]));

/** All that random cuts show, as text. */
function everyOutcome(log: Operation[], rounds = 400): Set<string> {
  return new Set(Array.from({ length: rounds }, (_, seed) => JSON.stringify(show(cut(log, { kind: 'random', seed })))));
}

test('a file needs its own sync and that of its directory', () => {
  assert.deepEqual(show(cut([create(A, 'a'), write(A, 'x')], NONE)), {});
  assert.deepEqual(show(cut([create(A, 'a'), write(A, 'x'), sync(A)], NONE)), {});
  assert.deepEqual(show(cut([create(A, 'a'), write(A, 'x'), sync(ROOT)], NONE)), { a: '' });
  assert.deepEqual(show(cut([create(A, 'a'), write(A, 'x'), sync(A), sync(ROOT)], NONE)), { a: 'x' });
  assert.deepEqual(show(cut([create(A, 'a'), write(A, 'x')], ALL)), { a: 'x' });
  assert.deepEqual(everyOutcome([create(A, 'a'), write(A, 'x')]), new Set(['{}', '{"a":""}', '{"a":"x"}']));
});

test('writes survive in any combination, and leave zeros for what did not', () => {
  const log = [create(A, 'a'), sync(ROOT), write(A, '1'.repeat(512)), write(A, '2'.repeat(512), 512)];
  const [one, two, none] = ['1'.repeat(512), '2'.repeat(512), '.'.repeat(512)];
  assert.deepEqual(everyOutcome(log), new Set(['', one, one + two, none + two].map((a) => JSON.stringify({ a }))));
});

test('a write is torn between sectors, never within one', () => {
  const log = [create(A, 'a'), write(A, 'o'.repeat(1024)), sync(A), sync(ROOT), write(A, 'n'.repeat(1000))];
  const [old, tail] = ['o'.repeat(512), 'o'.repeat(24)];
  const [fresh, freshTail] = ['n'.repeat(512), 'n'.repeat(488) + tail];
  assert.deepEqual(everyOutcome(log), new Set([old + old, fresh + old, old + freshTail, fresh + freshTail].map((a) => JSON.stringify({ a }))));
});

test('a rename within a directory happens or not; the replaced file is old or new', () => {
  const log = [create(A, 'a'), write(A, 'old'), sync(A), create(B, 'b'), write(B, 'new'), sync(B), sync(ROOT), { kind: 'rename', dir: ROOT, name: 'b', toDir: ROOT, toName: 'a', ino: B } as const];
  assert.deepEqual(everyOutcome(log), new Set(['{"a":"old","b":"new"}', '{"a":"new"}']));
});

test('a rename between directories may leave both names, never none', () => {
  const before = [create(DIR, 'd'), create(A, 'a'), write(A, 'x'), sync(A), sync(ROOT)];
  const rename: Operation = { kind: 'rename', dir: ROOT, name: 'a', toDir: DIR, toName: 'a', ino: A };
  const [old, both, moved] = ['{"d":"dir","a":"x"}', '{"d":"dir","d/a":"x","a":"x"}', '{"d":"dir","d/a":"x"}'];
  assert.deepEqual(everyOutcome([...before, rename]), new Set([old, both, moved]));
  assert.deepEqual(everyOutcome([...before, rename, sync(DIR)]), new Set([both, moved]));
  assert.deepEqual(everyOutcome([...before, rename, sync(ROOT)]), new Set([moved]));
});

test('what a failed sync was to save never arrives', () => {
  const log: Operation[] = [create(A, 'a'), sync(ROOT), write(A, '1'.repeat(512)), { kind: 'sync-failed', ino: A }, write(A, '2'.repeat(512), 512), sync(A)];
  assert.deepEqual(show(cut(log, NONE)), { a: '.'.repeat(512) + '2'.repeat(512) });
});

test('an unlinked file may come back, and a directory takes along what is in it', () => {
  const log: Operation[] = [create(DIR, 'd'), create(A, 'a', DIR), sync(DIR), sync(ROOT), { kind: 'unlink', dir: DIR, name: 'a' }, { kind: 'unlink', dir: ROOT, name: 'd' }];
  assert.deepEqual(everyOutcome(log), new Set(['{}', '{"d":"dir"}', '{"d":"dir","d/a":""}']));
});

test('the same seed gives the same image', () => {
  const log = [create(A, 'a'), write(A, 'x'.repeat(5000)), write(A, 'y'.repeat(5000), 2000)];
  const digests = [1, 1, 2, 3, 4, 5].map((seed) => imageDigest(cut(log, { kind: 'random', seed })));
  assert.equal(digests[0], digests[1]);
  assert(new Set(digests).size > 2);
});
