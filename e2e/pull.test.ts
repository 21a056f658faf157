/** What the environment writes comes out: by itself where `sync_back` names it, else by `hd pull`. Nothing that happens inside removes anything on the host. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { isErrno } from '@hyperdocker/base';
import type { PullReply } from '@hyperdocker/environment';
import { waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const service = (name: string, command: string, more = ''): string => `[services.${name}]\ncommand = ${JSON.stringify(command)}\n${more}\n`;
const pulled = { until: ({ type }: { type: string }): boolean => type === 'pulled' };

async function inside(project: ProjectRig, script: string): Promise<void> {
  const { code, stderr } = await project.hd('exec', '-T', 'sh', '-c', script);
  assert.equal(code, 0, stderr);
}

async function pull(project: ProjectRig, ...args: string[]): Promise<PullReply & { code: number | null }> {
  const { code, stdout, stderr } = await project.hd('pull', '--json', ...args);
  assert.match(stdout, /^\{/, stderr);
  return { code, ...(JSON.parse(stdout) as PullReply) };
}

/** The kernel's watches of a process. Descriptors that are closed while they are listed watch nothing. */
function watchesOf(pid: number): string[] {
  return readdirSync(`/proc/${pid}/fdinfo`).flatMap((fd) => infoOf(`/proc/${pid}/fdinfo/${fd}`).split('\n').filter((line) => line.startsWith('inotify ')));
}

function infoOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    if (isErrno(error, 'ENOENT')) return '';
    throw error;
  }
}

describe('files that come out', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  before(() => void (rig = new BusyboxRig()));
  after(async () => await rig[Symbol.asyncDispose]());

  test('sync_back: what steps and commands write, without a restart; then a clash', async () => {
    const project = await rig.environment('lockfile', [
      '[build]\nsteps = ["echo locked by $(cat want) > deps.lock"]\n[files]\nsync_back = ["*.lock", "gen/**"]\n',
      service('web', 'echo up; exec sleep 1000', 'watch = ["**"]\nready = { log = "up" }'),
    ].join(''), { want: '1' });
    await project.up();
    await waitUntil('the step\'s file is there', () => (existsSync(join(project.dir, 'deps.lock')) ? true : undefined));
    assert.equal(project.read('deps.lock'), 'locked by 1\n');
    const changed = await project.edit(() => project.write('want', '2'), pulled);
    assert.equal(project.read('deps.lock'), 'locked by 2\n');
    assert.deepEqual(changed.restarted(), ['web'], 'for the edit, and once');
    const written = await project.edit(() => void inside(project, 'mkdir -p gen/deep node_modules/a; echo 1 > gen/deep/x; echo 1 > node_modules/a/b.lock; echo 1 > other; echo 1 > new.lock'), { until: (event) => event.type === 'pulled' && event.files.some(({ path }) => path === 'new.lock') });
    assert.deepEqual(written.restarted(), []);
    await waitUntil('both are there', () => (existsSync(join(project.dir, 'gen/deep/x')) ? true : undefined));
    assert.deepEqual([existsSync(join(project.dir, 'node_modules')), existsSync(join(project.dir, 'other'))], [false, false]);
    // What came out is an edit to nobody, now and at the next look.
    await project.edit(() => project.write('unrelated', ''), { until: ({ type }) => type === 'change' });
    await waitUntil('that restart is done', async () => ((await (await project.client()).status()).services[0]?.status === 'ready' ? true : undefined));
    assert.deepEqual((await (await project.client()).status()).services.map(({ restarts }) => restarts), [2]);
    await project.hd('down');
    const again = await project.up('--no-watch');
    assert.deepEqual(again.ran, []);
    project.write('new.lock', 'host');
    const clash = await project.edit(() => void inside(project, 'echo inside > new.lock'), { until: ({ type }) => type === 'clash' });
    const { path, host, inside: own, keptAt } = clash.events.find(({ type }) => type === 'clash') as Record<string, string>;
    assert.deepEqual([path, host?.length, own?.length, readFileSync(keptAt ?? '', 'utf8')], ['new.lock', 64, 64, 'inside\n']);
    assert.equal(project.read('new.lock'), 'host');
    const reply = await pull(project, 'new.lock');
    assert.deepEqual([reply.code, reply.files.map(({ outcome }) => outcome)], [1, ['clash']]);
    assert.match((await project.hd('pull')).stderr, /^clash new\.lock: changed on both sides, host [0-9a-f]{12}, inside [0-9a-f]{12}; the one inside is kept at /m);
    assert.equal((await pull(project, '--overwrite')).code, 0);
    assert.equal(project.read('new.lock'), 'inside\n');
    await project.hd('down');
  });

  test('hd pull: paths, directories, patterns; a dry run; what is not there', async () => {
    const project = await rig.environment('asked', service('web', 'exec sleep 1000'), { 'src/a.snap': '1', 'src/b.ts': '1' });
    await project.up();
    assert.equal((await project.hd('pull')).code, 2);
    await inside(project, 'echo 2 > src/a.snap; echo 2 > src/b.ts; mkdir -p cover/x; echo r > cover/x/y; mkdir .git; echo bad > .git/hook; echo "# out" >> hd.toml');
    assert.deepEqual((await pull(project, '--dry-run', 'src', 'cover')).files.map(({ path }) => path), ['cover/x/y', 'src/a.snap', 'src/b.ts']);
    assert.equal(project.read('src/a.snap'), '1');
    assert.deepEqual((await pull(project, 'src/*.snap', 'cover', '.git')).files.map(({ path, outcome }) => [path, outcome]), [['cover/x/y', 'written'], ['src/a.snap', 'written']]);
    assert.deepEqual([project.read('src/a.snap'), project.read('src/b.ts'), project.read('cover/x/y'), existsSync(join(project.dir, '.git'))], ['2\n', '1', 'r\n', false]);
    const absent = await pull(project, 'not/there');
    assert.deepEqual([absent.code, absent.unmatched], [1, ['not/there']]);
    assert.equal((await project.hd('pull', '/etc/passwd')).code, 2);
    assert.deepEqual((await project.hd('pull', 'src')).stdout.replace(/[0-9a-f]{12}/g, '#'), '~ src/b.ts  # → #\n1 file brought out.\n');
    await project.hd('down');
    assert.equal((await project.hd('pull', 'src')).code, 4);
  });

  test('--no-watch: an ignore file that comes out is obeyed, and starts no watch', async () => {
    const project = await rig.environment('unwatched', `${service('web', 'exec sleep 1000')}[files]\nignore_files = [".gitignore"]\n`, { '.gitignore': '', 'a.log': '1', b: '1' });
    await project.up('--no-watch');
    await inside(project, 'echo "*.log" > .gitignore');
    const ignored = await project.edit(() => void pull(project, '.gitignore'));
    assert.deepEqual(ignored.events.find(({ type }) => type === 'change')?.['changes'], [{ path: 'a.log', change: 'removed' }]);
    const { pid } = await (await project.client()).status();
    assert.deepEqual(watchesOf(pid), []);
    await project.hd('down');
  });

  test('rm -rf of the whole project inside touches nothing on the host, sync_back = ["**"] or not', async () => {
    const files = { 'src/a': '1', 'src/deep/b': '2', c: '3' };
    const project = await rig.environment('removed', `${service('web', 'exec sleep 1000')}[files]\nsync_back = ["**"]\n`, files);
    await project.up();
    const before = readdirSync(project.dir, { recursive: true }).sort();
    const { ino } = statSync(join(project.dir, 'src/a'));
    // The last one says that all before it has been seen.
    await project.edit(() => void inside(project, 'rm -rf /workspace/* /workspace/.[!.]*; echo new > /workspace/sentinel'), pulled);
    assert.deepEqual(readdirSync(project.dir, { recursive: true }).sort(), [...before, 'sentinel'].sort());
    for (const [path, text] of Object.entries(files)) assert.equal(project.read(path), text);
    assert.equal(statSync(join(project.dir, 'src/a')).ino, ino);
    assert.deepEqual((await pull(project)).files, []);
    await project.hd('down');
    assert.deepEqual(readdirSync(project.dir, { recursive: true }).sort(), [...before, 'sentinel'].sort());
  });

  test('what is written as it all ends still comes out', async () => {
    const project = await rig.environment('last-words', `${service('web', `trap 'echo bye > last.lock; exit 0' TERM; echo up; while :; do sleep 0.05; done`, 'ready = { log = "up" }')}[files]\nsync_back = ["*.lock"]\n`);
    await project.up();
    await project.hd('down');
    assert.equal(project.read('last.lock'), 'bye\n');
  });

  test('a step that writes something else each time is not run for ever', async () => {
    const project = await rig.environment('endless', '[build]\nsteps = ["cat n.lock > /dev/null; echo x >> n.lock"]\n[files]\nsync_back = ["*.lock"]\n', { 'n.lock': '' });
    await using up = project.start('up', '--json');
    await up.waitFor(/NOT_PULLED/);
    assert.equal(project.read('n.lock'), 'x\nx\nx\n');
    assert.match(up.output(), /a step that reads it writes it anew each time/);
    await project.hd('down');
  });
});
