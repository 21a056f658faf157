import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ActionDigest, TreeDigest } from '@hyperdocker/base';
import type { ActionDefinition } from '@hyperdocker/engine';
import { Asked } from '@hyperdocker/engine';
import type { StepRecord } from './build-record.ts';
import { reasonText, refineReason } from './build-record.ts';

const definition = { command: 'make', env: {}, cacheDirs: [] } as unknown as ActionDefinition;
const record = (outcome: StepRecord['outcome']): StepRecord => ({ step: { index: 1, total: 1, command: 'make', line: 5 }, definition, key: 'k' as ActionDigest, input: 't' as TreeDigest, outcome });

test('a step that failed has run', () => {
  assert.equal(reasonText(refineReason({ why: 'never-ran' }, record('failed'), definition)), 'it failed the last time');
  assert.equal(reasonText(refineReason({ why: 'never-ran' }, undefined, definition)), 'it has never run');
});

test('a file that was there before and after did not change its presence', () => {
  const changed = { why: 'changed', path: 'workspace/a.h', asked: Asked.stat } as const;
  assert.equal(reasonText({ ...changed, before: 'file 1', after: 'file 2' }), 'the kind, size, mode or owner of /workspace/a.h changed (file 1 → file 2)');
  assert.equal(reasonText({ ...changed, before: 'absent', after: 'file 2' }), 'the presence of /workspace/a.h changed (absent → file 2)');
});
