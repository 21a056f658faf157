import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { ByteString, NodeDigest } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { nodeLinks, putEnv } from '@hyperdocker/engine';
import { envPaths, envRef, findProject, openHome } from '@hyperdocker/environment';

const main = fileURLToPath(new URL('./main.ts', import.meta.url));

test('two roots are compared by name and by the first digits of their digests', (context) => {
  const dir = mkdtempSync(join(tmpdir(), 'hd-roots-'));
  context.after(() => rmSync(dir, { recursive: true }));
  writeFileSync(join(dir, 'hd.toml'), '[environment]\nname = "demo"\nbase = "apt://bookworm"\n');
  const env = { ...process.env, HD_HOME: join(dir, '.home') };
  const hd = (...args: string[]) => spawnSync(process.execPath, [main, ...args], { cwd: dir, encoding: 'utf8', env });
  const home = openHome(env);
  const { id } = envPaths(home, findProject(dir));
  const roots: NodeDigest[] = [];
  {
    using store = openStore(home.storeDir, { nodeLinks });
    for (const [text, command] of [['one', 'make'], ['two', 'make all'], ['two', 'make all']] as const) {
      const names = text === 'one' ? ['gone', 'kept'] : ['kept', 'new'];
      const files = store.putTree(names.map((name) => ({ kind: 'file', name: name as ByteString, mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: 3 })));
      const step = { command, workdir: '/w', env: {}, user: '0:0:', platform: 'linux/amd64', network: false, cacheDirs: [] };
      const root = putEnv(store, { name: 'demo', packages: [], files, steps: [step] });
      const before = store.getRef(envRef(id, 'root'))?.target;
      if (before !== undefined && before.digest !== root) store.setRef(envRef(id, 'previous'), before);
      store.setRef(envRef(id, 'root'), { kind: 'node', digest: root });
      roots.push(root);
    }
  }
  const [old = '', now = ''] = roots;
  const plain = hd('diff');
  assert.equal(plain.status, 0, plain.stderr);
  assert.match(plain.stdout, /\+ Build\(make all\)\n {2}- Build\(make\)\n {2}- gone\n {2}~ kept {2}[0-9a-f]+ → [0-9a-f]+\n {2}\+ new\n3 files, 2 other inputs changed\n$/);
  assert.equal(hd('diff', 'previous', 'current').stdout, plain.stdout);
  assert.equal(hd('diff', old.slice(0, 8), now).stdout, plain.stdout);
  const json = JSON.parse(hd('diff', now.slice(0, 6), old, '--json').stdout) as { schema: string; files: { path: string; change: string }[] };
  assert.deepEqual([json.schema, json.files.map(({ path, change }) => `${path} ${change}`)], ['hd.diff/1', ['gone added', 'kept changed', 'new removed']]);
  const graph = hd('dag', 'diff');
  assert.match(graph.stdout, new RegExp(`^DAG root: ${now}\n\\[changed\\] Env\\(demo\\)[^]*\\[new\\][^]*Build\\(make all\\)`));
  assert.doesNotMatch(graph.stdout, /\[ok\]/);
  assert.equal(hd('dag', 'diff', 'current', 'current').stdout, 'No differences.\n');
  for (const [name, words] of [['zz', /does not name a root/], ['abc', /does not name a root/], ['0'.repeat(64), /has had no root/]] as const) {
    const refused = hd('diff', name);
    assert.equal(refused.status, 1);
    assert.match(refused.stderr, words);
  }
});
