import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ContainerExit, RunningContainer } from '@hyperdocker/sandbox';
import { exitUnlessAborted } from './step-runner.ts';

function untilKilled(): RunningContainer {
  const { promise, resolve } = Promise.withResolvers<ContainerExit>();
  const kill = (): Promise<ContainerExit> => {
    resolve({ code: 137, signal: 'SIGKILL' });
    return promise;
  };
  return { id: 'c', pid: 0, exit: promise, stdin: undefined, started: async () => true, signal: async () => {}, stop: kill, kill };
}

test('a container ends with its signal, whether that came while it ran or before', async () => {
  const later = new AbortController();
  const running = exitUnlessAborted(untilKilled(), later.signal);
  later.abort();
  assert.equal((await running).code, 137);
  assert.equal((await exitUnlessAborted(untilKilled(), AbortSignal.abort())).code, 137);
});
