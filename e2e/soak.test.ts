import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { noBusybox } from './busybox.ts';
import { noFuse, unable } from './rig.ts';
import { describeUsage, leaks, soak } from './soak/soak.ts';

describe('soak', { skip: unable || noFuse || noBusybox }, () => {
  test('an hour of edits, renames, branch switches and crashes: at every quiet point the inside is the host, and nothing leaks', async (t) => {
    const seed = Number(process.env['HD_TEST_SEED'] ?? 1);
    const report = await soak({ seed, edits: 3_600, minutes: 0.4, onProgress: (text) => t.diagnostic(text) });
    t.diagnostic(`seed ${seed}: ${report.edits} edits, ${report.quietPoints} quiet points, ${describeUsage(report.usage.at(-1))}`);
    assert(report.quietPoints > 2, JSON.stringify(report));
    assert.deepEqual(leaks(report), []);
    assert.deepEqual([report.warnings, report.clashes], [[], 0]);
  });
});
