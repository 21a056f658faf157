/** Which files count, and why: ignore files, and what says so. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const service = (name: string, command: string, more = ''): string => `[services.${name}]\ncommand = ${JSON.stringify(command)}\n${more}\n`;

async function seenInside(project: ProjectRig): Promise<string[]> {
  const { stdout } = await project.hd('exec', '-T', 'sh', '-c', 'find . -type f | sort');
  return stdout.split('\n').filter((line) => line !== '');
}

describe('which files count', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  before(() => void (rig = new BusyboxRig()));
  after(async () => await rig[Symbol.asyncDispose]());

  test('an ignore file counts from the start, and its change at once', async () => {
    const project = await rig.environment('ignored', `${service('web', 'exec sleep 1000')}[files]\nexclude = ["*.tmp", "!a.log"]\nignore_files = [".gitignore"]\n`, {
      '.gitignore': '*.log\nbuild/\n', 'src/.gitignore': '!keep.log\n', 'a.log': '', 'b.log': '', 'src/keep.log': '', 'build/x': '', 'c.tmp': '', 'd': '',
    });
    await project.up();
    const always = ['./.gitignore', './a.log', './d', './hd.toml', './src/.gitignore', './src/keep.log'];
    assert.deepEqual(await seenInside(project), always);
    await project.edit(() => project.write('.gitignore', '*.log\n/d\n'));
    assert.deepEqual(await seenInside(project), ['./.gitignore', './a.log', './build/x', './hd.toml', './src/.gitignore', './src/keep.log']);
    await project.hd('down');
    // Changed while nobody looked.
    project.write('src/.gitignore', '');
    await project.up();
    assert.deepEqual(await seenInside(project), ['./.gitignore', './a.log', './build/x', './hd.toml', './src/.gitignore']);
    const { stdout } = await project.hd('watch', ...['a.log', 'b.log', 'src/c.tmp', 'target', 'd', 'new', 'src'].flatMap((path) => ['--explain', path]));
    assert.deepEqual(stdout.split('\n'), [
      'a.log counts: exclude "!a.log" (hd.toml:8)',
      'b.log does not count: "*.log" in .gitignore:1',
      'src/c.tmp does not count: exclude "*.tmp" (hd.toml:8); it is not there now',
      'target does not count: default "target"; it is not there now',
      'd does not count: "/d" in .gitignore:2',
      'new counts: everything that is not excluded; it is not there now',
      'src counts: everything that is not excluded',
      '',
    ]);
    assert.equal((await project.hd('watch')).code, 2);
    await project.hd('down');
  });

  test('debounce: one batch for what comes within it', async () => {
    const project = await rig.environment('slow', `${service('web', 'exec sleep 1000')}[options]\ndebounce = "700ms"\ndebounce_max = "5s"\n`);
    await project.up();
    const { last } = await (await project.client()).status();
    const started = performance.now();
    const report = await project.edit(() => {
      project.write('a', '1');
      setTimeout(() => project.write('b', '1'), 300);
    });
    const changes = report.events.find(({ type }) => type === 'change')?.['changes'] as { path: string }[];
    assert.deepEqual([changes.map(({ path }) => path), performance.now() - started >= 1000, last > 0], [['a', 'b'], true, true]);
    await project.hd('down');
  });
});
