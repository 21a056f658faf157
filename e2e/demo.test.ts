import assert from 'node:assert/strict';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Docker } from '@hyperdocker/demo';
import type { DemoReport } from '@hyperdocker/demo';
import { waitUntil } from '@hyperdocker/testkit';
import { DOCUMENTS } from '../packages/client/src/documents.ts';
import { BusyboxRig, noBusybox, nothingLeft } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const PROJECT = `
[build]
steps = ["sort deps.txt > /installed"]

[services.page]
command = "httpd -f -p PORT -h site"
port = PORT
watch = ["site/**"]
`;
const FILES = { 'deps.txt': 'b\na\n', 'site/index.html': '<title>x</title><h1>Good morning, everyone</h1>\n', 'site/style.css': 'h1 { color: teal }\n' };

describe('hd demo', { skip: unable || noFuse || noBusybox }, () => {
  let rig: BusyboxRig;
  let project: ProjectRig;
  let temp: string;

  before(async () => {
    rig = new BusyboxRig();
    project = await rig.environment('greeter', PROJECT, FILES);
    temp = join(rig.world.dir, 'temp');
    mkdirSync(temp);
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const times = (): number[] => Object.keys(FILES).map((path) => statSync(join(project.dir, path)).mtimeMs);
  const demo = async (env: Record<string, string>, ...args: string[]): Promise<DemoReport> => {
    const before = times();
    const result = await project.hdWith({ TMPDIR: temp, ...env }, 'demo', '--json', ...args);
    assert.equal(result.code, 0, result.stderr);
    assert.deepEqual(times(), before, 'no file of the project was written');
    await nothingLeft(temp);
    assert.deepEqual(readdirSync(temp), []);
    return DOCUMENTS['hd.demo/1'].parse(JSON.parse(result.stdout));
  };

  test('without Docker it has its own figures, says so, and leaves nothing', async () => {
    const report = await demo({}, '--no-docker', '--rounds', '1', '--plot', 'demo.svg');
    assert.deepEqual([report.dockerVersion, report.edited, report.dependency], [null, { file: 'site/index.html', phrase: 'Good morning, everyone' }, 'deps.txt']);
    assert.match(report.dockerAbsent ?? '', /left out/);
    assert.deepEqual(report.scenarios.map(({ name, sides }) => [name, sides.map(({ side, ran, steps, samplesMs }) => [side, ran, steps, samplesMs.length])]), [
      ['cold', [['hd', 1, 1, 1]]], ['edit', [['hd', 0, 1, 1]]], ['dependency', [['hd', 1, 1, 1]]], ['noop', [['hd', 0, 1, 1]]],
    ]);
    assert.match(readFileSync(join(project.dir, 'demo.svg'), 'utf8'), /^<svg [\s\S]*One-file edit[\s\S]*<\/svg>\n$/);
  });

  test('killed at its work, it leaves no environment, no directory and no edit', async () => {
    const before = times();
    await using killed = project.startWith({ TMPDIR: temp }, 'demo', '--no-docker', '--rounds', '1');
    await killed.waitFor(/One-file edit, unmeasured/);
    killed.signal('SIGKILL');
    await waitUntil('the directory of the demo is gone', () => (readdirSync(temp).length === 0 ? true : undefined), { timeoutMs: 60_000 });
    await nothingLeft(temp);
    assert.deepEqual(times(), before);
  });

  test('beside a Docker engine, all sides come to the same page', async (t) => {
    const found = await Docker.start(join(rig.world.dir, 'docker'), { install: false });
    if (!found.ok) return t.skip(`no Docker engine: ${found.why}`);
    await using docker = found.docker;
    const report = await demo({ DOCKER_HOST: docker.environment['DOCKER_HOST'] ?? '' }, '--rounds', '1');
    assert.equal(report.dockerAbsent, null);
    const ran = Object.fromEntries(report.scenarios.map(({ name, sides }) => [name, Object.fromEntries(sides.map((side) => [side.side, side.ran]))]));
    assert.deepEqual(ran['edit'], { hd: 0, 'Docker, naive Dockerfile': 1, 'Docker, well-ordered': 0, 'compose watch': 0 });
    assert.deepEqual(ran['dependency'], { hd: 1, 'Docker, naive Dockerfile': 1, 'Docker, well-ordered': 1 });
    assert.deepEqual(ran['noop'], { hd: 0, 'Docker, naive Dockerfile': 0, 'Docker, well-ordered': 0 });
    assert.deepEqual(ran['cold'], { hd: 1, 'Docker, naive Dockerfile': 1, 'Docker, well-ordered': 1 });
    assert(report.disk.every(({ addedBytes }) => addedBytes > 0), JSON.stringify(report.disk));
    assert.equal((await docker.leftOver('hd-demo')).length, 0, 'no container or image of the demo is left');
  });

  test('a project without a page is told so', async () => {
    const silent = await rig.environment('silent', '[services.quiet]\ncommand = "sleep 1000"\n');
    const result = await silent.hdWith({ TMPDIR: temp }, 'demo', '--no-docker');
    assert.equal(result.code, 1);
    assert.match(result.stderr, /needs a service that answers HTTP/);
    assert(!existsSync(join(silent.dir, 'demo.svg')));
  });
});
