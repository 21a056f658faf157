import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { processStartTime } from '@hyperdocker/base';
import { besideStore, environmentOf, sweepBeside } from './beside-store.ts';
import type { Home } from './home.ts';
import { envPaths, openHome } from './home.ts';
import { noteUse } from './known-environments.ts';

const world = mkdtempSync(join(tmpdir(), 'hd-beside-'));
after(() => rmSync(world, { recursive: true }));
const NOW = Date.now();
const DAY_MS = 86_400_000;

function home(name: string): Home {
  return openHome({ HD_HOME: join(world, name) });
}

function put(file: string, sizeBytes: number, ageMs = 0): string {
  mkdirSync(join(file, '..'), { recursive: true });
  writeFileSync(file, Buffer.alloc(sizeBytes, 'x'));
  utimesSync(file, new Date(NOW - ageMs), new Date(NOW - ageMs));
  return file;
}

test('volumes are listed with their project, those of projects that are gone too, and found by it', () => {
  const here = home('volumes');
  const [kept, gone] = ['kept', 'gone'].map((name) => {
    const dir = join(world, name);
    mkdirSync(dir);
    const paths = envPaths(here, { dir, specFile: join(dir, 'hd.toml') });
    noteUse(paths, { project: dir });
    put(join(paths.dir, 'volumes', 'data', 'file'), 100_000);
    return { dir, paths };
  });
  assert(kept !== undefined && gone !== undefined);
  rmSync(gone.dir, { recursive: true });
  const { volumes } = besideStore(here);
  assert.deepEqual(volumes.map((volume) => [volume.name, volume.project, volume.gone]).sort(), [['data', gone.dir, true], ['data', kept.dir, false]]);
  for (const { sizeBytes } of volumes) assert(sizeBytes >= 100_000 && sizeBytes < 200_000);
  assert.equal(environmentOf(here, gone.dir)?.id, gone.paths.id);
  assert.equal(environmentOf(here, join(world, 'never')), undefined);
  sweepBeside(here, { partials: true, caches: true });
  assert.equal(besideStore(here).volumes.length, 2, 'nothing sweeps volumes');
});

test('parts of downloads go after a week, or when they are asked for; those under way stay', () => {
  const here = home('partials');
  const old = put(join(here.partialDir, `${'a'.repeat(64)}.1-0-0`), 50_000, 8 * DAY_MS);
  const young = put(join(here.partialDir, `${'b'.repeat(64)}.1-0-0`), 50_000, DAY_MS);
  const busy = put(join(here.partialDir, `${'c'.repeat(64)}.${process.ppid}-${processStartTime(process.ppid) ?? ''}-0`), 50_000, 8 * DAY_MS);
  assert.equal(besideStore(here).partials.count, 3);
  const planned = sweepBeside(here, { partials: true, dryRun: true }).partials;
  assert(planned >= 100_000 && existsSync(old) && existsSync(young));
  assert(sweepBeside(here, {}).partials >= 50_000);
  assert.deepEqual([old, young, busy].map(existsSync), [false, true, true]);
  sweepBeside(here, { partials: true });
  assert.deepEqual([young, busy].map(existsSync), [false, true]);
});

test('compiled code that is a month old goes', () => {
  const here = home('compiled');
  const [old, young] = [31, 1].map((days) => put(join(here.compiledDir, 'v26', String(days)), 1_000, days * DAY_MS)) as [string, string];
  sweepBeside(here, { dryRun: true });
  assert(existsSync(old));
  sweepBeside(here, {});
  assert.deepEqual([old, young].map(existsSync), [false, true]);
});

test('caches of builds go only when they are asked for, and while no build runs', () => {
  const here = home('caches');
  put(join(here.dir, 'caches', 'one', 'file'), 70_000);
  assert.equal(besideStore(here).caches.count, 1);
  assert.equal(sweepBeside(here, { partials: true }).caches, 0);
  const running = join(here.dir, 'builds', 'running', String(process.pid));
  mkdirSync(running, { recursive: true });
  assert.deepEqual(sweepBeside(here, { caches: true }), { partials: 0, caches: 0, cachesInUse: true });
  rmSync(running, { recursive: true });
  assert(sweepBeside(here, { caches: true, dryRun: true }).caches >= 70_000);
  assert.equal(besideStore(here).caches.count, 1);
  assert(sweepBeside(here, { caches: true }).caches >= 70_000);
  assert.deepEqual(besideStore(here).caches, { count: 0, sizeBytes: 0 });
});
