/** What a build is going to do, what it did and why, and what differs: asked of real builds. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import { lookupPath, openStore } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import { envPaths, envRef, findProject, openHome } from '@hyperdocker/environment';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { BuildReport, noFuse, unable } from './rig.ts';

interface Plan { will_run: number; may_run: number; steps: { index: number; outcome: string; reason: string }[] }
interface Why { outcome: string; lastRun?: { why: string; reason: { why: string; path?: string; before?: string; after?: string; by?: string } }; facts?: { paths: number }; volatile: string[]; notPassed: string[] }

const SIZE = 'wc -c < src/a > size';
const SHOW = 'cat size > shown; cat src/b > b; wget -q -O - http://127.0.0.1:1/ 2>/dev/null; echo "${EDITOR:-none}" > editor';
const LIST = 'echo src/* > /list';
const TOML = `[build]
steps = [
  "${SIZE}",
  '${SHOW}',
  { run = "${LIST}", network = false },
]

[services.web]
command = "sleep 1000"
watch = ["src/*"]
`;

describe('hd build --dry-run, --no-cache, hd why, hd diff', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;
  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('why', TOML, { 'src/a': 'one\n', 'src/b': 'bee\n' });
  });
  after(async () => await rig[Symbol.asyncDispose]());

  /** The last JSON object that it prints. */
  async function json<T>(...args: string[]): Promise<T> {
    const { code, stdout, stderr } = await project.hd(...args, '--json');
    assert.equal(code, 0, stdout + stderr);
    return JSON.parse(stdout.trim().split('\n').at(-1) ?? '') as T;
  }

  async function built(...args: string[]): Promise<BuildReport> {
    const { code, stdout, stderr } = await project.hdWith({ EDITOR: 'vi' }, 'build', '--json', ...args);
    assert.equal(code, 0, stdout + stderr);
    return new BuildReport(stdout);
  }

  const outcomes = ({ steps }: Plan): string[] => steps.map(({ outcome }) => outcome);

  test('before the first build: all would run, and nothing does', async () => {
    const plan = await json<Plan>('build', '--dry-run');
    assert.deepEqual([plan.will_run, outcomes(plan)], [3, ['run', 'run', 'run']]);
    assert.equal((await project.hd('why')).code, 1);
    assert.deepEqual((await built()).ran, [SIZE, SHOW, LIST]);
  });

  test('after it: none would, and each says on how many facts it stands; a dry run moves nothing', async () => {
    const root = (await json<{ root: string }>('dag', 'show')).root;
    project.write('src/b', 'not built\n');
    assert.equal((await json<Plan>('build', '--dry-run')).will_run, 1);
    assert.equal((await json<{ root: string }>('dag', 'show')).root, root);
    project.write('src/b', 'bee\n');
    const plan = await json<Plan>('build', '--dry-run');
    assert.deepEqual([plan.will_run, plan.may_run, outcomes(plan)], [0, 0, ['cached', 'cached', 'cached']]);
    for (const { reason } of plan.steps) assert.match(reason, /^none of the \d+ paths that it looked at changed \(saves /);
  });

  test('a first step that ran: its marks, and the variables of the host that it was not given', async () => {
    const why = await json<Why>('why', '2');
    assert.deepEqual([why.outcome, why.lastRun?.why, why.notPassed], ['ran', 'it had never run before', ['EDITOR']]);
    assert.match(why.volatile.join(), /^(used|could use) the network$/);
    assert.deepEqual((await json<Why>('why', '3')).volatile, []);
  });

  test('an edit of the same size: one runs, the next may, and early cutoff spares it', async () => {
    project.write('src/a', 'two\n');
    const plan = await json<Plan>('build', '--dry-run');
    assert.deepEqual([plan.will_run, plan.may_run, outcomes(plan)], [1, 1, ['run', 'may run', 'cached']]);
    assert.match(plan.steps[0]?.reason ?? '', /^the content of \/workspace\/src\/a changed \(file [0-9a-f]{12} → file [0-9a-f]{12}\)/);
    assert.equal(plan.steps[1]?.reason, 'it looks at what step 1 writes');
    const report = await built();
    assert.deepEqual([report.ran, report.cached], [[SIZE], [SHOW, LIST]]);
    const { steps } = await json<{ steps: Why[] }>('why');
    assert.deepEqual(steps.map(({ outcome }) => outcome), ['ran', 'cached', 'cached']);
    const { reason } = steps[0]?.lastRun ?? {};
    assert.deepEqual([reason?.why, reason?.path], ['changed', 'workspace/src/a']);
    assert(reason?.before !== reason?.after && reason?.by !== undefined, 'both digests, and who read it');
    assert((steps[1]?.facts?.paths ?? 0) > 5);
  });

  test('an edit of another size: what may run, does', async () => {
    project.write('src/a', 'three\n');
    assert.deepEqual(outcomes(await json<Plan>('build', '--dry-run')), ['run', 'may run', 'cached']);
    assert.deepEqual((await built()).ran, [SIZE, SHOW]);
    assert.match((await json<Why>('why', '2')).lastRun?.why ?? '', /^the content of \/workspace\/size changed/);
  });

  test('two edits: what cannot be spared would run for sure', async () => {
    project.write('src/a', 'tree \n');
    project.write('src/b', 'wasp\n');
    assert.deepEqual(outcomes(await json<Plan>('build', '--dry-run')), ['run', 'run', 'cached']);
    assert.deepEqual((await built()).ran, [SIZE, SHOW]);
  });

  test('back on an earlier branch: none would run, and none does', async () => {
    project.write('src/a', 'one\n');
    project.write('src/b', 'bee\n');
    assert.equal((await json<Plan>('build', '--dry-run')).will_run, 0);
    const report = await built();
    assert.deepEqual([report.ran, report.cached.length], [[], 3]);
  });

  test('another command, and a variable more', async () => {
    project.replace('hd.toml', SIZE, SIZE.replace('-c', '-l'));
    project.replace('hd.toml', 'network = false', 'network = false, env = { SORT = "no" }');
    const plan = await json<Plan>('build', '--dry-run');
    assert.deepEqual(plan.steps.map(({ outcome, reason }) => `${outcome}: ${reason}`), ['run: its command changed', 'may run: it looks at what step 1 writes', 'run: the variable SORT is new (no)']);
    const ran = (await built()).ran.length;
    assert(ran === 2 || ran === 3);
    assert.equal((await json<Why>('why', '1')).lastRun?.why, 'its command changed');
  });

  test('--no-cache runs all, because it was asked to, and its results are those that count from then on', async () => {
    const plan = await json<Plan>('build', '--dry-run', '--no-cache');
    assert.deepEqual([plan.will_run, plan.steps.map(({ reason }) => reason)], [3, ['you asked for it', 'you asked for it', 'you asked for it']]);
    const before = (await json<{ root: string }>('dag', 'show')).root;
    const report = await built('--no-cache');
    assert.deepEqual([report.ran.length, report.cached], [3, []]);
    assert.equal((await json<{ root: string }>('dag', 'show')).root, before, 'the root stands for inputs');
    assert.equal((await json<Why>('why', '1')).lastRun?.why, 'you asked for it');
    assert.deepEqual((await built()).ran, []);
  });

  test('hd diff and hd dag diff between the roots of two builds', async () => {
    const first = (await json<{ root: string }>('dag', 'show')).root;
    project.write('src/a', 'four\n');
    project.write('src/new', '');
    await built();
    const second = (await json<{ root: string }>('dag', 'show')).root;
    const { stdout } = await project.hd('diff', first, second);
    assert.match(stdout, /^[0-9a-f]{12} → [0-9a-f]{12}\n {2}~ src\/a {2}[0-9a-f]{12} → [0-9a-f]{12}\n {2}\+ src\/new\n2 files, 0 other inputs changed\n$/);
    assert.equal((await project.hd('diff')).stdout, stdout, 'by default the previous one and the current one');
    assert.match((await project.hd('dag', 'diff', first.slice(0, 10), 'current')).stdout, /\[changed\] a .*\n.*\[new\] +new/);
    assert.equal((await project.hd('diff', second, second)).stdout, 'No differences.\n');
  });

  test('a step that fails, and those that it keeps from being reached', async () => {
    project.replace('hd.toml', 'cat size', 'ls nowhere || exit 7; cat size');
    const { code } = await project.hd('build');
    assert.equal(code, 1);
    const { stdout } = await project.hd('why');
    assert.match(stdout, /\[1\/3\] CACHED .*\n\[2\/3\] FAILED .*: its command changed\n\[3\/3\] NOT REACHED .*: a step before it failed\n/);
    project.replace('hd.toml', 'ls nowhere || exit 7; ', '');
    const { ran } = await built();
    assert.deepEqual(ran, []);
    assert.equal((await json<Why>('why', '3')).outcome, 'cached');
  });

  test('while it is up: a dry run leaves it alone, and hd why tells of restarts', async () => {
    await project.up();
    const pid = (await json<{ pid: number }>('status')).pid;
    assert.equal((await json<Plan>('build', '--dry-run')).will_run, 0);
    assert.match((await project.hd('why', 'web')).stdout, /^web: ready, restarted 0 times\n {2}it has run since the environment was started\n {2}restarts when a file changes that matches src\/\*\n/);
    await project.edit(() => project.write('src/b', 'again\n'), { until: ({ type, ...event }) => type === 'service' && 'status' in event && event.status === 'ready' });
    assert.match((await project.hd('why', 'web')).stdout, /^web: ready, restarted once\n {2}last: src\/b changed \(\d+ s ago\)\n/);
    assert.match((await project.hd('why')).stdout, /\nweb ready: src\/b changed/);
    assert.match((await project.hd('why', '2')).stdout, /ran \d+ s ago in .*: the content of \/workspace\/src\/b changed/);
    assert.match((await project.hd('why', 'src/b')).stdout, /a change of it restarts web \(watch "src\/\*"\)/);
    assert.equal((await json<{ pid: number }>('status')).pid, pid);
    await project.hd('down');
  });
});

describe('one step, run by two builds at once', { skip: unable || noFuse || noBusybox }, () => {
  test('both come to one result in the end, also where it is another one each time', async () => {
    await using rig = new BusyboxRig();
    const random = 'head -c 16 /dev/urandom | md5sum > out';
    const files = { in: 'same' };
    const projects = await Promise.all(['left', 'right'].map((name) => rig.environment(name, `[build]\nsteps = ["cat in > copy", "${random}"]\n`, files)));
    const toml = projects[0]?.read('hd.toml').replace('left', 'both') ?? '';
    for (const project of projects) project.write('hd.toml', toml);
    const build = async (): Promise<BuildReport[]> => await Promise.all(projects.map(async (project) => {
      const { code, stdout, stderr } = await project.hd('build', '--json');
      assert.equal(code, 0, stdout + stderr);
      return new BuildReport(stdout);
    }));
    const first = await build();
    for (const { ran, cached } of first) assert.equal(ran.length + cached.length, 2);
    const second = await build();
    assert.deepEqual(second.map(({ ran }) => ran), [[], []]);
    const home = openHome(rig.world.env);
    using store = openStore(home.storeDir, { nodeLinks, readOnly: true });
    const outs = projects.map(({ dir }) => {
      const tree = store.getRef(envRef(envPaths(home, findProject(dir)).id, 'tree'))?.target.digest as TreeDigest;
      const out = lookupPath(store, tree, toByteString('workspace/out'));
      return out?.kind === 'file' ? out.digest : undefined;
    });
    assert(outs[0] !== undefined);
    assert.equal(outs[0], outs[1]);
    assert.equal((await projects[0]?.hd('cas', 'fsck'))?.code, 0);
  });
});
