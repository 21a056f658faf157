import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { processStartTime } from '@hyperdocker/base';
import type { SupervisorState } from './state-file.ts';
import { isAlive, readState, removeState, writeState } from './state-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'hd-state-'));
after(() => rmSync(dir, { recursive: true, force: true }));
const file = join(dir, 'state.json');
const stateOf = (pid: number): SupervisorState => ({ version: 1, pid, startTime: processStartTime(pid) ?? '', project: '/p', name: 'n', runtime: 'runc', runtimeRoot: '/r' });

test('it is written whole, for its owner alone, and read again', () => {
  assert.equal(readState(file), undefined);
  writeState(file, stateOf(process.pid));
  writeState(file, stateOf(process.pid));
  assert.deepEqual(readState(file), stateOf(process.pid));
  assert.equal(statSync(file).mode & 0o777, 0o600);
  assert.deepEqual(readdirSync(dir), ['state.json']);
  writeFileSync(file, '{"version": 1, "pi');
  assert.equal(readState(file), undefined, 'cut short');
  removeState(file);
  removeState(file);
  assert.equal(readState(file), undefined);
});

test('a process is alive while it runs, and no other that got its number is', async () => {
  assert.equal(isAlive(stateOf(process.pid)), true);
  assert.equal(isAlive({ ...stateOf(process.pid), startTime: '1' }), false);
  const child = spawn('cat', { stdio: ['pipe', 'ignore', 'ignore'] });
  await once(child, 'spawn');
  const state = stateOf(child.pid ?? 0);
  assert.equal(isAlive(state), true);
  child.stdin.end();
  await once(child, 'exit');
  assert.equal(isAlive(state), false);
});
