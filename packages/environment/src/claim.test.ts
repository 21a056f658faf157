import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { processStartTime } from '@hyperdocker/base';
import { claim, claimBuild, isBeingBuilt } from './claim.ts';
import { openHome, pathsOf } from './home.ts';
import { removeState, writeState } from './state-file.ts';

const dir = mkdtempSync(join(tmpdir(), 'hd-claim-'));
const home = openHome({ HD_HOME: dir });
after(() => rmSync(dir, { recursive: true }));
const never = new AbortController().signal;
const quietly = { signal: never, onWait: (): void => {}, besideSupervisor: 'refuse' } as const;

test('one build of an environment after the other, beside builds of others and whatever runs', async () => {
  const [paths, other] = [pathsOf(home, 'one'), pathsOf(home, 'two')];
  const first = await claimBuild(paths, quietly);
  await using _other = await claimBuild(other, quietly);
  await using _running = await claim(paths);
  assert(isBeingBuilt(paths));
  const told = Promise.withResolvers<void>();
  const second = claimBuild(paths, { ...quietly, onWait: told.resolve });
  await told.promise;
  await first[Symbol.asyncDispose]();
  await (await second)[Symbol.asyncDispose]();
  assert(!isBeingBuilt(paths) && isBeingBuilt(other));
});

test('waiting ends with its signal, and with a supervisor for those that leave it to that', async () => {
  const paths = pathsOf(home, 'three');
  mkdirSync(paths.dir);
  await using _held = await claimBuild(paths, quietly);
  const stop = new AbortController();
  await assert.rejects(claimBuild(paths, { ...quietly, signal: stop.signal, onWait: () => stop.abort(new Error('enough')) }), /enough/);
  writeState(paths.stateFile, { version: 1, pid: process.pid, startTime: processStartTime(process.pid) ?? '', project: dir, name: 'three', runtime: '', runtimeRoot: '' });
  await assert.rejects(claimBuild(paths, quietly), { code: 'ALREADY_RUNNING' });
  const waits = new AbortController();
  await assert.rejects(claimBuild(paths, { signal: waits.signal, besideSupervisor: 'wait', onWait: () => waits.abort(new Error('its own state is no reason')) }), /no reason/);
  removeState(paths.stateFile);
});
