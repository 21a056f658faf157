import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { runHd, waitForHttp, waitUntil } from '@hyperdocker/testkit';
import { nothingLeft } from './busybox.ts';
import type { ProjectRig } from './rig.ts';
import { Rig, leftovers, noFuse, unable } from './rig.ts';

describe('flask-demo', { skip: unable || noFuse }, () => {
  let rig: Rig;
  let flask: ProjectRig;
  const install = /^pip install/;

  before(async () => {
    rig = new Rig();
    flask = await rig.example('flask-demo', 5000);
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('the first up runs the install, and the page answers', async () => {
    const report = await flask.up();
    assert.equal(report.ran.length, 1);
    assert.match(report.ran[0] ?? '', install);
    assert.match(await waitForHttp(flask.url), /Hello from Hyperdocker!/);
  });

  test('status, exec and logs work from any directory of the project', async () => {
    const status = await runHd(['status'], { cwd: join(flask.dir, 'templates'), env: rig.world.env });
    assert.equal(status.code, 0);
    assert.match(status.stdout, /flask-demo/);
    assert.match(status.stdout, /web/);
    const exec = await flask.hd('exec', '--', 'sh', '-c', 'pwd; python3 -c "import flask; print(flask.__name__)"; exit 7');
    assert.deepEqual([exec.code, exec.stdout], [7, '/workspace\nflask\n']);
    assert.equal((await flask.hd('exec', 'no-such-command')).code, 127);
    const logs = await flask.hd('logs', 'web');
    assert.match(logs.stdout, /web +\| .*Serving Flask app/);
    assert.match(logs.stderr, /web +\| .*Running on http/);
  });

  test('an edit of app.py runs no step, restarts the service, and is served', async () => {
    const report = await flask.edit(() => flask.replace('app.py', 'Hello from Hyperdocker!', 'Hello, edited!'));
    assert.deepEqual(report.ran, []);
    assert.equal(report.cached.length, 1);
    assert.match(await waitForHttp(flask.url, { until: (body) => body.includes('Hello, edited!') }), /Hello, edited!/);
  });

  test('a touch and a save of the same content do nothing', async () => {
    const report = await flask.edit(() => {
      flask.write('app.py', flask.read('app.py'));
      flask.write('unrelated.txt', 'something that no step looked at');
    });
    assert.deepEqual(report.events.filter(({ type }) => type === 'change').map(({ changes }) => changes), [[{ path: 'unrelated.txt', change: 'added' }]]);
    assert.deepEqual([report.ran, report.restarted()], [[], []]);
  });

  test('an edit of requirements.txt runs the install again and nothing else, while the service goes on', async () => {
    const report = await flask.edit(() => flask.write('requirements.txt', `${flask.read('requirements.txt')}# a comment\n`));
    assert.equal(report.ran.length, 1);
    assert.match(report.ran[0] ?? '', install);
    const reason = report.events.find(({ type, status }) => type === 'step' && status === 'running')?.reason;
    assert.match(reason ?? '', /the content of \/workspace\/requirements\.txt changed/);
    assert.match(await waitForHttp(flask.url), /Hello, edited!/);
  });

  test('dag show names the change', async () => {
    const shown = await flask.hd('dag', 'show');
    assert.match(shown.stdout, /DAG root: [0-9a-f]{12}/);
    assert.match(shown.stdout, /\[changed\]\s+Env\(flask-demo\)/);
    assert.match(shown.stdout, /\[changed\]\s+requirements\.txt/);
    assert.match(shown.stdout, /\[ok\]\s+app\.py/);
  });

  test('down leaves nothing; the second up runs nothing and has the same root', async () => {
    const { root } = await (await flask.client()).status();
    assert.equal((await flask.hd('down')).code, 0);
    assert.deepEqual(leftovers(flask.dir), []);
    await nothingLeft(join(rig.world.home, 'envs'));
    assert.equal((await flask.hd('exec', 'true')).code, 4);
    const report = await flask.up();
    assert.deepEqual([report.ran.length, report.cached.length], [0, 1]);
    assert.equal(report.events.find(({ type }) => type === 'built')?.['root'], root);
    assert.equal(report.events.find(({ type }) => type === 'built')?.['hashed'], 0);
  });

  test('changes made while down are found, listed, and applied', async () => {
    await flask.hd('down');
    flask.replace('app.py', 'Hello, edited!', 'Hello again!');
    const up = await flask.hd('up', '-d', '--wait');
    assert.equal(up.code, 0, up.stderr);
    assert.match(up.stdout, /Environment 'flask-demo' built in /);
    assert.match(up.stdout, /Changes detected since last build:\n {2}~ app\.py\n\n {2}1 changed, 0 added, 0 removed, 6 unchanged/);
    assert.match(await waitForHttp(flask.url), /Hello again!/);
  });

  test('SIGKILL of the supervisor leaves nothing running, and the next up works', async () => {
    const { pid } = await (await flask.client()).status();
    process.kill(pid, 'SIGKILL');
    await waitUntil('everything is gone', () => (leftovers(join(rig.world.home, 'envs')).length === 0 ? true : undefined));
    await assert.rejects(fetch(flask.url));
    assert.match((await flask.hd('status')).stdout, /not running/);
    await flask.up();
    assert.match(await waitForHttp(flask.url), /Hello again!/);
    const fsck = await flask.hd('cas', 'fsck');
    assert.equal(fsck.code, 0, fsck.stdout);
  });

  test('in the foreground: prefixed logs, and Ctrl-C stops everything', async () => {
    await flask.hd('down');
    await using hd = flask.start('up');
    await hd.waitFor(/web +\| .*Running on/);
    await hd.waitFor(/^Up in/m);
    await waitForHttp(flask.url);
    hd.signal('SIGINT');
    const { code, stdout } = await hd.exited;
    assert.equal(code, 0);
    assert(!stdout.includes('\u001b['), 'piped output has no escape codes');
    await nothingLeft(join(rig.world.home, 'envs'));
  });

  test('a step that fails shows its log and its line, and runs again', async () => {
    await flask.hd('down');
    const good = flask.read('hd.toml');
    flask.write('hd.toml', good.replace('[build]\nsteps = [', '[build]\nsteps = ["echo broken >&2; exit 3", '));
    for (const _ of [1, 2]) {
      const failed = await flask.hd('up', '-d');
      assert.equal(failed.code, 1);
      assert.match(failed.stderr, /broken/);
      assert.match(failed.stderr, /exit code 3/);
      assert.match(failed.stderr, /hd\.toml:6/);
    }
    await nothingLeft(join(rig.world.home, 'envs'));
    // What was read for a build that failed must not be collected: the next one does not read it again.
    flask.replace('app.py', 'Hello again!', 'Hello after a failure!');
    assert.equal((await flask.hd('up', '-d')).code, 1);
    assert.equal((await flask.hd('cas', 'gc')).code, 0);
    flask.write('hd.toml', good);
    assert.deepEqual((await flask.up()).ran, []);
    assert.match(await waitForHttp(flask.url), /Hello after a failure!/);
  });

  test('hd.toml with a wrong key is refused with its place', async () => {
    await flask.hd('down');
    const good = flask.read('hd.toml');
    flask.write('hd.toml', good.replace('port =', 'prot ='));
    const refused = await flask.hd('up', '-d');
    assert.equal(refused.code, 2);
    assert.match(refused.stderr, /hd\.toml:\d+:\d+: error: unknown key "prot"/);
    assert.match(refused.stderr, /did you mean "port"/);
    flask.write('hd.toml', good);
  });

  test('lock is deterministic and names what is installed', async () => {
    assert.equal((await flask.hd('lock')).code, 0);
    const first = flask.read('hd.lock');
    assert.equal((await flask.hd('lock')).code, 0);
    assert.equal(flask.read('hd.lock'), first);
    assert.match(first, /provider = "apt"/);
    assert.equal((await flask.hd('lock', '--check')).code, 0);
  });

  test('without FUSE it runs all the same, says that tracing is off, and an unchanged tree runs nothing', async () => {
    await flask.hd('down');
    const first = await flask.hdWith({ HD_FUSE: 'off' }, 'up', '-d', '--wait');
    assert.equal(first.code, 0, first.stderr);
    assert.match(first.stderr, /tracing is off/);
    assert.match(await waitForHttp(flask.url), /Hello after a failure!/);
    await flask.hd('down');
    const second = await flask.hdWith({ HD_FUSE: 'off' }, 'up', '-d', '--wait', '--json');
    assert.match(second.stdout, /"type":"step","status":"cached"/);
    assert.doesNotMatch(second.stdout, /"status":"ran"/);
    await flask.hd('down');
    flask.write('unrelated.txt', 'now it counts, since nobody saw what the step reads');
    const third = await flask.hdWith({ HD_FUSE: 'off' }, 'up', '-d', '--wait', '--json');
    assert.match(third.stdout, /"status":"ran"/);
    await flask.hd('down');
  });

  test('gc keeps what the environment needs', async () => {
    const gc = await flask.hd('cas', 'gc');
    assert.equal(gc.code, 0, gc.stderr);
    assert.match(gc.stdout, /Garbage collection complete:\n {2}Manifests removed: [\d,]+\n {2}Chunks removed: [\d,]+/);
    assert.deepEqual((await flask.up()).ran, []);
    assert.match(await waitForHttp(flask.url), /Hello after a failure!/);
    assert.match((await flask.hd('cas', 'stats')).stdout, /^CAS Statistics:\n {2}Chunks: [\d,]+\n {2}Manifests: [\d,]+/);
    assert(existsSync(join(rig.world.home, 'cas')));
    assert.equal(readFileSync(join(flask.dir, 'hd.lock'), 'utf8').includes(rig.world.dir), false);
  });

  test('pip install from a folder of wheels, without a network: the same precision', async () => {
    const offline = await rig.project('offline', {
      'hd.toml': `[environment]
name = "offline"
base = "apt://bookworm?include=python3,python3-pip"

[build]
steps = ["pip install --break-system-packages --no-index --find-links wheels -r requirements.txt"]
network = false

[services.web]
command = "python3 app.py"
port = PORT
watch = ["app.py", "requirements.txt"]
`,
      'requirements.txt': 'greeting==1.0\n',
      'app.py': `import http.server, greeting
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(f"page {greeting.TEXT}".encode())
http.server.HTTPServer(("127.0.0.1", PORT), Page).serve_forever()
`,
    });
    for (const version of ['1.0', '2.0']) writeWheel(join(offline.dir, 'wheels'), version);
    assert.equal((await offline.up()).ran.length, 1);
    assert.equal(await waitForHttp(offline.url), 'page greeting 1.0');
    assert.deepEqual((await offline.edit(() => offline.replace('app.py', 'page ', 'edited page '))).ran, []);
    await waitForHttp(offline.url, { until: (body) => body === 'edited page greeting 1.0' });
    assert.equal((await offline.edit(() => offline.replace('requirements.txt', '1.0', '2.0'))).ran.length, 1);
    await waitForHttp(offline.url, { until: (body) => body === 'edited page greeting 2.0' });
    await offline.hd('down');
    assert.deepEqual((await offline.up()).ran, []);
  });
});

/** A wheel is a zip archive with a few files about itself. */
function writeWheel(dir: string, version: string): void {
  const program = `
import os, sys, zipfile
folder, version = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
info = f"greeting-{version}.dist-info"
with zipfile.ZipFile(f"{folder}/greeting-{version}-py3-none-any.whl", "w") as wheel:
    wheel.writestr("greeting.py", f'TEXT = "greeting {version}"\\n')
    wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\\nName: greeting\\nVersion: {version}\\n")
    wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nGenerator: test\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    wheel.writestr(f"{info}/RECORD", "".join(f"{name},,\\n" for name in ["greeting.py", f"{info}/METADATA", f"{info}/WHEEL", f"{info}/RECORD"]))
`;
  execFileSync('python3', ['-c', program, dir, version]);
}
