import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFileSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import { processesOf } from './remains.ts';
import type { ProjectRig } from './rig.ts';
import { BuildReport, noFuse, unable } from './rig.ts';

const skip = unable || noFuse || noBusybox;

async function built(project: ProjectRig, env: Record<string, string> = {}): Promise<BuildReport> {
  const result = await project.hdWith(env, 'build', '--json');
  assert.equal(result.code, 0, result.stdout + result.stderr);
  return new BuildReport(result.stdout);
}

const event = (report: BuildReport, command: string): BuildReport['events'][number] | undefined => report.events.find(({ type, status, step }) => type === 'step' && status === 'ran' && step?.command === command);

describe('what a step says of itself', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('strings and tables in one list: names, directories, variables', async () => {
    const project = await rig.environment('mixed', `env = { ALL = "all", OVER = "environment" }
[build]
steps = [
  "echo $ALL $OVER $(pwd) > one",
  { run = "echo $ALL $OVER $SOURCE_DATE_EPOCH $(pwd) > two", name = "the second", workdir = "sub", env = { OVER = "step", SOURCE_DATE_EPOCH = "1700000000" } },
  { run = "pwd > /three", workdir = "/etc" },
]
`, { 'sub/file': '' });
    const report = await project.up();
    assert.deepEqual(report.ran, ['echo $ALL $OVER $(pwd) > one', 'the second', 'pwd > /three']);
    assert.equal((await project.hd('exec', 'cat', 'one', 'sub/two', '/three')).stdout, 'all environment /workspace\nall step 1700000000 /workspace/sub\n/etc\n');
    await project.hd('down');
    project.replace('hd.toml', '"1700000000"', '"1700000001"');
    assert.deepEqual((await built(project)).ran, ['the second'], 'its value is in the key');
  });

  test('a directory that is not there is an error, not an empty directory', async () => {
    const project = await rig.environment('wrong-dir', '[build]\nsteps = [{ run = "pwd", workdir = "sbu" }]\n', { 'sub/file': '' });
    const { code, stderr } = await project.hd('build');
    assert.equal(code, 1);
    assert.match(stderr, /step 1 of 1 runs in \/workspace\/sbu, which is no directory/);
  });

  test('inputs: the step sees what matches, and new files elsewhere do not run it', async () => {
    const list = 'find . -type f | sort > /seen';
    const project = await rig.environment('inputs', `[build]\nsteps = ["mkdir made && echo made > made/file", { run = "${list}", inputs = ["src/**", "!*.test.ts"] }]\n`, { 'src/a.ts': 'a', 'src/a.test.ts': 't', 'README': 'r' });
    await project.up();
    assert.equal((await project.hd('exec', 'cat', '/seen')).stdout, './made/file\n./src/a.ts\n');
    assert.equal((await project.hd('exec', 'cat', 'README', 'src/a.test.ts')).stdout, 'rt', 'the environment itself has everything');
    const elsewhere = await project.edit(() => project.write('docs/new.md', 'new'));
    assert(elsewhere.cached.includes(list), elsewhere.ran.join());
    const matching = await project.edit(() => project.write('src/b.ts', 'b'));
    assert(matching.ran.includes(list));
    assert.match((await project.hd('exec', 'cat', '/seen')).stdout, /b\.ts/);
    await project.hd('down');
  });

  test('outputs: only they are kept, the rest is dropped and named', async () => {
    const run = 'mkdir dist; echo app > dist/app; echo log > log; rm old; echo x > /tmp/x';
    const project = await rig.environment('outputs', `[build]\nsteps = [{ run = "${run}", outputs = ["dist", "typo"] }]\n`, { old: 'still here' });
    const report = await project.up();
    assert.deepEqual(event(report, run)?.['dropped'], { count: 3, first: '/tmp/x' });
    assert.match(String(report.events.find(({ type }) => type === 'warning')?.['message']), /\/workspace\/typo in its outputs, which is not there/);
    assert.equal((await project.hd('exec', '--', 'sh', '-c', 'cat dist/app old; ls -A . /tmp')).stdout, 'app\nstill here.:\ndist\nhd.toml\nold\n\n/tmp:\n');
    await project.hd('down');
    const shown = await project.hd('build');
    assert.match(shown.stdout, /CACHED/);
    project.replace('hd.toml', 'echo app', 'echo App');
    assert.match((await project.hd('build')).stdout, /dropped 3 paths outside of its outputs: \/tmp\/x …/);
  });

  test('no network: nothing of the host\'s, not even its resolver; with it, the step that uses it is marked', async () => {
    const look = 'cat /proc/net/dev | tail -n +3 | cut -d: -f1; cat /etc/resolv.conf /etc/hosts 2>/dev/null; env | grep -i proxy; hostname';
    const use = 'wget -q -O - http://127.0.0.1:1/ 2>/dev/null || true';
    const project = await rig.environment('network', `[build]\nnetwork = false\nsteps = ["${look}", { run = "hostname; env | grep -i proxy", network = true }, { run = "${use}", network = true }]\n`);
    const report = await built(project, { http_proxy: 'http://proxy.example:3128' });
    assert.equal(report.output.replace(/^ +/gm, ''), 'lo\nhyperdocker\nhyperdocker\nhttp_proxy=http://proxy.example:3128\n');
    const marks = [look, 'hostname; env | grep -i proxy', use].map((run) => event(report, run)?.['volatile']);
    // Where nothing can be counted, who could have is marked.
    const could = ['could use the network'];
    assert.deepEqual(marks, isDeepStrictEqual(marks[2], could) ? [[], could, could] : [[], [], ['used the network']]);
    assert.deepEqual((await built(project, { http_proxy: 'http://other.example:3128', HD_PASSTHROUGH: 'off' })).ran, [], 'the host\'s network is in no key');
  });

  test('variables of the host that a command speaks of are noted by name, and not passed', async () => {
    const project = await rig.environment('speaks', `[build]\nsteps = ["echo [$HD_TEST_SPOKEN] [$HD_TEST_ABSENT]"]\n`);
    const report = await built(project, { HD_TEST_SPOKEN: 'value', HD_TEST_UNSPOKEN: 'value' });
    assert.equal(report.output, '[] []\n');
    assert.deepEqual(event(report, 'echo [$HD_TEST_SPOKEN] [$HD_TEST_ABSENT]')?.['notPassed'], ['HD_TEST_SPOKEN']);
    assert.deepEqual((await built(project, { HD_TEST_SPOKEN: 'another' })).ran, []);
  });
});

describe('secrets', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  /** Files under the home that hold any of the texts. What is small is stored as it is, so that a search for bytes finds it. */
  function holding(...texts: string[]): string[] {
    const files = readdirSync(rig.world.dir, { recursive: true, withFileTypes: true }).filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
    return files.filter((file) => texts.some((text) => readFileSync(file).includes(text)));
  }
  const forms = (secret: string): string[] => [secret, Buffer.from(secret).toString('base64').slice(0, -4)];

  test('a step has them, as files that it alone may read and as variables; nothing and nobody else does', async () => {
    const [token, key] = [`t-${randomBytes(12).toString('hex')}`, `k-${randomBytes(12).toString('hex')}`];
    const keyFile = join(rig.world.dir, '..', `hd-key-${randomBytes(6).toString('hex')}`);
    writeFileSync(keyFile, `${key}\n`, { mode: 0o600 });
    const control = `control-${randomBytes(12).toString('hex')}`;
    const toml = `[secrets]
token = { env = "HD_TEST_TOKEN" }
key = { file = "${keyFile}" }
own.file = "private/own"
[build]
steps = [
  { run = "md5sum < /run/secrets/token; echo $TOKEN | md5sum; cat /run/secrets/token; echo; echo $TOKEN | base64; cut -c1-9 /run/secrets/token | tr -d '\\n'; sleep 0.1; cut -c10- /run/secrets/token", secrets = ["token", { id = "token", env = "TOKEN" }] },
  { run = "stat -c '%a %u' /root/key /run/secrets/own; cat /root/key /run/secrets/own; (echo more >> /root/key) 2>&1; grep /root/key /proc/mounts | cut -d' ' -f3; echo ${control}", secrets = [{ id = "key", file = "/root/key" }, "own"] },
  "ls /run/secrets /root/key; env; cat /workspace/private/own",
]
`;
    const project = await rig.environment('secret', toml.replace('"ls', '"! ls'), { 'private/own': `own-${token}`, 'private/other': 'no secret' });
    project.replace('hd.toml', 'env; cat', 'env; ! cat');
    try {
      const result = await project.hdWith({ HD_TEST_TOKEN: token }, 'up', '-d', '--wait', '--json');
      assert.equal(result.code, 0, result.stdout + result.stderr);
      const report = new BuildReport(result.stdout);
      const md5 = (text: string): string => execFileSync('md5sum', { input: text, encoding: 'utf8' });
      const [first = ''] = report.output.split(/^(?=400 0$)/m);
      assert.equal(first.replace(/^\*\*\*.{1,2}$/m, '*** in base64'), `${md5(token)}${md5(`${token}\n`)}***\n*** in base64\n***\n`);
      assert.match(report.output, /^400 0\n400 0\n\*\*\*\n\*\*\*/m);
      assert.match(report.output, /^(sh|.*): .*\/root\/key: Read-only file system$/m);
      assert.deepEqual(report.events.filter(({ type, status }) => type === 'step' && status === 'ran').map(({ volatile }) => (volatile as string[]).filter((mark) => mark !== 'could use the network')), [['had secrets'], ['had secrets'], []]);
      assert.doesNotMatch(report.output.split(control)[1] ?? '', /TOKEN/);
      for (const secret of [token, key]) assert.doesNotMatch(result.stdout + result.stderr, new RegExp(secret));
      assert.match((await project.hd('exec', '--', 'sh', '-c', 'ls private; ls /run/secrets /root/key 2>&1')).stdout, /^other\n/);
      // Larger files are compressed in the store: these are read through the file system that it makes.
      const pattern = (text: string): string => `[${text[0]}]${text.slice(1)}`;
      const search = (text: string): Promise<{ stdout: string }> => project.hd('exec', '--', 'sh', '-c', `grep -rl '${pattern(text)}' /etc /home /root /tmp /workspace /run 2>/dev/null`);
      assert.equal((await search(control)).stdout, '/workspace/hd.toml\n');
      for (const secret of [token, key]) assert.equal((await search(secret)).stdout, '');
      assert.notDeepEqual(holding(control).filter((file) => file.startsWith(rig.world.home)), [], 'the search finds what was printed');
      assert.deepEqual(holding(...forms(token), ...forms(key)), [join(project.dir, 'private/own')]);
      await project.hd('down');
      assert.deepEqual((await built(project)).ran, [], 'what is up to date needs no secret');
      assert.deepEqual((await built(project, { HD_TEST_TOKEN: 'another-value' })).ran, [], 'a value is in no key');
      assert.deepEqual(holding(...forms(token), ...forms(key)), [join(project.dir, 'private/own')]);
    } finally {
      execFileSync('rm', [keyFile]);
    }
  });

  test('a source that is not there is an error before anything runs', async () => {
    const project = await rig.environment('missing', '[secrets]\ntoken = { env = "HD_TEST_ABSENT" }\n[build]\nsteps = ["echo first", { run = "echo second", secrets = ["token"] }]\n');
    const { code, stdout, stderr } = await project.hd('build');
    assert.equal(code, 1);
    assert.match(stderr, /the secret token comes from the variable HD_TEST_ABSENT, which is not set/);
    assert.doesNotMatch(stdout, /RUN/);
  });

  test('a step that writes one down fails, names the file, and nothing of it is stored', async () => {
    const token = `t-${randomBytes(12).toString('hex')}`;
    for (const [write, path] of [['echo //r/:_authToken=$T > .npmrc', '/workspace/.npmrc'], ['printf "user:$T" | base64 > /root/auth', '/root/auth'], ['mkdir -p cache && echo $T > cache/x', '/workspace/cache/x']] as const) {
      const project = await rig.environment(`leak-${path.split('/').at(-1)}`, `[secrets]\ntoken = { env = "HD_TEST_TOKEN" }\n[build]\ncache = ["cache"]\nsteps = [{ run = '${write}', secrets = [{ id = "token", env = "T" }] }]\n`);
      const { code, stdout, stderr } = await project.hdWith({ HD_TEST_TOKEN: token }, 'build');
      assert.equal(code, 1, stdout);
      assert.match(stderr, new RegExp(`step 1 of 1 wrote the secret token to ${path.replaceAll('.', '\\.')}`));
      assert.deepEqual(holding(...forms(token)), []);
    }
  });

  test('a step that fails has its secrets masked, too', async () => {
    const token = `t-${randomBytes(12).toString('hex')}`;
    const project = await rig.environment('failing', '[secrets]\ntoken = { env = "HD_TEST_TOKEN" }\n[build]\nsteps = [{ run = "set -x; echo $T; echo $T >&2; false", secrets = [{ id = "token", env = "T" }] }]\n');
    const result = await project.hdWith({ HD_TEST_TOKEN: token }, 'build');
    assert.equal(result.code, 1);
    assert.match(result.stdout, /\+ echo \*\*\*/);
    assert.doesNotMatch(result.stdout + result.stderr, new RegExp(token));
    assert.deepEqual(holding(...forms(token)), []);
  });

  test('without FUSE it is the same', async () => {
    const token = `t-${randomBytes(12).toString('hex')}`;
    const project = await rig.environment('no-fuse', '[secrets]\ntoken = { env = "HD_TEST_TOKEN" }\n[build]\nsteps = [{ run = "cat /run/secrets/token; md5sum < /run/secrets/token > sum", secrets = ["token"] }]\n');
    const report = await built(project, { HD_TEST_TOKEN: token, HD_FUSE: 'off' });
    assert.equal(report.output, '***');
    assert.deepEqual(holding(...forms(token)), []);
  });
});

describe('no way around the trace', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('a step cannot mount, change namespaces, nor make or open devices of the host', async () => {
    const tries = ['mount -t tmpfs none /mnt', 'mount -o bind /etc /mnt', 'umount /etc/hosts', 'unshare -m true', 'unshare -U true', 'nsenter -t 1 -m true', 'chroot /proc/1/root mount -t proc p /proc', 'cat /dev/fuse', 'mknod /tmp/d c 10 229 && cat /tmp/d', 'mknod /tmp/s b 8 0 && cat /tmp/s', 'echo 0 > /proc/sys/kernel/randomize_va_space'];
    const project = await rig.environment('ways', `[build]\nsteps = [${tries.map((command) => `'mkdir -p /mnt; ! { ${command}; }'`).join(', ')}]\n`);
    const said = (await built(project)).output.split('\n').filter((line) => line !== '');
    assert.equal(said.filter((line) => /not permitted|denied|Read-only|No such file or directory/i.test(line)).length, tries.length);
  });

  test('what is read by way of /proc, a link or another name is traced as well', async () => {
    const ways = ['cat /proc/self/root/workspace/in', 'cat /proc/1/cwd/in', 'ln -s /workspace/in /tmp/l && cat /tmp/l', 'chroot / cat /workspace/in', 'exec 3<in; cat /proc/self/fd/3', 'cp in /tmp/c', 'ln in /tmp/hard && cat /tmp/hard'];
    const project = await rig.environment('reads', `[build]\nsteps = [${ways.map((command) => `"${command}"`).join(', ')}]\n`, { in: 'one', unread: '' });
    assert.deepEqual((await built(project)).ran, ways);
    project.write('in', 'two');
    assert.deepEqual((await built(project)).ran, ways);
    project.write('unread', 'edited');
    assert.deepEqual((await built(project)).ran, []);
  });

  test('a tracer that dies takes the step with it: nothing is kept, and the next build is right', async () => {
    const project = await rig.environment('tracer', '[build]\nsteps = ["cat in > out; echo begun; while [ -e hold ]; do sleep 0.05; done; cat late || echo lost > out"]\n', { in: 'one', hold: '', late: 'late' });
    await using hd = project.start('build');
    await hd.waitFor(/\| begun/);
    const [host, ...others] = processesOf(rig.world.home).filter(({ args }) => args.includes('fuse-host'));
    assert(host !== undefined && others.length === 0);
    process.kill(host.pid, 'SIGKILL');
    const { code, stderr } = await hd.exited;
    assert.equal(code, 1);
    assert.match(stderr, /ended unexpectedly|not recorded to the end/);
    await nothingLeft(rig.world.home);
    project.replace('hd.toml', 'while [ -e hold ]; do sleep 0.05; done; ', '');
    const again = await built(project);
    assert.equal(again.ran.length, 1);
    assert.equal((await built(project)).ran.length, 0);
  });
});

describe('cache directories', { skip }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const STEP = 'mkdir -p .c; echo had $(ls .c | tr "\\\\n" " "); name=$(cat name); echo $name > .c/$name; echo begun; test ! -e hold || sleep 1000; sha256sum in > out';
  const toml = `[build]\nsteps = [{ run = '${STEP.replaceAll('\\\\', '\\')}', cache = [".c"] }]\n`;
  const had = (report: BuildReport): string => /had(.*)/.exec(report.output)?.[1]?.trim() ?? '';

  test('two environments at once have one each', async () => {
    const [one, two] = [await rig.environment('cache-one', toml, { name: 'a', in: '1' }), await rig.environment('cache-two', toml, { name: 'b', in: '1' })];
    assert.deepEqual((await Promise.all([built(one), built(two)])).map(had), ['', '']);
    for (const project of [one, two]) project.write('in', '2');
    assert.deepEqual((await Promise.all([built(one), built(two)])).map(had), ['a', 'b']);
  });

  test('a step that is killed leaves it as it was at the last success', async () => {
    const project = await rig.environment('cache-killed', toml, { name: 'good', in: '1' });
    await built(project);
    project.write('name', 'half');
    project.write('hold', '');
    const hd = project.start('build');
    await hd.waitFor(/\| begun/);
    hd.signal('SIGINT');
    assert.notEqual((await hd.exited).code, 0);
    await nothingLeft(rig.world.home);
    execFileSync('rm', [join(project.dir, 'hold')]);
    assert.equal(had(await built(project)), 'good');
    await waitUntil('the store is whole', async () => ((await project.hd('cas', 'fsck')).code === 0 ? true : undefined));
  });

  test('it outlives the garbage collector, and comes back from the store', async () => {
    const project = await rig.environment('cache-gc', toml, { name: 'kept', in: '1' });
    await built(project);
    const gc = await project.hd('cas', 'gc');
    assert.equal(gc.code, 0, gc.stderr);
    project.write('in', '2');
    assert.equal(had(await built(project)), 'kept');
  });
});
