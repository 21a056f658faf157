import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { findProject, openHome } from './home.ts';
import { ProjectWatch } from './project-watch.ts';
import { specOrThrow } from './spec-file.ts';

let dir = '';
beforeEach(() => void (dir = mkdtempSync(join(tmpdir(), 'hd-project-watch-'))));
afterEach(() => rmSync(dir, { recursive: true }));

test('what is not watched is not watched by other rules either', async (t) => {
  writeFileSync(join(dir, 'hd.toml'), '[environment]\nname = "app"\nbase = "debian:bookworm"\n');
  const project = findProject(dir);
  const batches: unknown[] = [];
  const first = Promise.withResolvers<void>();
  const watch = new ProjectWatch({
    home: openHome({ HD_HOME: join(dir, 'home') }), project, hostEnv: {}, onFirst: () => {}, onError: first.reject,
    onBatch: (batch) => {
      batches.push(batch);
      first.resolve();
    },
  });
  t.after(() => watch.close());
  const { spec } = specOrThrow(project);
  // Each beginning of a watch has everything looked at, in the order in which they began.
  watch.restart(spec);
  watch.start(spec);
  await first.promise;
  await turn();
  assert.deepEqual(batches, ['rescan']);
  watch.restart(spec);
  while (batches.length < 2) await turn();
  watch.close();
  watch.restart(spec);
  await turn();
  await turn();
  assert.deepEqual(batches, ['rescan', 'rescan']);
});
