/** What `hd` exits with, and what a second `hd up` sees. */
import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { BusyboxRig, noBusybox } from './busybox.ts';
import { noFuse, unable } from './rig.ts';

const service = (name: string, command: string, more = ''): string => `[services.${name}]\ncommand = ${JSON.stringify(command)}\n${more}\n`;

describe('attached, and exit codes', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  before(() => void (rig = new BusyboxRig()));
  after(async () => await rig[Symbol.asyncDispose]());

  test('a second hd up attaches: it sees the same restart, with its cause and its time, and ends with the environment', async () => {
    const project = await rig.environment('twice', service('web', 'cat page.txt; exec sleep 1000', 'watch = ["*.txt"]\nready = { log = "version" }'), { 'page.txt': 'version 1\n' });
    await using first = project.start('up');
    await first.waitFor(/Up in /);
    await using second = project.start('up');
    await second.waitFor(/already running: attached/);
    // It listens a moment after it has said so.
    for (let version = 2; !/restarted/.test(second.output()); version++) await project.edit(() => project.write('page.txt', `version ${version}\n`), { until: (event) => event.type === 'service' && event.status === 'ready' });
    for (const up of [first, second]) {
      await up.waitFor(/web {2}restarting \(page\.txt changed\)\n[^]*web {2}restarted \(page\.txt changed, \d+(?:\.\d+)? ?m?s\)/);
      assert.match(up.output(), /web +\| version \d/);
    }
    assert.equal((await project.hd('down')).code, 0);
    assert.deepEqual([(await first.exited).code, (await second.exited).code], [0, 0]);
    assert.equal(second.output().match(/already running/g)?.length, 1, second.output());
  });

  test('exit codes: 2 wrong usage, 3 a stale lock, 4 not running, 5 a timeout', async () => {
    const project = await rig.environment('codes', service('web', 'exec sleep 1000', 'ready = { log = "never" }'));
    mkdirSync(join(rig.world.dir, 'empty'), { recursive: true });
    for (const args of [['nonsense'], ['up', '--nonsense'], ['-C', join(rig.world.dir, 'empty'), 'status']]) assert.equal((await project.hd(...args)).code, 2, args.join(' '));
    for (const args of [['restart'], ['exec', 'true'], ['pull', 'x']]) assert.equal((await project.hd(...args)).code, 4, args.join(' '));
    const late = await project.hd('up', '-d', '--wait-timeout', '1');
    assert.equal(late.code, 5, late.stdout + late.stderr);
    assert.equal((await project.hd('lock', '--check')).code, 3);
    assert.equal((await project.hd('exec', '-T', 'sh', '-c', 'exit 7')).code, 7);
    await project.hd('down');
    project.write('hd.toml', '[environment]\nname = "codes"\n');
    assert.equal((await project.hd('config', '-q')).code, 2);
  });
});
