/**
 * Edits on the host, as programs inside see them that watch files by themselves: inotifywait, node --watch, the reloaders of Flask and uvicorn, nodemon, vite. Results:
 * docs/reloaders.md.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, cpSync, existsSync, globSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { waitForHttp } from '@hyperdocker/testkit';
import { BusyboxRig, makeBusyboxRoot, noBusybox, writeOciDir } from './busybox.ts';
import { addLibraries, addProgram, addPython } from './host-programs.ts';
import type { ProjectRig } from './rig.ts';
import { noFuse, unable } from './rig.ts';

const missing = [['/usr/bin/inotifywait', 'inotify-tools'], ['/usr/lib/python3/dist-packages/flask', 'python3-flask'], ['/usr/lib/python3/dist-packages/uvicorn', 'python3-uvicorn'], ['/usr/bin/git', 'git']].filter(([path]) => !existsSync(path ?? '')).map(([, name]) => name);
const noTools = missing.length > 0 ? `not on this machine: ${missing.join(', ')}` : false;
const npmTools = join(import.meta.dirname, 'npm-tools');
const noNpmTools = existsSync(join(npmTools, 'node_modules/vite')) ? false : 'vite and nodemon are not installed in e2e/npm-tools: npm test does that';

const PYTHON = ['flask', 'jinja2', 'markupsafe', 'werkzeug', 'itsdangerous', 'click', 'uvicorn', 'h11', 'asgiref', 'typing_extensions', 'Flask', 'Jinja2', 'Werkzeug'];

const service = (name: string, command: string, more = ''): string => `[services.${name}]\ncommand = ${JSON.stringify(command)}\n${more}\n`;

/** Makes the edit, and waits for a line of this service that matches. */
async function editUntil(project: ProjectRig, name: string, pattern: RegExp, edit: () => void): Promise<void> {
  await project.edit(edit, { until: (event) => event.type === 'log' && event.service === name && pattern.test(event.text) });
}

async function urlOf(project: ProjectRig, name: string): Promise<string> {
  return (await (await project.client()).status()).services.find((each) => each.name === name)?.url ?? '';
}

/** It has seen the edit by itself. */
async function assertNotRestarted(project: ProjectRig): Promise<void> {
  for (const { name, restarts } of (await (await project.client()).status()).services) assert.equal(restarts, 0, name);
}

describe('programs that watch files', { skip: unable || noFuse || noBusybox || noTools }, () => {
  let rig: BusyboxRig;
  before(() => {
    rig = new BusyboxRig();
    const root = join(rig.world.dir, 'tools-root');
    makeBusyboxRoot(root);
    addPython(root, PYTHON);
    addProgram(root, '/usr/bin/inotifywait');
    addProgram(root, process.execPath);
    mkdirSync(join(root, 'usr/local/bin'), { recursive: true });
    renameSync(join(root, process.execPath), join(root, 'usr/local/bin/node'));
    if (noNpmTools === false) {
      cpSync(join(npmTools, 'node_modules'), join(root, 'opt/node_modules'), { recursive: true, verbatimSymlinks: true });
      for (const binding of globSync(join(npmTools, 'node_modules/**/*.node'))) addLibraries(root, binding);
    }
    writeOciDir(join(rig.world.dir, 'tools'), { layers: [root], config: { Env: ['PATH=/usr/local/bin:/usr/bin:/bin'] } });
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('inotifywait: files that are written, made, renamed, removed; another branch', async () => {
    const project = await rig.environment('events', service('watch', "exec inotifywait -m -r --format '%e %w%f' .", 'ready = { log = "established" }'), {
      'src/a': '1', 'src/b': '1', 'src/dir/c': '1', 'src/dir/d': '1', run: '#!/bin/sh\n',
    }, 'oci:../tools');
    const git = (...args: string[]): void => void execFileSync('git', ['-c', 'user.name=x', '-c', 'user.email=x@localhost', ...args], { cwd: project.dir, stdio: 'ignore' });
    chmodSync(join(project.dir, 'run'), 0o755);
    git('init', '-q');
    git('add', '.');
    git('commit', '-qm', 'one');
    await project.up();
    const seen = async (edit: () => void, ...patterns: string[]): Promise<void> => {
      const waiting = new Set(patterns);
      const lines: string[] = [];
      await project.edit(edit, { until: (event) => {
        if (event.type !== 'log') return false;
        lines.push(event.text);
        for (const pattern of waiting) if (new RegExp(`^${pattern}$`).test(event.text)) waiting.delete(pattern);
        return waiting.size === 0;
      } });
      assert.equal(waiting.size, 0, lines.join('\n'));
    };
    const at = (path: string): string => join(project.dir, path);
    await seen(() => project.write('src/a', '2'), 'MODIFY ./src/a', 'CLOSE_WRITE,CLOSE ./src/a');
    await seen(() => {
      // As vim and VS Code save.
      project.write('src/.a.swp', '3');
      renameSync(at('src/.a.swp'), at('src/a'));
    }, 'MODIFY ./src/a', 'CLOSE_WRITE,CLOSE ./src/a');
    await seen(() => project.write('src/new', '1'), 'CREATE ./src/new', 'CLOSE_WRITE,CLOSE ./src/new');
    await seen(() => renameSync(at('src/new'), at('src/newer')), 'CREATE ./src/newer', 'DELETE ./src/new');
    await seen(() => {
      copyFileSync(at('run'), at('run.new'));
      project.write('run.new', '#!/bin/sh\necho 2\n');
      chmodSync(at('run.new'), 0o755);
      renameSync(at('run.new'), at('run'));
    }, 'MOVED_TO ./run');
    await seen(() => rmSync(at('src/b')), 'DELETE ./src/b');
    await seen(() => rmSync(at('src/dir'), { recursive: true }), 'DELETE ./src/dir/c', 'DELETE ./src/dir/d', 'DELETE,ISDIR ./src/dir');
    await seen(() => git('checkout', '-qf', 'HEAD', '--', '.'), 'MODIFY ./src/a', 'CREATE ./src/b', 'CREATE,ISDIR ./src/dir');
    await assertNotRestarted(project);
    await project.hd('down');
  });

  test('node --watch, Flask and uvicorn reload by themselves, and serve what is new', async () => {
    const project = await rig.environment('reload', [
      service('node', 'exec node --watch server.mjs', 'ready = { log = "node 1" }'),
      service('flask', 'exec python3 -m flask --app flask_app --debug run --port 5111', 'port = 5111\nrestart_policy = "never"'),
      service('uvicorn', 'exec python3 -m uvicorn --reload --port 5112 asgi_app:app', 'port = 5112\nrestart_policy = "never"'),
    ].join(''), {
      'server.mjs': 'import { version } from "./version.mjs"; console.log("node", version); setInterval(() => {}, 1000);',
      'version.mjs': 'export const version = 1;',
      'flask_app.py': 'from flask import Flask\napp = Flask(__name__)\n@app.get("/")\ndef root():\n    return "flask 1"\n',
      'asgi_app.py': 'async def app(scope, receive, send):\n    assert scope["type"] == "http"\n    await send({"type": "http.response.start", "status": 200, "headers": []})\n    await send({"type": "http.response.body", "body": b"uvicorn 1"})\n',
    }, 'oci:../tools');
    await project.up();
    await editUntil(project, 'node', /^node 2$/, () => project.write('version.mjs', 'export const version = 2;'));
    for (const [name, file] of [['flask', 'flask_app.py'], ['uvicorn', 'asgi_app.py']] as const) {
      const url = await urlOf(project, name);
      assert.equal(await waitForHttp(url), `${name} 1`);
      project.replace(file, `${name} 1`, `${name} 2`);
      assert.equal(await waitForHttp(url, { until: (body) => body === `${name} 2` }), `${name} 2`);
    }
    await assertNotRestarted(project);
    await project.hd('down');
  });

  test('nodemon and vite', { skip: noNpmTools }, async () => {
    const project = await rig.environment('npm-tools', [
      service('nodemon', 'exec node /opt/node_modules/nodemon/bin/nodemon.js server.mjs', 'ready = { log = "node 1" }'),
      service('vite', 'exec node /opt/node_modules/vite/bin/vite.js --port 5113 --host 127.0.0.1', 'port = 5113\nrestart_policy = "never"'),
    ].join(''), {
      'server.mjs': 'import { version } from "./version.mjs"; console.log("node", version); setInterval(() => {}, 1000);',
      'version.mjs': 'export const version = 1;', 'index.html': '<script type="module" src="/main.js"></script>', 'main.js': 'console.log("vite 1");', 'package.json': '{"type":"module"}',
    }, 'oci:../tools');
    await project.up();
    await editUntil(project, 'nodemon', /^node 2$/, () => project.write('version.mjs', 'export const version = 2;'));
    const url = await urlOf(project, 'vite');
    assert.match(await waitForHttp(`${url}/main.js`), /vite 1/);
    // What it has once transformed it serves again, until it hears of a change.
    await editUntil(project, 'vite', /page reload/, () => project.write('main.js', 'console.log("vite 2");'));
    assert.match(await waitForHttp(`${url}/main.js`), /vite 2/);
    await assertNotRestarted(project);
    await project.hd('down');
  });
});
