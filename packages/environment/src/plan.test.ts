import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { toByteString } from '@hyperdocker/base';
import { TreeBuilder, openMemoryStore } from '@hyperdocker/cas';
import type { Image } from '@hyperdocker/oci';
import { EMPTY_CONFIG } from '@hyperdocker/oci';
import { parseSpec } from '@hyperdocker/spec';
import type { Plan } from './plan.ts';
import { dependencyPackages, makePlan } from './plan.ts';

const root = mkdtempSync(join(tmpdir(), 'hd-plan-'));
after(() => rmSync(root, { recursive: true, force: true }));
const store = openMemoryStore();

function image(config: Partial<Image['config']> = {}): Image {
  const builder = new TreeBuilder(store);
  const passwd = 'root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n';
  builder.set(toByteString('etc/passwd'), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(passwd)), size: passwd.length });
  const tree = builder.finish();
  return { tree, source: 'debian:12', resolved: tree, config: { ...EMPTY_CONFIG, ...config } };
}

function plan(toml: string, config: Partial<Image['config']> = {}): Plan {
  const parsed = parseSpec(`[environment]\nname = "app"\nbase = "debian:12"\n${toml}`);
  assert(parsed.ok, JSON.stringify(parsed));
  return makePlan(store, { spec: parsed.spec, image: image(config), projectDir: root, platform: 'linux/amd64', base: 'debian:12' });
}

test('steps are the dependencies first, then the build, with their lines', () => {
  const { steps, packages } = plan('[dependencies]\napt = ["make", "gcc"]\n\n[build]\nsteps = ["make", "make test"]\n');
  assert.deepEqual(steps.map(({ id }) => [id.index, id.total, id.line]), [[1, 3, 0], [2, 3, 8], [3, 3, 8]]);
  assert.match(steps[0]?.definition.command ?? '', /^apt-get update .*apt-get install .* make gcc$/);
  assert.equal(steps[0]?.definition.env['DEBIAN_FRONTEND'], 'noninteractive');
  assert.equal(steps[1]?.definition.env['DEBIAN_FRONTEND'], undefined);
  assert.deepEqual(packages.map(({ provider, name }) => `${provider}/${name}`), ['oci/debian:12', 'apt/gcc', 'apt/make']);
});

test('where and as whom: the image, unless hd.toml says otherwise', () => {
  assert.deepEqual([plan('').workdir, plan('', { workdir: '/srv' }).workdir, plan('workdir = "/w"\n', { workdir: '/srv' }).workdir], ['/workspace', '/srv', '/w']);
  const app = plan('', { user: 'app', env: { PATH: '/opt/bin', LANG: 'de' } });
  assert.deepEqual([app.user.uid, app.user.gid, app.env['HOME'], app.env['PATH'], app.env['LANG']], [1000, 1000, '/home/app', '/opt/bin', 'de']);
  assert.deepEqual([plan('').user.uid, plan('').env['HOME']], [0, '/root']);
  assert.throws(() => plan('', { user: 'nobody-here' }), { code: 'USER_NOT_FOUND' });
});

test('cache directories are absolute, and belong to build steps', () => {
  const { steps } = plan('[dependencies]\napt = ["make"]\n[build]\nsteps = ["make"]\ncache = ["target", "/root/.cache"]\n');
  assert.deepEqual(steps.map(({ definition }) => definition.cacheDirs), [[], ['/workspace/target', '/root/.cache']]);
});

test('what a step says of itself: absolute paths, over what [build] says', () => {
  const { steps } = plan(`workdir = "/w"
env = { A = "all", B = "all" }
[build]
cache = ["c"]
network = false
steps = ["plain", { run = "make", name = "bundle", workdir = "web", inputs = ["src/**"], outputs = ["dist", "/out"], env = { B = "own" }, network = true, cache = ["c", "/root/.c"], secrets = ["s", { id = "t", env = "T" }] }]
[secrets]
s = { env = "S" }
t = { env = "T" }
`);
  const [plain, own] = steps.map(({ definition }) => definition);
  assert.deepEqual([plain?.workdir, plain?.network, plain?.cacheDirs, plain?.inputs, plain?.outputs, plain?.secrets], ['/w', false, ['/w/c'], undefined, undefined, undefined]);
  assert.deepEqual([own?.workdir, own?.network, own?.cacheDirs, own?.inputs, own?.outputs], ['/w/web', true, ['/w/c', '/w/web/c', '/root/.c'], ['src/**'], ['/w/web/dist', '/out']]);
  assert.deepEqual(own?.secrets, [{ id: 's', file: '/run/secrets/s' }, { id: 't', file: '/run/secrets/t', env: 'T' }]);
  assert.deepEqual([plain?.env['B'], own?.env['A'], own?.env['B']], ['all', 'all', 'own']);
  assert.deepEqual(steps.map(({ id }) => id.command), ['plain', 'bundle']);
});

test('what cannot be installed is refused', () => {
  assert.throws(() => plan('[dependencies]\nbrew = ["jq"]\n'), { code: 'PROVIDER_UNSUPPORTED' });
});

/** Runs the check of a version for real, where `program` prints `says`; absent when undefined. */
function check(provider: string, wanted: string, program: string, says: string | undefined): { ok: boolean; stderr: string } {
  const { steps } = plan(`[dependencies]\n${provider} = ${JSON.stringify(wanted)}\n`);
  const bin = mkdtempSync(join(root, 'bin-'));
  if (says !== undefined) writeFileSync(join(bin, program), `#!/bin/sh\ncat <<'EOF_SAYS'\n${says}\nEOF_SAYS\n`, { mode: 0o755 });
  // The other tools of a base image; none of the runtimes that the machine may have.
  const tools = join(root, 'tools');
  mkdirSync(tools, { recursive: true });
  for (const tool of ['grep', 'cat']) if (!existsSync(join(tools, tool))) writeFileSync(join(tools, tool), `#!/bin/sh\nexec ${spawnSync('sh', ['-c', `command -v ${tool}`], { encoding: 'utf8' }).stdout.trim()} "$@"\n`, { mode: 0o755 });
  const run = spawnSync('/bin/sh', ['-c', steps[0]?.definition.command ?? 'false'], { encoding: 'utf8', cwd: root, env: { PATH: `${bin}:${tools}` } });
  return { ok: run.status === 0, stderr: run.stderr };
}

test('the check of a version, run by a real shell', () => {
  const cases: [provider: string, wanted: string, program: string, says: string, ok: boolean][] = [
    ['node', '20', 'node', 'v20.11.0', true],
    ['node', '20.11', 'node', 'v20.11.0', true],
    ['node', '20.x', 'node', 'v20.11.0', true],
    ['node', 'v20', 'node', 'v20.11.0', true],
    ['node', '20.1', 'node', 'v20.11.0', false],
    ['node', '11', 'node', 'v20.11.0', false],
    ['node', '2', 'node', 'v20.11.0', false],
    ['node', '20', 'node', 'v120.0.0', false],
    ['python', '3.11', 'python3', 'Python 3.11.2', true],
    ['python', '3.1', 'python3', 'Python 3.11.2', false],
    ['go', '1.22', 'go', 'go version go1.22.3 linux/amd64', true],
    ['go', '1.2', 'go', 'go version go1.22.3 linux/amd64', false],
    ['rust', '1.79.0', 'rustc', 'rustc 1.79.0 (129f3b996 2024-06-10)', true],
    ['java', '17', 'java', 'openjdk version "17.0.9" 2023-10-17', true],
    ['ruby', '3.1', 'ruby', 'ruby 3.1.2p20 (2022-04-12 revision 4491bb740a)', true],
    ['ruby', '3x1', 'ruby', 'ruby 3.1.2p20', false],
  ];
  for (const [provider, wanted, program, says, ok] of cases) assert.equal(check(provider, wanted, program, says).ok, ok, `${provider} = "${wanted}", and it says ${says}`);
});

test('what a check says when it fails', () => {
  assert.match(check('node', '22', 'node', 'v20.11.0').stderr, /hd: \[dependencies\] node = "22", but the base image has: v20\.11\.0/);
  assert.match(check('node', '22', 'node', undefined).stderr, /but the base image has: no node/);
});

test('a version is text: the shell runs nothing of it', () => {
  const mark = join(root, 'ran');
  // Without spaces: with them it is no version by the schema.
  const run = `echo>${mark}`;
  for (const wanted of [`20';${run};'`, `$(${run})`, `\`${run}\``, `20";${run};"`]) {
    assert.throws(() => check('node', wanted, 'node', 'v20.11.0'), { code: 'VERSION_UNSUPPORTED' }, wanted);
    assert.equal(existsSync(mark), false, wanted);
  }
});

test('a range that cannot be checked is refused, not answered with "the base image has v20.11.0"', () => {
  for (const wanted of ['>=18', '18||20', 'lts/*', '*']) assert.throws(() => plan(`[dependencies]\nnode = "${wanted}"\n`), { code: 'VERSION_UNSUPPORTED' }, wanted);
});

test('packages by the manifests of the project', () => {
  writeFileSync(join(root, 'package.json'), JSON.stringify({ dependencies: { react: '^18.0.0', express: '^4' }, devDependencies: { jest: '^29' } }));
  const npm = (): unknown => dependencyPackages({ provider: 'npm', kind: 'file', file: 'package.json' }, root).map(({ name, version }) => `${name} ${version}`);
  assert.deepEqual(npm(), ['express ^4', 'jest ^29', 'react ^18.0.0']);
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: { 'node_modules/react': { version: '18.2.0', integrity: 'sha512-x' } } }));
  assert.deepEqual(npm(), ['express ^4', 'jest ^29', 'react 18.2.0']);
  writeFileSync(join(root, 'requirements.txt'), '# comment\nflask==3.0.0\nrequests>=2  # why\n-r other.txt\n\nuvicorn[standard] == 0.29 ; python_version > "3"\n');
  assert.deepEqual(dependencyPackages({ provider: 'pip', kind: 'file', file: 'requirements.txt' }, root).map(({ name, version }) => `${name} ${version}`), ['flask 3.0.0', 'requests any', 'uvicorn[standard] 0.29']);
  const [one, two] = ['2', '3'].map((version) => {
    writeFileSync(join(root, 'Cargo.toml'), `[package]\nversion = "${version}"\n`);
    return dependencyPackages({ provider: 'cargo', kind: 'file', file: 'Cargo.toml' }, root)[0]?.artifact;
  });
  assert.notEqual(one, two, 'a manifest that is not read is known by its bytes');
});

test('a manifest that is missing or broken', () => {
  assert.throws(() => dependencyPackages({ provider: 'npm', kind: 'file', file: 'no/package.json' }, root), { code: 'MANIFEST_MISSING' });
  writeFileSync(join(root, 'broken.json'), '{');
  assert.throws(() => dependencyPackages({ provider: 'npm', kind: 'file', file: 'broken.json' }, root), { code: 'MANIFEST_INVALID' });
});
