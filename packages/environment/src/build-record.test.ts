import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import type { ActionDefinition } from '@hyperdocker/engine';
import { Asked, definitionKey } from '@hyperdocker/engine';
import type { BuildRecord, RunReason, StepRecord } from './build-record.ts';
import { counterpart, readBuildRecord, reasonText, refineReason, unreached, writeBuildRecord } from './build-record.ts';
import type { StepId } from './events.ts';

const dir = mkdtempSync(join(tmpdir(), 'hd-record-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const INPUT = 'ab'.repeat(32) as TreeDigest;

function planned(index: number, command: string, extra: Partial<ActionDefinition> = {}, name = command): { id: StepId; definition: ActionDefinition } {
  return { id: { index, total: 3, command: name, line: index + 4 }, definition: { command, workdir: '/w', env: {}, user: '0:0:', platform: 'linux/amd64', network: true, cacheDirs: [], ...extra } };
}

function record(step: ReturnType<typeof planned>, outcome: StepRecord['outcome'] = 'ran'): StepRecord {
  return { step: step.id, definition: step.definition, key: definitionKey(step.definition), input: INPUT, outcome, lastRun: { atMs: 1, durationMs: 2, reason: { why: 'never-ran' } } };
}

function previous(...steps: StepRecord[]): BuildRecord {
  return { schema: 'hd.build-record/1', atMs: 1, workdir: '/w', steps };
}

test('a record is written whole, readable by its owner alone, and read again; what is none is none', () => {
  const file = join(dir, 'build.json');
  assert.equal(readBuildRecord(file), undefined);
  const steps = [record(planned(1, 'make'))];
  writeBuildRecord(file, '/w', steps);
  const read = readBuildRecord(file);
  assert.deepEqual([read?.workdir, read?.steps], ['/w', steps]);
  assert.equal(statSync(file).mode & 0o777, 0o600);
  for (const text of ['', '{"schema":"hd.build', '{"schema":"hd.build-record/2","steps":[]}', '{"schema":"hd.build-record/1"}']) {
    writeFileSync(file, text);
    assert.equal(readBuildRecord(file), undefined, text);
  }
});

test('the same step in the build before: by its key, its command, its name, its place', () => {
  const [one, two, three] = [planned(1, 'make'), planned(2, 'make test', {}, 'tests'), planned(3, 'make install')];
  const build = previous(record(one), record(two), record(three));
  const found = (step: ReturnType<typeof planned>): number | undefined => counterpart(build, step, definitionKey(step.definition))?.step.index;
  assert.equal(found(planned(3, 'make')), 1, 'moved');
  assert.equal(found(planned(1, 'make test', { env: { A: '1' } }, 'renamed')), 2, 'another environment');
  assert.equal(found(planned(1, 'make check', {}, 'tests')), 2, 'another command of that name');
  assert.equal(found(planned(3, 'make all')), 3, 'another command there');
  assert.equal(found(planned(4, 'make all')), undefined);
  assert.equal(found({ ...planned(3, 'make all'), id: { ...planned(3, 'make all').id, line: 0 } }), undefined, 'what [dependencies] stands for is not what a step stands for');
  assert.equal(counterpart(undefined, one, definitionKey(one.definition)), undefined);
});

test('what never ran in this form, but in another, says in what they differ', () => {
  const before = record(planned(1, 'make'));
  const text = (extra: Partial<ActionDefinition>): string => reasonText(refineReason({ why: 'never-ran' }, before, { ...before.definition, ...extra }));
  assert.equal(text({ command: 'make all' }), 'its command changed');
  assert.equal(text({ env: { A: '1' } }), 'the variable A is new (1)');
  assert.equal(text({ workdir: '/v', network: false }), 'its workdir changed (/w → /v), its network changed (yes → no)');
  assert.equal(text({ cacheDirs: ['/c'] }), 'its cache changed (none → /c)');
  assert.equal(text({}), 'it has never run');
  assert.deepEqual(refineReason({ why: 'never-ran' }, undefined, before.definition), { why: 'never-ran' });
  assert.deepEqual(refineReason({ why: 'never-ran' }, { ...before, outcome: 'failed' }, before.definition), { why: 'failed' });
  const { input: _, ...unseen } = before;
  assert.deepEqual(refineReason({ why: 'never-ran' }, { ...unseen, outcome: 'not reached' }, { ...before.definition, command: 'other' }), { why: 'never-ran' }, 'it has run in no form');
  assert.deepEqual(refineReason({ why: 'asked' }, before, { ...before.definition, command: 'other' }), { why: 'asked' });
});

test('reasons in words, of what is and of what was', () => {
  const changed: RunReason = { why: 'changed', path: 'w/a', asked: Asked.content, before: 'file 1', after: 'absent' };
  const cases: [RunReason, now: string, then: string][] = [
    [{ why: 'never-ran' }, 'it has never run', 'it had never run before'],
    [{ why: 'failed' }, 'it failed the last time', 'it had failed the time before'],
    [{ why: 'results-gone' }, 'its outputs are no longer in the store', 'its outputs were no longer in the store'],
    [{ why: 'changed-unknown' }, 'something that it looked at changed', 'something that it looked at changed'],
    [changed, 'the content of /w/a changed (file 1 → absent)', 'the content of /w/a changed (file 1 → absent)'],
    [{ ...changed, asked: Asked.listing, by: 'ls w' }, 'the list of /w/a changed (file 1 → absent), which `ls w` looked at', 'the list of /w/a changed (file 1 → absent), which `ls w` looked at'],
    [{ ...changed, asked: Asked.stat }, 'the presence of /w/a changed (file 1 → absent)', 'the presence of /w/a changed (file 1 → absent)'],
    [{ ...changed, asked: Asked.stat, after: 'file 2' }, 'the kind, size, mode or owner of /w/a changed (file 1 → file 2)', 'the kind, size, mode or owner of /w/a changed (file 1 → file 2)'],
    [{ why: 'definition', changes: [{ part: 'variable', name: 'A', before: '1' }] }, 'the variable A is gone', 'the variable A is gone'],
    [{ why: 'asked' }, 'you asked for it', 'you asked for it'],
  ];
  for (const [reason, now, then] of cases) assert.deepEqual([reasonText(reason), reasonText(reason, 'then')], [now, then]);
});

test('steps that a build did not reach keep what was known of them', () => {
  const plan = [planned(1, 'make broken'), planned(2, 'make test'), planned(3, 'new')];
  const rest = unreached(plan, 1, previous(record(planned(1, 'make')), record(planned(2, 'make tests'))));
  assert.deepEqual(rest.map(({ step, outcome }) => [step.index, step.command, outcome]), [[2, 'make test', 'not reached'], [3, 'new', 'not reached']]);
  assert.deepEqual([rest[0]?.definition.command, rest[0]?.input], ['make tests', INPUT], 'what it ran as');
  assert.deepEqual([rest[1]?.input, rest[1]?.lastRun], [undefined, undefined]);
  assert.deepEqual(unreached(plan, 3, undefined), []);
});
