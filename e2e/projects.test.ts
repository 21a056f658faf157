import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { waitForHttp } from '@hyperdocker/testkit';
import type { BuildReport, ProjectRig } from './rig.ts';
import { Rig, noFuse, unable } from './rig.ts';

describe('a Node project: npm ci and a TypeScript build', { skip: unable || noFuse }, () => {
  let rig: Rig;
  let node: ProjectRig;
  before(async () => {
    rig = new Rig();
    node = await rig.example('node-ts', 3000);
    node.write('NOTES.md', 'nothing reads this');
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('both steps run, and the server answers', async () => {
    assert.deepEqual((await node.up()).ran, ['npm ci', 'npm run build']);
    await waitForHttp(node.url);
  });

  test('an edit of a source runs the build alone, and the new code is served', async () => {
    const report = await node.edit(() => node.write('src/greet.ts', node.read('src/greet.ts').replace('Hello', 'Good day')));
    assert.deepEqual([report.ran, report.cached], [['npm run build'], ['npm ci']]);
    assert.match(await waitForHttp(node.url, { until: (body) => body.includes('Good day') }), /Good day/);
  });

  test('going back to the old source runs nothing at all', async () => {
    const report = await node.edit(() => node.write('src/greet.ts', node.read('src/greet.ts').replace('Good day', 'Hello')));
    assert.deepEqual([report.ran, report.cached.length], [[], 2]);
    assert.match(await waitForHttp(node.url, { until: (body) => body.includes('Hello') }), /Hello/);
  });

  test('an edit of package.json runs both; of a file that nothing reads, none', async () => {
    const touched = await node.edit(() => node.write('package.json', node.read('package.json').replace('"private": true', '"private": true,\n  "description": "edited"')));
    assert.deepEqual(touched.ran, ['npm ci', 'npm run build']);
    const notes = await node.edit(() => node.write('NOTES.md', 'and nothing reads that'));
    assert.deepEqual(notes.ran, []);
    // A new file is another matter: tsc lists the directory (npm does not: strace agrees).
    const added = await node.edit(() => node.write('MORE.md', ''));
    assert.deepEqual(added.ran, ['npm run build']);
  });
});

describe('a Python project of several packages', { skip: unable || noFuse }, () => {
  let rig: Rig;
  let python: ProjectRig;
  before(async () => {
    rig = new Rig();
    python = await rig.example('python-packages', 8000);
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('three steps run, and the service answers', async () => {
    assert.equal((await python.up()).ran.length, 3);
    await waitForHttp(python.url);
  });

  test('an edit of one package installs that package and runs the tests, and leaves the other alone', async () => {
    const file = 'libs/report/src/report/__init__.py';
    const report = await python.edit(() => python.write(file, `${python.read(file)}\n# a comment\n`));
    assert.equal(report.ran.length, 2);
    assert.match(report.ran[0] ?? '', /libs\/report$/);
    assert.match(report.ran[1] ?? '', /unittest/);
    assert.match(report.cached[0] ?? '', /libs\/units$/);
  });

  test('an edit of the application runs no step', async () => {
    const report = await python.edit(() => python.write('app.py', `${python.read('app.py')}\n# a comment\n`));
    assert.deepEqual(report.ran, []);
  });
});

describe('a C project', { skip: unable || noFuse }, () => {
  let rig: Rig;
  let c: ProjectRig;
  before(async () => {
    rig = new Rig();
    c = await rig.example('c-make', 8080);
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('make runs, and the binary answers', async () => {
    assert.deepEqual((await c.up()).ran, ['make']);
    await waitForHttp(c.url);
  });

  test('an edit of a source is compiled and served', async () => {
    const [file = ''] = readdirSync(join(c.dir, 'src')).filter((name) => name.endsWith('.c')).map((name) => `src/${name}`);
    const report = await c.edit(() => c.write(file, `${c.read(file)}\n/* edited */\n`));
    assert.deepEqual(report.ran, ['make']);
    await waitForHttp(c.url);
  });
});

describe('a C project with its objects in a cache directory', { skip: unable || noFuse }, () => {
  let rig: Rig;
  let c: ProjectRig;
  before(async () => {
    rig = new Rig();
    c = await rig.example('c-make', 8080);
    c.replace('hd.toml', 'steps = ["make"]', 'steps = ["make"]\ncache = ["build"]');
  });
  after(async () => await rig[Symbol.asyncDispose]());

  const compiled = (report: BuildReport): string[] => [...report.output.matchAll(/-c -o \S+ (\S+\.c)/g)].map((match) => match[1] ?? '').sort();
  const good = 'return PAGE_TEXT;';
  const edited = 'return "Edited\\n" PAGE_TEXT;';

  test('the first build compiles everything; an edit compiles its own file alone, and the new binary answers', async () => {
    assert.deepEqual(compiled(await c.up()), ['src/main.c', 'src/page.c', 'src/server.c']);
    assert.doesNotMatch(await waitForHttp(c.url), /Edited/);
    const report = await c.edit(() => c.replace('src/page.c', good, edited));
    assert.deepEqual(compiled(report), ['src/page.c']);
    await waitForHttp(c.url, { until: (body) => body.includes('Edited') });
  });

  test('back to the old source: the old binary, never a stale one, and nothing runs', async () => {
    const report = await c.edit(() => c.replace('src/page.c', edited, good));
    assert.deepEqual(report.ran, []);
    await waitForHttp(c.url, { until: (body) => !body.includes('Edited') });
  });

  test('one file goes back to what it was while another is edited: no object of the version between is linked', async () => {
    const edits = (): void => {
      c.replace('src/page.c', good, edited);
      c.write('src/server.c', `${c.read('src/server.c')}/* edited */\n`);
    };
    await c.edit(edits);
    await waitForHttp(c.url, { until: (body) => body.includes('Edited') });
    // The directory holds the objects of the edited page.c, all of them newer than the source that comes back was, when it was new.
    const report = await c.edit(() => {
      c.replace('src/page.c', edited, good);
      c.write('src/server.c', `${c.read('src/server.c')}/* and again */\n`);
    }, { until: (event) => event.type === 'change' });
    assert(compiled(report).includes('src/page.c'), report.output);
    await waitForHttp(c.url, { until: (body) => !body.includes('Edited') });
  });

  test('a failed build keeps the old service, and leaves nothing in the directory', async () => {
    await c.edit(() => c.replace('src/page.c', good, `${good}\n#error broken`), { until: (event) => event.type === 'warning' });
    assert.doesNotMatch(await waitForHttp(c.url), /Edited/);
    const report = await c.edit(() => c.replace('src/page.c', `${good}\n#error broken`, `${edited} /* mended */`));
    assert.deepEqual(compiled(report), ['src/page.c']);
    await waitForHttp(c.url, { until: (body) => body.includes('Edited') });
  });
});

describe('zlib, as Debian has it: a C library from outside, with configure, make and tests', { skip: unable || noFuse || sourcesUnreachable() }, () => {
  let rig: Rig;
  let zlib: ProjectRig;
  before(async () => {
    rig = new Rig();
    zlib = await rig.project('zlib', {
      'hd.toml': `[environment]
name = "zlib"
base = "apt://bookworm?include=gcc,libc6-dev,make,python3"

[build]
steps = ["./configure --static", "make -j2 all", "./example && ./minigzip < zlib.h > zlib.h.gz"]

[services.files]
command = "python3 -m http.server PORT --bind 127.0.0.1"
port = PORT

[files]
exclude = ["debian"]
`,
    });
    unpackSource('zlib', zlib.dir);
  });
  after(async () => await rig[Symbol.asyncDispose]());

  test('it is configured, built and tested, and what was built is served', async () => {
    assert.equal((await zlib.up()).ran.length, 3);
    const archive = Buffer.from(await (await fetch(`${zlib.url}libz.a`)).arrayBuffer());
    assert.equal(archive.toString('latin1', 0, 7), '!<arch>');
  });

  test('an edit of a change log runs nothing', async () => {
    assert.deepEqual((await zlib.edit(() => zlib.write('ChangeLog', `edited\n${zlib.read('ChangeLog')}`))).ran, []);
  });

  test('a comment in a source runs make, but not the tests: the binaries come out the same', async () => {
    const report = await zlib.edit(() => zlib.write('inflate.c', `${zlib.read('inflate.c')}/* edited */\n`));
    assert.deepEqual(report.ran, ['make -j2 all']);
    assert.equal(report.cached.length, 2);
  });

  test('an edit that changes the code runs make and the tests', async () => {
    const report = await zlib.edit(() => zlib.write('zutil.c', zlib.read('zutil.c').replace('"need dictionary"', '"need a dictionary"').replace('"stream end"', '"end of stream"')));
    assert.deepEqual(report.ran.map((command) => command.split(' ')[0]), ['make', './example']);
  });

  test('of the headers, configure reads some: an edit of zconf.h.in runs it', async () => {
    const report = await zlib.edit(() => zlib.write('zconf.h.in', `${zlib.read('zconf.h.in')}/* edited */\n`));
    assert.equal(report.ran[0], './configure --static');
  });
});

/** The Debian mirror that this machine uses, or undefined. */
function mirror(): string | undefined {
  try {
    const sites = execFileSync('apt-get', ['indextargets', '--format', '$(SITE) $(RELEASE)'], { encoding: 'utf8' }).split('\n');
    return sites.map((line) => line.split(' ')).find(([site = '', release]) => release === 'bookworm' && /\/debian\/?$/.test(site))?.[0];
  } catch {
    return undefined;
  }
}

function sourcesUnreachable(): string | false {
  return mirror() === undefined ? 'this machine has no Debian mirror to take the source from' : false;
}

/** The newest upstream source of a Debian package, unpacked into `dir`. */
function unpackSource(name: string, dir: string): void {
  const state = join(dir, '..', 'apt');
  for (const sub of ['lists/partial', 'cache', 'source']) mkdirSync(join(state, sub), { recursive: true });
  const list = join(state, 'sources.list');
  execFileSync('sh', ['-c', `echo "deb-src [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] ${mirror()} bookworm main" > "$0"`, list]);
  const options = ['-q', '-o', `Dir::Etc::SourceList=${list}`, '-o', 'Dir::Etc::SourceParts=-', '-o', `Dir::State::Lists=${join(state, 'lists')}`, '-o', `Dir::Cache=${join(state, 'cache')}`, '-o', 'APT::Sandbox::User=root'];
  execFileSync('apt-get', [...options, 'update'], { stdio: 'ignore' });
  execFileSync('apt-get', [...options, 'source', '--download-only', name], { cwd: join(state, 'source'), stdio: 'ignore' });
  const archive = readdirSync(join(state, 'source')).find((file) => /\.orig\.tar\./.test(file));
  assert(archive !== undefined, 'the source package has an upstream archive');
  execFileSync('tar', ['-xf', join(state, 'source', archive), '--strip-components=1', '-C', dir]);
  assert(readFileSync(join(dir, 'hd.toml'), 'utf8').includes('zlib'));
}
