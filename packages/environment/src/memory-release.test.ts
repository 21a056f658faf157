import assert from 'node:assert/strict';
import { mock, test } from 'node:test';
import { MemoryRelease } from './memory-release.ts';

const MIB = 2 ** 20;

test('memory is given back when it is much, once work has been over for a while, and not again for nothing', (t) => {
  mock.timers.enable({ apis: ['setTimeout'] });
  t.after(() => mock.timers.reset());
  let resident = 300 * MIB;
  const collected: number[] = [];
  using release = new MemoryRelease({
    residentBytes: () => resident,
    collect: () => {
      collected.push(resident / MIB);
      resident = 140 * MIB;
    },
  });
  release.worked();
  mock.timers.tick(2_000);
  release.worked();
  mock.timers.tick(2_000);
  assert.deepEqual(collected, [], 'there was work in between');
  mock.timers.tick(1_000);
  assert.deepEqual(collected, [300]);
  for (const [next, expected] of [[150, [300]], [187, [300]], [190, [300, 190]], [100, [300, 190]]] as const) {
    resident = next * MIB;
    release.worked();
    mock.timers.tick(3_000);
    assert.deepEqual(collected, expected, `${next} MiB`);
  }
});

test('the collector of this engine can be called', () => {
  mock.timers.enable({ apis: ['setTimeout'] });
  let asked = 0;
  using release = new MemoryRelease({ residentBytes: () => (asked++ === 0 ? 300 * MIB : 100 * MIB) });
  release.worked();
  mock.timers.tick(3_000);
  mock.timers.reset();
  assert.equal(asked, 2);
});
