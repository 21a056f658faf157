import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { test } from 'node:test';
import type { ActionDigest, ByteString, TreeDigest } from '@hyperdocker/base';
import { processStartTime } from '@hyperdocker/base';
import { openStore, storeBytes } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { collect } from './collect.ts';
import type { HdEvent } from './events.ts';
import type { EnvPaths, Home } from './home.ts';
import { envPaths, envRef, openHome } from './home.ts';
import { knownEnvironments, noteUse } from './known-environments.ts';
import { parseSize, storeLimit } from './size-limit.ts';
import { StoreLimit } from './store-limit.ts';
import { removeState, writeState } from './state-file.ts';
import { byValue, storeRoots } from './store-roots.ts';

function newHome(context: TestContext): Home {
  const dir = mkdtempSync(join(tmpdir(), 'hd-limit-'));
  context.after(() => rmSync(dir, { recursive: true }));
  return openHome({ HD_HOME: join(dir, 'home') });
}

/** Refs of an environment that takes about so many bytes. */
function environment(home: Home, name: string, sizeBytes: number, image?: string): EnvPaths {
  const project = join(home.dir, '..', name);
  mkdirSync(project, { recursive: true });
  const paths = envPaths(home, { dir: project, specFile: join(project, 'hd.toml') });
  using store = openStore(home.storeDir, { nodeLinks });
  const digest = store.putTree([{ kind: 'file', name: 'f' as ByteString, mode: 0o644, digest: store.putBlob(randomBytes(sizeBytes)), size: sizeBytes }]);
  store.setRef(envRef(paths.id, 'tree'), { kind: 'tree', digest });
  noteUse(paths, { project, ...(image === undefined ? {} : { image }) });
  return paths;
}

const MB = 2 ** 20;
const codes = (events: readonly HdEvent[]): string[] => events.flatMap((event) => (event.type === 'warning' ? [event.code] : []));
const messages = (events: readonly HdEvent[]): string[] => events.flatMap((event) => (event.type === 'warning' ? [event.message] : []));

test('sizes', () => {
  for (const [text, bytes] of [['512', 512], ['512M', 512 * MB], ['20 GB', 20 * 1024 * MB], ['1.5GiB', 1536 * MB], ['2tb', 2 * 1024 * 1024 * MB], ['0', 0], ['none', Infinity]] as const) assert.equal(parseSize(text), bytes, text);
  for (const text of ['', 'G', '-1G', '1 2G', '1PB', 'much']) assert.equal(parseSize(text), undefined, text);
});

test('the limit without a setting is at least 1 GB and at most 20', (context) => {
  const home = newHome(context);
  const limit = storeLimit(home, {});
  assert(limit >= 2 ** 30 && limit <= 20 * 2 ** 30, String(limit));
  assert.equal(storeLimit(home, { HD_STORE_MAX: '300M' }), 300 * MB);
  assert.equal(storeLimit(home, { HD_STORE_MAX: 'none' }), Infinity);
  assert.throws(() => storeLimit(home, { HD_STORE_MAX: 'x' }), { code: 'STORE_MAX_INVALID' });
});

test('within the limit nothing happens; over it, a process of its own collects, and it is told', async (context) => {
  const home = newHome(context);
  const events: HdEvent[] = [];
  const keeper = (max: string) => new StoreLimit({ home, env: { HD_STORE_MAX: max }, emit: (event) => void events.push(event), signal: new AbortController().signal });
  const first = environment(home, 'first', 2 * MB);
  const second = environment(home, 'second', 2 * MB);
  await keeper('none').keep();
  await keeper('10M').keep();
  assert.deepEqual(events, []);
  await keeper('3M').keep();
  assert.deepEqual(codes(events), ['STORE_LIMIT']);
  assert.match(messages(events)[0] ?? '', /^the store had 4\.\d MB, over its limit of 3\.0 MB: removed 2\.\d MB; gave up environments not used for longest, .*first$/);
  using store = openStore(home.storeDir, { nodeLinks });
  assert.deepEqual(knownEnvironments(home, store).map(({ id }) => id), [second.id]);
  assert(existsSync(first.dir), 'logs and notes stay');
  assert(storeBytes(home.storeDir) < 3 * MB);
});

test('what cannot be brought within the limit is tried again only when more has come', async (context) => {
  const home = newHome(context);
  const events: HdEvent[] = [];
  environment(home, 'one', MB);
  using store = openStore(home.storeDir, { nodeLinks });
  using _pin = store.pin(store.listRefs('env/')[0]!.ref.target, 'it runs');
  const keeper = new StoreLimit({ home, env: { HD_STORE_MAX: '1000' }, emit: (event) => void events.push(event), signal: new AbortController().signal });
  await keeper.keep();
  await keeper.keep();
  assert.equal(events.length, 1);
  assert.match(messages(events)[0] ?? '', /the rest is in use/);
  environment(home, 'two', MB);
  await keeper.keep();
  assert.equal(events.length, 2);
});

test('a wrong setting, and a store that is not whole, are warnings', async (context) => {
  const home = newHome(context);
  const events: HdEvent[] = [];
  const keeper = (max: string) => new StoreLimit({ home, env: { HD_STORE_MAX: max }, emit: (event) => void events.push(event), signal: new AbortController().signal });
  await keeper('x').keep();
  {
    using store = openStore(home.storeDir, { nodeLinks });
    store.setRef('env/broken/tree', { kind: 'tree', digest: store.putTree([{ kind: 'dir', name: 'lost' as ByteString, mode: 0o755, digest: 'ab'.repeat(32) as TreeDigest }]) });
  }
  await keeper('1').keep();
  assert.deepEqual(codes(events), ['STORE_MAX_INVALID', 'STORE_INCOMPLETE']);
});

test('an image and results go after those who are made of them, and never while these run', (context) => {
  const home = newHome(context);
  {
    using store = openStore(home.storeDir, { nodeLinks });
    for (const key of ['image/used', 'image/unused']) store.setRef(`${key}/tree`, { kind: 'tree', digest: store.putTree([{ kind: 'file', name: key.replace('/', '-') as ByteString, mode: 0o644, digest: store.putBlob(Buffer.from(key)), size: key.length }]) });
  }
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  const input = store.putTree([]);
  const [own, other] = ['cd'.repeat(32), 'ef'.repeat(32)] as [ActionDigest, ActionDigest];
  for (const definition of [own, other]) {
    const delta = store.putTree([{ kind: 'file', name: 'out' as ByteString, mode: 0o644, digest: store.putBlob(Buffer.from(definition)), size: definition.length }]);
    actions.record(definition, input, { paths: new Map(), askers: new Map() }, { delta, durationMs: 1, log: store.putBlob(Buffer.from('')), caches: [], volatile: [], notPassed: [] });
  }
  store.flush();
  const paths = environment(home, 'app', 1000, 'image/used');
  writeFileSync(paths.buildRecord, JSON.stringify({ schema: 'hd.build-record/1', atMs: 0, workdir: '/app', steps: [{ key: own }] }));
  noteUse(paths, { project: join(home.dir, '../app') });
  const order = (): string[] => byValue(storeRoots(home, store, actions)).map(({ kind, name }) => `${kind} ${name.split('/').slice(0, 2).join('/').replace(/\/[0-9a-f]{64}$/, '')}`);
  assert.deepEqual(order(), ['image image/used', `result ${own}`, `environment ${paths.id}`, `result ${other}`, 'image image/unused']);
  writeState(paths.stateFile, { version: 1, pid: process.pid, startTime: processStartTime(process.pid) ?? '', project: '', name: '', runtime: '', runtimeRoot: '' });
  assert.deepEqual(order(), [`result ${other}`, 'image image/unused']);
  assert.deepEqual(collect(home, { maxBytes: 0 }).gaveUp.map(({ kind }) => kind).sort(), ['image', 'result']);
  assert.deepEqual([own, other].map((definition) => actions.find(definition, input).kind), ['hit', 'miss']);
  removeState(paths.stateFile);
  assert.deepEqual(collect(home, { maxBytes: 0 }).gaveUp.map(({ kind }) => kind).sort(), ['environment', 'image', 'result']);
  assert.equal(actions.find(own, input).kind, 'miss');
});
