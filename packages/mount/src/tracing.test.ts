/** What programs of many kinds are seen to ask of a traced tree: no question may be missed, and none made up. */
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { after, before, test } from 'node:test';
import type { TreeDigest } from '@hyperdocker/base';
import { toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, openStore } from '@hyperdocker/cas';
import { Asked, definitionKey, contentKey } from '@hyperdocker/engine';
import type { PathSet } from '@hyperdocker/engine';
import { checkout, inMountNamespace } from '@hyperdocker/testkit';
import { FuseHost } from './fuse-host.ts';
import { mountOverlay, unmount } from './overlay.ts';

const PROGRAMS = join(checkout, 'packages/testkit/src/trace-programs');
const DEFINITION = definitionKey({ command: '', workdir: '/w', env: {}, user: '', platform: '', network: false, cacheDirs: [] });
const { stat, listing, content, target } = Asked;
const SHELL_TOOLS = ['sh', 'cat', 'ls', 'find', 'touch', 'rm', 'mkdir', 'mv', 'readlink'];

if (inMountNamespace(import.meta.filename)) {
  const root = mkdtempSync(join(tmpdir(), 'hd-tracing-'));
  const storeDir = join(root, 'store');
  const store = openStore(storeDir);
  const host = new FuseHost();
  const has = (program: string): boolean => spawnSync('sh', ['-c', `command -v ${program}`]).status === 0;
  const skipC = has('gcc') ? false : 'gcc is not installed: the C readers cannot be built';
  const skipGo = has('go') ? false : 'go is not installed: the Go reader cannot be built';
  let tools = '' as TreeDigest;
  let count = 0;

  before(() => {
    const built = ['read-plain', 'read-mapped', 'read-uring'].filter(() => skipC === false).map((name) => compile(name, join(root, name)));
    if (skipGo === false) built.push(compileGo(join(root, 'read-go')));
    tools = treeOfTools(store, built);
  });
  after(async () => {
    await host.close();
    store[Symbol.dispose]();
    rmSync(root, { recursive: true, force: true });
  });

  const project = (): TreeDigest => {
    const builder = new TreeBuilder(store, tools);
    const file = (path: string, text: string): void => builder.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from(text)), size: text.length });
    for (const path of ['w/in', 'w/other', 'w/dir/a', 'w/dir/b', 'w/dir/sub/c', 'w/far/away/file', 'w/big']) file(path, path === 'w/big' ? 'x'.repeat(300_000) : `of ${path}\n`);
    file('w/empty', '');
    for (const path of ['w/hard-1', 'w/hard-2']) builder.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from('hard')), size: 4, meta: { uid: 0, gid: 0, mtimeNs: 0n, xattrs: [], linkGroup: 8, links: 2 } });
    builder.set(toByteString('w/link'), { kind: 'symlink', mode: 0o777, target: toByteString('dir/a') });
    return builder.finish();
  };

  /** Runs a command in /w of the tree, as a step is: chrooted in an overlay on the traced mount. */
  const trace = async (args: readonly string[]): Promise<{ asked: Record<string, number>; paths: PathSet; status: number | null; stdout: string }> => {
    const id = `t${count++}`;
    const dir = join(root, id);
    const [lower, merged] = [join(dir, 'lower'), join(dir, 'merged')];
    mkdirSync(lower, { recursive: true });
    const tree = project();
    store.flush();
    await host.mount(id, { tree, mountpoint: lower, storeDir, tracing: true });
    await mountOverlay({ lower, upper: join(dir, 'upper'), work: join(dir, 'work'), merged });
    const run = spawnSync('chroot', [merged, '/bin/sh', '-c', 'cd /w && exec "$@"', 'sh', ...args], { encoding: 'utf8', env: { PATH: '/bin:/usr/bin:/usr/sbin' } });
    await unmount(merged);
    const { paths } = await host.unmount(id);
    assert.equal(run.error?.message ?? run.stderr, '', args.join(' '));
    const asked = Object.fromEntries([...paths].filter(([path]) => path.startsWith('w/')).map(([path, mask]) => [path.slice(2), mask & ~Asked.xattrs]));
    return { asked, paths, status: run.status, stdout: run.stdout };
  };
  const shell = async (command: string): Promise<Record<string, number>> => (await trace(['sh', '-c', command])).asked;

  test('a probe that finds nothing is recorded, and the file that appears changes the key', async () => {
    const { asked, paths } = await trace(['sh', '-c', '[ -e config ] || [ -e dir/nowhere ] || [ -e no/such/dir ] || true']);
    assert.deepEqual(asked, { config: stat, dir: stat, 'dir/nowhere': stat, no: stat });
    const today = project();
    for (const path of ['w/config', 'w/dir/nowhere', 'w/no/such/dir']) {
      const appeared = new TreeBuilder(store, today);
      appeared.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.alloc(0)), size: 0 });
      assert.notEqual(contentKey(store, DEFINITION, paths, appeared.finish()), contentKey(store, DEFINITION, paths, today), path);
    }
  });

  test('looking at a file is no reading of it, and reading is', async () => {
    assert.deepEqual(await shell('[ -e in ]'), { in: stat });
    assert.deepEqual(await shell('cat in'), { in: stat | content });
  });

  test('a listing is of the directory: its files are not read', async () => {
    assert.deepEqual(await shell('ls dir'), { dir: stat | listing });
    assert.deepEqual(await shell('echo dir/*'), { dir: stat | listing });
    assert.deepEqual(await shell('ls -l dir/sub'), { dir: stat, 'dir/sub': stat | listing, 'dir/sub/c': stat });
  });

  test('find asks for every directory below and reads no file', async () => {
    const asked = await shell('find dir');
    assert.equal(asked['dir'], stat | listing);
    assert.equal(asked['dir/sub'], stat | listing);
    assert.deepEqual(Object.entries(asked).filter(([path, mask]) => mask & content || path.startsWith('far')), []);
  });

  test('following a link asks for the link and for what it leads to', async () => {
    assert.deepEqual(await shell('cat link'), { link: stat | target, dir: stat, 'dir/a': stat | content });
    assert.deepEqual(await shell('readlink link'), { link: stat | target });
  });

  test('asking again records nothing more', async () => {
    assert.deepEqual(await shell('cat in; cat in; cat big big; [ -e none ]; [ -e none ]; ls dir; ls dir; cat dir/a; true'), await shell('cat big; ls dir; [ -e none ]; cat in dir/a'));
  });

  test('what the step wrote itself is no input', async () => {
    const asked = await shell('echo own > made; cat made; mkdir new; echo x > new/f; cat new/f; ls new; rm new/f');
    assert.deepEqual(asked, { made: stat, new: stat }, 'that they were not there before is');
  });

  test('read, then overwritten: the state before counts', async () => {
    assert.deepEqual(await shell('cat in; echo new > in; cat in'), { in: stat | content });
    assert.deepEqual(await shell('echo more >> in'), { in: stat | content }, 'an append keeps what was there');
  });

  test('overwritten, then read: the bytes before do not count', async () => {
    assert.deepEqual(await shell('echo new > in; cat in'), { in: stat });
    assert.deepEqual(await shell('rm in; echo new > in; cat in'), { in: stat });
  });

  test('one inode under two names: reading counts for both that were opened', async () => {
    assert.deepEqual(await shell('cat hard-1; cat hard-2'), { 'hard-1': stat | content, 'hard-2': stat | content });
    assert.deepEqual(await shell('[ -e hard-2 ]; cat hard-1'), { 'hard-1': stat | content, 'hard-2': stat | content }, 'which of the two was read cannot be told');
    assert.deepEqual(await shell('cat hard-1; [ -e hard-2 ]'), { 'hard-1': stat | content, 'hard-2': stat });
  });

  test('what a step moves or marks keeps its bytes, so that they count', async () => {
    assert.deepEqual(await shell('mv in moved'), { in: stat | content, moved: stat });
    assert.deepEqual(await shell('touch in'), { in: stat | content });
  });

  test('an empty file that is read counts by its size', async () => {
    assert.deepEqual(await shell('cat empty'), { empty: stat });
  });

  test('running a program asks for its bytes', async () => {
    const { paths } = await trace(['ls', '-d', '/']);
    const program = [...paths].find(([path]) => path === 'bin/ls');
    assert(program !== undefined && program[1] & content);
    const library = [...paths].find(([path, mask]) => /\.so/.test(path) && mask & content);
    assert(library !== undefined, 'and for its libraries');
  });

  for (const [what, program, skip] of [
    ['a static program', 'read-plain', skipC], ['mmap', 'read-mapped', skipC], ['io_uring', 'read-uring', skipC], ['a Go program', 'read-go', skipGo],
  ] as const) {
    test(`reading is seen: ${what}`, { skip }, async (t) => {
      const { asked, status, stdout } = await trace([`/bin/${program}`, 'dir/a']);
      if (program === 'read-uring' && status === 3) return t.skip('this kernel offers no io_uring');
      assert.equal(status, 0);
      assert.deepEqual(asked, { dir: stat, 'dir/a': stat | content });
      if (program === 'read-mapped') assert.equal(stdout, `${Buffer.from('of w/dir/a\n').reduce((sum, byte) => sum + byte, 0)}\n`);
    });
  }
}

function compile(name: string, to: string): string {
  execFileSync('gcc', ['-static', '-O1', '-o', to, join(PROGRAMS, `${name}.c`)]);
  return to;
}

function compileGo(to: string): string {
  execFileSync('go', ['build', '-o', to, 'main.go'], { cwd: join(PROGRAMS, 'read-go'), env: { ...process.env, GO111MODULE: 'off', CGO_ENABLED: '0' } });
  return to;
}

/** /bin with the host's own tools and some more programs, and the libraries that they are linked with, where they look for them. */
function treeOfTools(store: Store, programs: readonly string[]): TreeDigest {
  const builder = new TreeBuilder(store);
  const add = (path: string, host: string): void => builder.set(toByteString(path.replace(/^\//, '')), { kind: 'file', mode: 0o755, ...store.putFile(realpathSync(host)) });
  for (const name of SHELL_TOOLS) {
    const host = execFileSync('sh', ['-c', `command -v ${name}`], { encoding: 'utf8' }).trim();
    add(`bin/${name}`, host);
    const libraries = spawnSync('ldd', [realpathSync(host)], { encoding: 'utf8' }).stdout;
    for (const [, library] of libraries.matchAll(/(?:=>\s*|^\s*)(\/\S+)/gm)) if (library !== undefined) add(library, library);
  }
  for (const host of programs) add(`bin/${basename(host)}`, host);
  return builder.finish();
}
