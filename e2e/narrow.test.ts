import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout, waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig, noBusybox } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const noTmux: string | false = spawnSync('tmux', ['-V']).status === 0 ? false : 'no tmux on this machine';
const COLUMNS = 40;

describe('a terminal of 40 columns', { skip: unable || noFuse || noBusybox || noTmux }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('a-rather-long-name-of-an-environment', '[services.page]\ncommand = "httpd -f -p PORT -h /workspace/site/with/a/long/path/to/it"\nport = PORT\nwatch = ["site/**/*.html", "templates/**/*.html"]\n[services.quiet]\ncommand = "sleep 1000"\n', { 'site/with/a/long/path/to/it/index.html': 'x' });
    await project.up();
  });
  after(async () => await rig[Symbol.asyncDispose]());

  /** What the terminal shows when the command is done, line by line, without those that its own width has broken being joined. */
  const shown = async (...args: string[]): Promise<string[]> => {
    const socket = join(rig.world.dir, `tmux-${args.join('-')}`);
    const tmux = (...words: string[]): string => execFileSync('tmux', ['-S', socket, '-f', '/dev/null', ...words], { encoding: 'utf8', env: { ...process.env, ...rig.world.env, HD_DEV: '1', CI: '' } });
    tmux('new-session', '-d', '-x', String(COLUMNS), '-y', '60', '-c', project.dir, `${join(checkout, 'hd')} ${args.join(' ')}; echo "<end $?>"; exec sleep 600`);
    try {
      return await waitUntil('the command is done', () => {
        const text = tmux('capture-pane', '-p');
        return /<end 0>/.test(text) ? text.slice(0, text.indexOf('<end')).trimEnd().split('\n') : undefined;
      }, { timeoutMs: 60_000 });
    } finally {
      tmux('kill-server');
    }
  };

  test('hd status says all that it knows, below each other', async () => {
    const lines = await shown('status');
    const whole = lines.map((line) => line.trim()).join('');
    const { root } = await (await project.client()).status();
    for (const text of ['a-rather-long-name-of-an-environment up', `root  ${root?.slice(0, 12)}`, project.dir, 'page ready', `http://localhost:${project.port}`, '/site/with/a/long/path/to/it', 'quiet ready']) assert(whole.includes(text), `${text} in:\n${lines.join('\n')}`);
    assert(lines.every((line) => line.length <= COLUMNS));
    // Broken where it should be, not by the terminal: what belongs to something is indented.
    assert(lines.every((line) => /^( {2,6}\S|a-rather|up|root|base|net|dir|pid|page|quiet|$)/.test(line)), lines.join('\n'));
  });

  test('hd ps --all has every environment', async () => {
    const lines = await shown('ps', '--all');
    const whole = lines.map((line) => line.trim()).join('');
    assert(whole.includes(`page:${project.port}`) && whole.includes(project.dir), lines.join('\n'));
    assert(lines.every((line) => line.length <= COLUMNS && /^( {2}\S|a-rather|up)/.test(line)), lines.join('\n'));
  });
});
