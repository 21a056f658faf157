import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statfsSync, utimesSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { randomNumbers, waitForHttp, waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const skip = unable || noFuse || noBusybox;
const WEB = '[services.web]\ncommand = "exec httpd -f -p 127.0.0.1:PORT"\nport = PORT\n';

const inside = async (project: ProjectRig, script: string): Promise<string> => (await project.hd('exec', '--', 'sh', '-c', script)).stdout;
/** None yet where `hd` was killed before it made its home. */
const supervisors = (dir: string): number[] => (existsSync(join(dir, 'envs')) ? readdirSync(join(dir, 'envs')) : []).flatMap((name) => {
  const file = join(dir, 'envs', name, 'state.json');
  return existsSync(file) ? [(JSON.parse(readFileSync(file, 'utf8')) as { pid: number }).pid] : [];
});

describe('several at once', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('two `hd up` of one project share one supervisor', async () => {
    const project = await rig.environment('shared', `[build]\nsteps = ["echo once >> /ran"]\n${WEB}`, { 'index.html': 'shared' });
    const both = await Promise.all([project.hd('up', '-d'), project.hd('up', '-d')]);
    assert.deepEqual(both.map(({ code }) => code), [0, 0], both.map(({ stderr }) => stderr).join('\n'));
    assert.equal(await waitForHttp(project.url), 'shared');
    assert.equal(await inside(project, 'cat /ran'), 'once\n');
    const mains = execFileSync('ps', ['-eo', 'args'], { encoding: 'utf8' }).split('\n').filter((line) => line.includes(`${rig.world.home}/envs`) && line.includes('guard'));
    assert.equal(mains.length, 1);
    await project.hd('down');
  });

  test('two worktrees are up at the same time and both answer; another home knows neither', async () => {
    const [first, second] = [await rig.environment('tree-one', WEB, { 'index.html': 'one' }), await rig.environment('tree-two', WEB, { 'index.html': 'two' })];
    await Promise.all([first.up(), second.up()]);
    assert.deepEqual(await Promise.all([waitForHttp(first.url), waitForHttp(second.url)]), ['one', 'two']);
    await using other = new BusyboxRig();
    const elsewhere = await first.hdWith({ HD_HOME: other.world.home }, 'status', '--json');
    assert.equal((JSON.parse(elsewhere.stdout) as { state: string }).state, 'not running');
    await first.hd('down');
    assert.equal(await waitForHttp(second.url), 'two');
    await second.hd('down');
  });

  test('umask, owner and time of a checkout do not change the root', async () => {
    const files = { 'run.sh': '#!/bin/sh\n', 'src/deep/a.c': 'int a;', 'README': 'read' };
    const toml = '[environment]\nname = "same"\nbase = "oci:../busybox"\n';
    const [first, second] = [await rig.project('clone-one', { 'hd.toml': toml, ...files }), await rig.project('clone-two', { 'hd.toml': toml, ...files })];
    for (const [clone, fileMode, dirMode] of [[first, 0o644, 0o755], [second, 0o664, 0o775]] as const) {
      for (const name of ['hd.toml', ...Object.keys(files)]) chmodSync(join(clone.dir, name), name === 'run.sh' ? fileMode | 0o111 : fileMode);
      for (const name of ['src', 'src/deep']) chmodSync(join(clone.dir, name), dirMode);
    }
    execFileSync('chown', ['-R', '1234:1234', second.dir]);
    for (const name of Object.keys(files)) utimesSync(join(second.dir, name), 1_000_000_000, 1_000_000_000);
    const roots: unknown[] = [];
    for (const clone of [first, second]) {
      assert.equal((await clone.hd('build')).code, 0);
      roots.push((JSON.parse((await clone.hd('status', '--json')).stdout) as { root: unknown }).root);
    }
    assert.match(String(roots[0]), /^[0-9a-f]{64}$/);
    assert.equal(roots[0], roots[1]);
  });

  test('a home inside its project does not take itself in', async () => {
    const project = await rig.environment('around', '', { 'a.txt': 'a' });
    const env = { HD_HOME: join(project.dir, '.home') };
    try {
      const up = await project.hdWith(env, 'up', '-d', '--wait');
      assert.equal(up.code, 0, up.stderr);
      assert.match(up.stdout, /^Files: 2 /m);
      assert.equal((await project.hdWith(env, 'exec', 'ls', '-A')).stdout, 'a.txt\nhd.toml\n');
      const again = await project.hdWith(env, 'dag', 'show');
      assert.doesNotMatch(again.stdout, /\.home/);
    } finally {
      await project.hdWith(env, 'down');
    }
  });
});

describe('interruptions', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('SIGKILL at random moments of a build: the next one works, nothing is left, the store is whole', async (t) => {
    const seed = Number(process.env['HD_TEST_SEED'] ?? Date.now() % 1_000_000);
    t.diagnostic(`HD_TEST_SEED=${seed}`);
    const random = randomNumbers(seed);
    const project = await rig.environment('killed', `[build]\nsteps = ["cat input; for i in $(seq 20); do head -c 20000 /dev/urandom > out$i; sleep 0.02; done", "cat out1 input | md5sum > sum"]\n${WEB}`, { input: '', 'index.html': 'alive' });
    for (let round = 1; round <= 10; round++) {
      project.write('input', `round ${round}\n`);
      const hd = project.start('up', '-d');
      await delay(100 + random() * 1400);
      const children = pidsOf(hd.pid);
      for (const pid of [...supervisors(rig.world.home), ...children, hd.pid]) killHard(pid);
      await hd.exited;
      await nothingLeft(rig.world.home);
    }
    await project.up();
    assert.equal(await waitForHttp(project.url), 'alive');
    assert.match(await inside(project, 'cat out1 input | md5sum | cmp - sum && echo same'), /same/);
    const fsck = await project.hd('cas', 'fsck');
    assert.equal(fsck.code, 0, fsck.stdout + fsck.stderr);
    await project.hd('down');
    await nothingLeft(rig.world.home);
  });

  test('Ctrl-C during a build leaves nothing', async () => {
    const project = await rig.environment('interrupted', '[build]\nsteps = ["echo begun; sleep 1000"]\n');
    const hd = project.start('up');
    await hd.waitFor(/\| begun/);
    hd.signal('SIGINT');
    assert.equal((await hd.exited).code, 130);
    await nothingLeft(rig.world.home);
  });

  test('a full disk is one clear error, and with space the next up works', async () => {
    const project = await rig.environment('full', '[build]\nsteps = ["dd if=/dev/urandom of=big bs=1M count=12", "test -s big && echo well > done"]\n');
    const home = join(rig.world.dir, 'small-home');
    mkdirSync(home);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=8m', 'tmpfs', home]);
    try {
      const full = await project.hdWith({ HD_HOME: home }, 'up', '-d');
      assert.equal(full.code, 1);
      assert.match(full.stdout + full.stderr, /no space left on (the )?(device|disk)|disk is full/i);
      assert.doesNotMatch(full.stderr, /^ +at /m);
      await nothingLeft(join(home, 'envs'));
      execFileSync('mount', ['-o', 'remount,size=100m', home]);
      const roomy = await project.hdWith({ HD_HOME: home }, 'up', '-d');
      assert.equal(roomy.code, 0, roomy.stdout + roomy.stderr);
      assert.equal((await project.hdWith({ HD_HOME: home }, 'exec', 'cat', 'done')).stdout, 'well\n');
      assert.equal((await project.hdWith({ HD_HOME: home }, 'cas', 'fsck')).code, 0);
    } finally {
      await project.hdWith({ HD_HOME: home }, 'down');
      execFileSync('umount', [home]);
    }
  });
});

describe('a home that takes nothing', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  /** Room for what the step writes, and not for the store's copy of it. */
  const LEFT_BYTES = 3 << 20;
  const STEPS = '[build]\nsteps = ["cat input > out; dd if=/dev/urandom of=big bs=1M count=2"]\n';
  /** What a build started in the background writes there a moment longer. */
  const onceUnused = (program: string, ...args: string[]): Promise<true> => waitUntil(`${program} ${args.join(' ')}`, async () => (spawnSync(program, args).status === 0 ? true : undefined));
  const remount = (home: string, option: string): Promise<true> => onceUnused('mount', '-o', `remount,${option}`, home);
  const fillUp = (home: string): void => {
    const { bavail, bsize } = statfsSync(home);
    writeFileSync(join(home, 'filler'), Buffer.alloc(bavail * bsize - LEFT_BYTES));
  };
  for (const [what, spoil, mend, message] of [
    ['full', fillUp, (home: string): void => rmSync(join(home, 'filler')), /cannot write .*disk is full/i],
    ['read-only', (home: string) => remount(home, 'ro'), (home: string) => remount(home, 'rw'), /read-only/i],
  ] as const) {
    test(`hd build on a ${what} disk is one clear error, loses nothing, and works once that is mended`, async () => {
      const project = await rig.environment(`build-${what}`, STEPS, { input: 'one' });
      const home = join(rig.world.dir, `home-${what}`);
      mkdirSync(home);
      execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'tmpfs', home]);
      // What Node keeps of compiled code is written when a process ends, and would take of the room that is left.
      const env = { HD_HOME: home, NODE_DISABLE_COMPILE_CACHE: '1' };
      try {
        const first = await project.hdWith(env, 'build');
        assert.equal(first.code, 0, first.stdout + first.stderr);
        const { root } = JSON.parse((await project.hdWith(env, 'status', '--json')).stdout) as { root: string };
        await spoil(home);
        project.write('input', 'two');
        const failed = await project.hdWith(env, 'build');
        assert.equal(failed.code, 1, failed.stdout + failed.stderr);
        assert.match(failed.stdout + failed.stderr, message);
        assert.doesNotMatch(failed.stderr, /^ +at /m);
        await mend(home);
        const fsck = await project.hdWith(env, 'cas', 'fsck');
        assert.equal(fsck.code, 0, fsck.stdout + fsck.stderr);
        project.write('input', 'one');
        const again = await project.hdWith(env, 'build');
        assert.equal(again.code, 0, again.stdout + again.stderr);
        assert.equal((JSON.parse((await project.hdWith(env, 'status', '--json')).stdout) as { root: string }).root, root, 'what was built before is still there');
      } finally {
        await onceUnused('umount', home);
      }
    });
  }
});

describe('edits of all kinds', { skip }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;
  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('edited', WEB, { 'index.html': 'here', 'dir/sub/a': 'a', 'dir/b': 'b', 'swap': 'a file' });
    await project.up();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const arrives = (script: string, expected: string): Promise<true> => waitUntil(script, async () => ((await inside(project, script)) === expected ? true : undefined));

  test('names with spaces, newlines, invalid UTF-8 and emoji', async () => {
    const names = [Buffer.from('with space'), Buffer.from('new\nline'), Buffer.from([0x62, 0xff, 0xfe]), Buffer.from('🦔 é'), Buffer.from('-dash'), Buffer.from('*')];
    mkdirSync(join(project.dir, 'odd'));
    for (const name of names) writeFileSync(Buffer.concat([Buffer.from(`${project.dir}/odd/`), name]), name);
    await arrives('for f in odd/*; do n=$(cat "$f"; echo .); [ "odd/${n%.}" = "$f" ] && echo same; done', 'same\n'.repeat(names.length));
    await project.edit(() => writeFileSync(Buffer.concat([Buffer.from(`${project.dir}/odd/`), Buffer.from([0x62, 0xff, 0xfe])]), 'again'));
    assert.equal(await inside(project, 'cat odd/b*'), 'again');
  });

  test('two thousand files at once are few batches and all arrive', async () => {
    const client = await project.client();
    const { last } = await client.status();
    for (let i = 0; i < 2000; i++) project.write(`many/${i % 40}/file${i}`, `branch ${i}`);
    await arrives('find many -type f | wc -l', '2000\n');
    const stop = new AbortController();
    let batches = 0;
    const { last: now } = await client.status();
    for await (const event of client.events(last, stop.signal)) {
      if (event.type === 'change') batches++;
      if (event.seq >= now) break;
    }
    assert(batches >= 1 && batches <= 5, `${batches} batches`);
    assert.equal(await inside(project, 'cat many/39/file1999'), 'branch 1999');
    const removal = await project.edit(() => rmSync(join(project.dir, 'many'), { recursive: true }));
    assert(removal.events.length > 0);
    await arrives('ls -d many 2>/dev/null', '');
  });

  test('a directory that is deleted, renamed, replaced by a file and back', async () => {
    renameSync(join(project.dir, 'dir'), join(project.dir, 'moved'));
    await arrives('ls -d dir 2>/dev/null; cat moved/sub/a moved/b', 'ab');
    rmSync(join(project.dir, 'moved'), { recursive: true });
    await arrives('ls -d moved 2>/dev/null', '');
    await project.edit(() => {
      rmSync(join(project.dir, 'swap'));
      project.write('swap/inner', 'now a directory');
    });
    await arrives('cat swap/inner', 'now a directory');
    await project.edit(() => {
      rmSync(join(project.dir, 'swap'), { recursive: true });
      project.write('swap', 'a file again');
    });
    await arrives('cat swap', 'a file again');
  });

  test('a file and a directory of one name, faster than anybody can watch: the last one counts', async () => {
    const flicker = await rig.environment('flicker', '', { swap: 'a file' });
    await flicker.up();
    for (let round = 0; round < 20; round++) {
      rmSync(join(flicker.dir, 'swap'), { recursive: true });
      flicker.write('swap/inner', `directory ${round}`);
      await delay(round % 5);
      rmSync(join(flicker.dir, 'swap'), { recursive: true });
      flicker.write('swap', `file ${round}`);
      await delay(round % 3);
    }
    await waitUntil('the last file is inside', async () => ((await inside(flicker, 'cat swap')) === 'file 19' ? true : undefined), { timeoutMs: 8000 });
  });

  test('an edit right after up is not missed', async () => {
    const fresh = await rig.environment('fresh', '', { 'a.txt': 'before' });
    await fresh.up();
    fresh.write('a.txt', 'after');
    await waitUntil('it is inside', async () => ((await inside(fresh, 'cat a.txt')) === 'after' ? true : undefined), { timeoutMs: 5000 });
  });

  test('an edit while up is under way is not missed', async () => {
    const early = await rig.environment('early', '[build]\nsteps = ["sleep 0.5"]\n', { 'a.txt': 'before' });
    const up = early.start('up', '-d');
    await up.waitFor(/RUN sleep/);
    early.write('a.txt', 'after');
    assert.equal((await up.exited).code, 0);
    await waitUntil('it is inside', async () => ((await inside(early, 'cat a.txt')) === 'after' ? true : undefined), { timeoutMs: 5000 });
  });

  test('hd.toml: a service more, a mistake, and mended', async () => {
    const good = project.read('hd.toml');
    const withWorker = `${good}[services.worker]\ncommand = "exec sleep 1000"\n`;
    const ready = (name: string) => ({ until: (event: { type: string; name?: string; status?: string }): boolean => event.type === 'service' && event.name === name && event.status === 'ready' });
    await project.edit(() => project.write('hd.toml', withWorker), ready('worker'));
    await waitForHttp(project.url);
    const broken = await project.edit(() => project.write('hd.toml', `${withWorker}prot = 1\n`), { until: ({ type }) => type === 'warning' });
    assert.match(String(broken.events.at(-1)?.['message']), /hd\.toml:\d+: unknown key "prot"/);
    assert.equal(await waitForHttp(project.url), 'here');
    await project.edit(() => project.write('hd.toml', withWorker.replace('sleep 1000', 'sleep 2000')), ready('worker'));
    assert.match((await project.hd('status')).stdout, /sleep 2000/);
  });
});

/** Children of a process that a test has started. */
function pidsOf(parent: number): number[] {
  const table = execFileSync('ps', ['-eo', 'pid,ppid'], { encoding: 'utf8' }).trim().split('\n').slice(1).map((line) => line.trim().split(/\s+/).map(Number));
  return table.flatMap(([pid, ppid]) => (pid !== undefined && ppid === parent ? [pid] : []));
}

function killHard(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
