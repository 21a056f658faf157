import assert from 'node:assert/strict';
import { test } from 'node:test';
import { EventLog } from './event-log.ts';
import type { Emitted } from './events.ts';

const warning = (message: string) => ({ type: 'warning' as const, code: 'X', message });
const texts = (events: readonly Emitted[]): string[] => events.map((event) => (event.type === 'warning' ? event.message : event.type));

test('who comes later sees what was, then what comes, in order and without a gap', () => {
  const log = new EventLog();
  for (const text of ['a', 'b', 'c']) log.emit(warning(text));
  const seen: Emitted[] = [];
  using _subscription = log.subscribe(1, (event) => seen.push(event));
  log.emit(warning('d'));
  assert.deepEqual(texts(seen), ['b', 'c', 'd']);
  assert.deepEqual(seen.map(({ seq }) => seq), [2, 3, 4]);
  assert.equal(log.last, 4);
  assert(seen.every(({ atMs }) => Math.abs(Date.now() - atMs) < 60_000));
});

test('who has left hears no more', () => {
  const log = new EventLog();
  const seen: Emitted[] = [];
  const subscription = log.subscribe(0, (event) => seen.push(event));
  log.emit(warning('a'));
  subscription[Symbol.dispose]();
  log.emit(warning('b'));
  assert.deepEqual(texts(seen), ['a']);
});

test('the oldest are dropped when it is full, and numbers go on', () => {
  const log = new EventLog(3);
  for (let i = 1; i <= 10; i++) log.emit(warning(String(i)));
  const seen: Emitted[] = [];
  log.subscribe(0, (event) => seen.push(event));
  assert.deepEqual(seen.map(({ seq }) => seq), [8, 9, 10]);
});
