import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError, toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { emptyTree, openStore, setPath } from '@hyperdocker/cas';
import { nodeLinks, putEnv } from '@hyperdocker/engine';
import { parseLock } from '@hyperdocker/spec';
import { envPaths, envRef, findProject, openHome } from './home.ts';
import { lockProject } from './lock.ts';

const SPEC = '[environment]\nname = "demo"\nbase = "apt://bookworm"\n\n[dependencies]\napt = ["curl"]\npip = { file = "requirements.txt" }\n';
const STATUS = ['Package: curl\nStatus: install ok installed\nArchitecture: amd64\nVersion: 7.88.1-10', 'Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9\nConffiles:\n /etc/x 12', 'Package: old\nStatus: deinstall ok config-files\nVersion: 1'].join('\n\n');

function world(context: TestContext) {
  const dir = mkdtempSync(join(tmpdir(), 'hd-lock-'));
  context.after(() => rmSync(dir, { recursive: true }));
  const home = openHome({ HD_HOME: join(dir, 'home') });
  writeFileSync(join(dir, 'hd.toml'), SPEC);
  writeFileSync(join(dir, 'requirements.txt'), 'flask==3.0.2\n# comment\nrequests\n');
  return { dir, home, project: findProject(dir) };
}

function tree(store: Store, files: Record<string, string>): TreeDigest {
  return Object.entries(files).reduce(
    (before, [path, text]) => setPath(store, before, toByteString(path), { kind: 'file', name: toByteString(''), mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: Buffer.byteLength(text) }),
    emptyTree(store),
  );
}

/** What a build leaves behind. */
function build({ home, project }: ReturnType<typeof world>, base = 'bookworm'): void {
  using store = openStore(home.storeDir, { nodeLinks });
  const image = tree(store, { 'etc/debian_version': '12\n' });
  const built = tree(store, { 'var/lib/dpkg/status': `${STATUS}\n`, 'var/lib/dpkg/info/curl.md5sums': 'abc  usr/bin/curl\n', 'var/lib/dpkg/info/libc6:amd64.list': '/lib\n' });
  const { id } = envPaths(home, project);
  const root = putEnv(store, { name: 'demo', packages: [{ provider: 'apt', name: base, version: image.slice(0, 12), artifact: image }], files: emptyTree(store), steps: [] });
  store.setRef(envRef(id, 'tree'), { kind: 'tree', digest: built });
  store.setRef(envRef(id, 'root'), { kind: 'node', digest: root });
}

function codeOf(work: () => unknown): string {
  try {
    work();
    return 'none';
  } catch (error) {
    assert(error instanceof HdError);
    return error.code;
  }
}

test('the lock holds the base, what dpkg has installed, and the pins of manifests; twice the same', (context) => {
  const place = world(context);
  build(place);
  const first = lockProject(place);
  assert.equal(first.previous, undefined);
  assert.equal(first.changed, true);
  const lock = parseLock(first.text);
  assert.deepEqual(lock.packages.map(({ provider, name, version }) => `${provider}/${name} ${version}`), [
    `apt/bookworm ${lock.packages[0]?.artifact.slice(0, 12)}`, 'apt/curl 7.88.1-10', 'apt/libc6 2.36-9', 'pip/flask 3.0.2', 'pip/requests any',
  ]);
  writeFileSync(join(place.dir, 'hd.lock'), first.text);
  build(place);
  const second = lockProject(place);
  assert.equal(second.text, first.text);
  assert.equal(second.changed, false);
});

test('a change of [dependencies] or [environment] makes the lock stale, one of [services] does not', (context) => {
  const place = world(context);
  build(place);
  const { text } = lockProject(place);
  writeFileSync(join(place.dir, 'hd.toml'), `${SPEC}\n[services.web]\ncommand = "true"\n`);
  assert.equal(lockProject(place).text, text);
  writeFileSync(join(place.dir, 'hd.toml'), SPEC.replace('base =', 'env = { A = "1" }\nbase ='));
  assert.notEqual(lockProject(place).text, text);
});

test('versions that no build has seen are not made up', (context) => {
  const place = world(context);
  assert.equal(codeOf(() => lockProject(place)), 'NOT_BUILT');
  build(place, 'trixie');
  assert.equal(codeOf(() => lockProject(place)), 'BUILD_STALE');
  build(place);
  writeFileSync(join(place.dir, 'hd.toml'), SPEC.replace('["curl"]', '["curl", "git"]'));
  assert.equal(codeOf(() => lockProject(place)), 'BUILD_STALE');
});
