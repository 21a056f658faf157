/**
 * A store on a disk that fails: at every change of a long life, with every fault. A failed call tells so with STORE_WRITE, what was there can be read, and once
 * the disk is mended the same call succeeds; in the end nothing is missing, nothing is left over, and a power cut takes nothing away. By default some
 * faults are chosen, always the same. HD_CRASH_ALL=1 takes them all, HD_TEST_SEED others.
 */
import assert from 'node:assert/strict';
import { execFileSync, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, rmSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { storeConformance } from '../../../cas/src/conformance.ts';
import { openStore } from '@hyperdocker/cas';
import type { RefTarget, Store } from '@hyperdocker/cas';
import { faultyDisk, tellDisk } from '../faulty-disk/faulty-disk.ts';
import type { FaultyDisk } from '../faulty-disk/faulty-disk.ts';
import { FAULT_KINDS } from '../faulty-disk/operation.ts';
import type { Fault, FaultKind, Operation } from '../faulty-disk/operation.ts';
import { PowerCuts, writeImage } from '../faulty-disk/power-cut.ts';
import { randomNumbers } from '../random-numbers.ts';
import { inMountNamespace } from '../mount-namespace.ts';
import { checkStore } from './check-store.ts';
import type { LifeReport } from './faults.child.ts';
import { addFailure, rehearse } from './rehearse.ts';
import type { Failure } from './rehearse.ts';
import { WAYS } from './workload.ts';
import type { Expectation, Way } from './workload.ts';

const seed = Number(process.env['HD_TEST_SEED'] ?? 1);
const everything = process.env['HD_CRASH_ALL'] === '1';
/** Of each kind. */
const DEFAULT_FAULTS = 12;
/** Lives that share a process and a disk. */
const BATCH = 30;

if (inMountNamespace(import.meta.filename)) {
  const root = mkdtempSync(join(tmpdir(), 'hd-faults-'));
  execFileSync('mount', ['-t', 'tmpfs', 'hd-faults', root]);
  const disks: FaultyDisk[] = [];
  let count = 0;
  after(async () => {
    for (const disk of disks) await disk[Symbol.asyncDispose]();
    execFileSync('umount', [root]);
    rmdirSync(root);
  });

  const whole = await faultyDisk();
  disks.push(whole);
  storeConformance('disk of the test kit', (nodeLinks) => openStore(join(whole.path, String(count++)), { nodeLinks, durability: 'strict' }));

  test('what a failed sync has lost is written again before it is promised', async () => {
    await using disk = await faultyDisk();
    await disk.record();
    using store = openStore(join(disk.path, 'life'), WAYS.strict);
    store.putBlob(Buffer.from('a pack that is there'));
    store.flush();
    const target: RefTarget = { kind: 'blob', digest: store.putBlob(Buffer.alloc(5000, 'in doubt')) };
    // The write of the pack, then its sync.
    tellDisk(disk.path, 'arm EIO 1');
    assert.throws(() => store.flush(), { code: 'STORE_WRITE' });
    assert.equal(tellDisk(disk.path, 'repair'), 1);
    assert(store.setRef('r', target));
    tellDisk(disk.path, 'mark life');
    let cuts = 0;
    cutPower(root, await disk.takeLog(), (_, dir) => {
      cuts++;
      checkStore(dir, WAYS.strict, { refs: [{ r: target }], objects: [target] });
    });
    assert.equal(cuts, 1);
  });

  test('a ref that a collection has dropped stays so, whichever sync had failed before', async () => {
    const lives = 40;
    await using disk = await faultyDisk();
    await disk.record();
    const [kept, dropped] = ['kept', 'dropped'].map((text) => Buffer.alloc(5000, text)) as [Buffer, Buffer];
    const target = (store: Store, bytes: Buffer): RefTarget => ({ kind: 'blob', digest: store.putBlob(bytes) });
    let failures = 0;
    for (let at = 0; at < lives; at++) {
      const dir = join(disk.path, `life-${at}`);
      {
        // It closes, and with that is on the disk.
        using before = openStore(dir, WAYS.batch);
        before.setRef('dropped', target(before, dropped));
      }
      using store = openStore(dir, WAYS.batch);
      // Not synced: it stands in the log before what the collection writes.
      store.setRef('kept', target(store, kept));
      const collect = (): unknown => store.gc({ demoteAfterMs: 0, waitMs: 1000, dropRefs: ['dropped'] });
      tellDisk(disk.path, `arm EIO ${at}`);
      try {
        collect();
      } catch {
        failures++;
        tellDisk(disk.path, 'repair');
        collect();
      }
      tellDisk(disk.path, 'repair');
      tellDisk(disk.path, `mark life-${at}`);
    }
    assert(failures > 5, `${failures} failures`);
    let cuts = 0;
    cutPower(root, await disk.takeLog(), (name, dir) => {
      cuts++;
      using store = openStore(dir, WAYS.batch);
      assert.deepEqual([store.getRef('dropped'), store.fsck().problems], [undefined, []], name);
    });
    assert.equal(cuts, lives);
  });

  for (const way of everything ? (['strict', 'batch'] as const) : (['strict'] as const)) {
    const history = rehearse(join(root, way), way);
    for (const kind of FAULT_KINDS) {
      test(`a store gets over ${kind} at any change: ${way}`, async (t) => {
        const faults = choose(kind, await countChanges(root, way));
        const failures: Failure[] = [];
        for (let i = 0; i < faults.length; i += BATCH) await live(root, way, faults.slice(i, i + BATCH), history, failures);
        t.diagnostic(`seed ${seed}, ${faults.length} faults`);
        assert.deepEqual(failures, []);
      });
    }
  }
}

/** What changes a whole life makes. */
async function countChanges(root: string, way: Way): Promise<readonly string[]> {
  await using disk = await faultyDisk();
  const never: Fault = { kind: 'EIO', at: 1e9 };
  await runLives(disk, root, way, [never]);
  return await disk.changes();
}

function choose(kind: FaultKind, changes: readonly string[]): Fault[] {
  const onlyWrites = kind === 'torn' || kind === 'short';
  const all = changes.flatMap((change, at): Fault[] => (onlyWrites && change !== 'write' ? [] : [{ kind, at }]));
  const chance = randomNumbers(seed);
  return everything ? all : all.filter(() => chance() < DEFAULT_FAULTS / all.length);
}

async function live(root: string, way: Way, faults: Fault[], history: Expectation[], failures: Failure[]): Promise<void> {
  await using disk = await faultyDisk();
  await disk.record();
  const reports = await runLives(disk, root, way, faults);
  assert.equal(reports.length, faults.length, 'the process came to the end');
  const log = await disk.takeLog();
  for (const { name, problems } of reports) for (const problem of problems) addFailure(failures, problem, name);
  const { refs, objects } = history.at(-1)!;
  const names = reports.map(({ name }) => name);
  for (const name of names) check(failures, `${name}, afterwards`, () => checkStore(join(disk.path, name), WAYS[way], { refs: [refs], objects }));
  const moments = way === 'strict' ? [refs] : history.map((moment) => moment.refs);
  cutPower(root, log, (name, dir) => check(failures, `${name}, and then a power cut`, () => checkStore(dir, WAYS[way], { refs: moments, objects })));
}

function check(failures: Failure[], where: string, run: () => void): void {
  try {
    run();
  } catch (error) {
    addFailure(failures, error, where);
  }
}

/** At the end of each life, with nothing left of what was not synced. */
function cutPower(root: string, log: Operation[], visit: (name: string, dir: string) => void): void {
  const cuts = new PowerCuts(log);
  for (let operation = cuts.next(); operation !== undefined; operation = cuts.next()) {
    if (operation.kind !== 'mark') continue;
    const name = operation.text;
    const image = new Map([...cuts.image({ kind: 'none' })].filter(([path]) => path === name || path.startsWith(`${name}/`)));
    const dir = join(root, 'image');
    mkdirSync(dir);
    writeImage(image, dir);
    visit(name, join(dir, name));
    rmSync(dir, { recursive: true });
  }
}

async function runLives(disk: FaultyDisk, root: string, way: Way, faults: Fault[]): Promise<LifeReport[]> {
  const script = fileURLToPath(new URL('./faults.child.ts', import.meta.url));
  const child = fork(script, [disk.path, join(root, 'host'), way, ...faults.map(({ kind, at }) => `${kind}@${at}`)]);
  const reports: LifeReport[] = [];
  child.on('message', (message) => void reports.push(message as LifeReport));
  await once(child, 'exit');
  return reports;
}
