/**
 * A store after a power cut: at every operation of a long life, with what the disk may have kept of it. All moments take minutes; by default some are
 * chosen, always the same. HD_CRASH_ALL=1 takes them all, HD_TEST_SEED others.
 */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { faultyDisk } from '../faulty-disk/faulty-disk.ts';
import type { Operation } from '../faulty-disk/operation.ts';
import { PowerCuts, imageDigest, writeImage } from '../faulty-disk/power-cut.ts';
import { randomNumbers } from '../random-numbers.ts';
import type { Survival } from '../faulty-disk/power-cut.ts';
import { inMountNamespace } from '../mount-namespace.ts';
import { checkStore } from './check-store.ts';
import { addFailure, rehearse } from './rehearse.ts';
import type { Failure } from './rehearse.ts';
import { STEPS, WAYS } from './workload.ts';
import type { Expectation, Way } from './workload.ts';

const seed = Number(process.env['HD_TEST_SEED'] ?? 1);
const everything = process.env['HD_CRASH_ALL'] === '1';
/** Random images for each moment. */
const RANDOM_IMAGES = 4;
const DEFAULT_IMAGES = 300;

if (inMountNamespace(import.meta.filename)) {
  const root = mkdtempSync(join(tmpdir(), 'hd-crash-'));
  // In memory: the disk's own syncs would take most of the time. It goes with the mount namespace, or below.
  execFileSync('mount', ['-t', 'tmpfs', 'hd-crash', root]);
  after(() => {
    execFileSync('umount', [root]);
    rmdirSync(root);
  });

  for (const way of ['batch', 'strict'] as const) {
    test(`a store is whole after a power cut at any moment: ${way}`, async (t) => {
      const dir = join(root, way);
      const history = rehearse(join(dir, 'rehearsal'), way);
      const log = await recordLife(dir, way);
      const operations = log.filter(({ kind }) => kind !== 'mark').length;
      const outcome = checkCuts(dir, way, log, history);
      t.diagnostic(`seed ${seed}, ${operations} operations, ${outcome.images} images checked of ${outcome.possible}, ${outcome.repeated} the same as another`);
      assert.deepEqual(outcome.failures, []);
    });
  }
}

async function recordLife(dir: string, way: Way): Promise<Operation[]> {
  await using disk = await faultyDisk();
  await disk.record();
  const script = fileURLToPath(new URL('./workload.child.ts', import.meta.url));
  const child = spawn(process.execPath, [script, disk.path, join(disk.path, 'store'), join(dir, 'host'), way], { stdio: 'inherit' });
  const [status] = (await once(child, 'exit')) as [number | null];
  assert.equal(status, 0, 'the life of the store on a whole disk');
  return await disk.takeLog();
}

interface Outcome {
  images: number;
  possible: number;
  repeated: number;
  failures: Failure[];
}

function checkCuts(root: string, way: Way, log: Operation[], history: Expectation[]): Outcome {
  const survivals = (position: number): Survival[] => [
    { kind: 'none' },
    { kind: 'all' },
    ...Array.from({ length: RANDOM_IMAGES }, (_, i): Survival => ({ kind: 'random', seed: seed * 7919 + position * 31 + i })),
  ];
  const outcome: Outcome = { images: 0, possible: log.length * survivals(0).length, repeated: 0, failures: [] };
  const choose = randomNumbers(seed);
  const share = everything ? 1 : DEFAULT_IMAGES / outcome.possible;
  const seen = new Set<string>();
  const cuts = new PowerCuts(log);
  let steps = 0;
  for (let operation = cuts.next(); operation !== undefined; operation = cuts.next()) {
    if (operation.kind === 'mark') steps = Number(operation.text);
    for (const survival of survivals(cuts.position)) {
      if (choose() >= share) continue;
      const image = cuts.image(survival);
      const key = `${steps} ${imageDigest(image)}`;
      if (seen.has(key)) {
        outcome.repeated++;
        continue;
      }
      seen.add(key);
      outcome.images++;
      const dir = join(root, `image-${outcome.images}`);
      mkdirSync(dir);
      try {
        writeImage(image, dir);
        checkStore(join(dir, 'store'), WAYS[way], expectationAt(history, steps, survival.kind === 'all' || way === 'strict'));
      } catch (error) {
        const first = `operation ${cuts.position} (${describe(operation)}), after ${steps} steps (next: ${STEPS[steps]?.name}), survival ${JSON.stringify(survival)}`;
        addFailure(outcome.failures, error, first);
      }
      rmSync(dir, { recursive: true });
    }
  }
  return outcome;
}

/** In the step after `steps`. Of what a step adds or takes away, either may be seen; without durability, refs may be as they were any time ago. */
function expectationAt(history: Expectation[], steps: number, isDurable: boolean): { refs: Expectation['refs'][]; objects: Expectation['objects'] } {
  const [before, next] = [history[steps]!, history[steps + 1] ?? history[steps]!];
  const kept = new Set(next.objects.map(({ kind, digest }) => `${kind} ${digest}`));
  const oldest = isDurable ? steps : 0;
  return {
    refs: history.slice(oldest, steps + 2).map(({ refs }) => refs),
    objects: before.objects.filter(({ kind, digest }) => kept.has(`${kind} ${digest}`)),
  };
}

function describe(operation: Operation): string {
  if (operation.kind === 'write') return `write of ${operation.bytes.length} bytes at ${operation.offset} of inode ${operation.ino}`;
  return JSON.stringify(operation);
}
