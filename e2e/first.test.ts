import assert from 'node:assert/strict';
import { readFileSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { envPaths, findProject, openHome } from '@hyperdocker/environment';
import { waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

/** A debounce so long that only the first moment of a batch can be meant. */
const DEBOUNCE = '[options]\ndebounce = "3s"\ndebounce_max = "6s"\n';

describe('the first moment of a save', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;
  let inside: string;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('first', `[build]\nsteps = ["cat a.txt > /built"]\n[services.idle]\ncommand = "exec sleep 1000"\nwatch = ["a.txt"]\n${DEBOUNCE}`, { 'a.txt': 'one\n', 'b.txt': 'b\n' });
    await project.up();
    const client = await project.client();
    // All files are looked at once more after a start, in the queue that this waits for: an edit before that would not wait for its batch.
    await client.changes();
    const { pid } = await client.status();
    inside = join(`/proc/${pid}/root`, envPaths(openHome(rig.world.env), findProject(project.dir)).liveDir, 'merged/workspace');
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const read = (path: string): string => readFileSync(join(inside, path), 'utf8');
  const save = (path: string, text: string): void => {
    project.write(`${path}.new`, text);
    renameSync(join(project.dir, `${path}.new`), join(project.dir, path));
  };

  test('it is seen inside before its batch goes out, which builds and restarts', async () => {
    const startedMs = performance.now();
    let shownMs = 0;
    const report = await project.edit(() => {
      save('a.txt', 'two\n');
      void waitUntil('it is seen inside', () => (read('a.txt') === 'two\n' ? true : undefined)).then(() => (shownMs = performance.now() - startedMs));
    });
    const builtMs = performance.now() - startedMs;
    assert(shownMs > 0 && shownMs < builtMs - 1_000, `shown after ${shownMs} ms, built after ${builtMs} ms`);
    assert.deepEqual(report.ran, ['cat a.txt > /built']);
    assert.deepEqual(report.events.find(({ type }) => type === 'change')?.changes, [{ path: 'a.txt', change: 'changed' }]);
  });

  test('what is taken back before its batch goes out is as it was, inside too, and nothing is built or restarted', async () => {
    save('b.txt', 'otherwise\n');
    await waitUntil('it is seen inside', () => (read('b.txt') === 'otherwise\n' ? true : undefined));
    const { last } = await (await project.client()).status();
    save('b.txt', 'b\n');
    await waitUntil('it is as it was', () => (read('b.txt') === 'b\n' ? true : undefined));
    const seen: string[] = [];
    for await (const event of (await project.client()).events(last, AbortSignal.timeout(300))) seen.push(event.type);
    assert.deepEqual(seen.filter((type) => ['step', 'change', 'warning'].includes(type)), []);
  });
});
