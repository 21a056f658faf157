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
import { Asked, TraceRecorder, askerOf, definitionKey, contentKey, joinPaths } from '@hyperdocker/engine';
import type { PathSet, Trace } from '@hyperdocker/engine';
import { checkout, inMountNamespace } from '@hyperdocker/testkit';
import { captureUpper } from './capture.ts';
import { FuseHost } from './fuse-host.ts';
import { unmount } from './mount-at.ts';
import { mountOverlay } from './overlay.ts';

const PROGRAMS = join(checkout, 'packages/testkit/src/trace-programs');
const DEFINITION = definitionKey({ command: '', workdir: '/w', env: {}, user: '', platform: '', network: false, cacheDirs: [] });
const { stat, listing, content, target } = Asked;
const SHELL_TOOLS = ['cp', 'ln', 'sh', 'cat', 'ls', 'find', 'touch', 'rm', 'mkdir', 'mv', 'readlink'];

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
    const built = ['ask', 'read-plain', 'read-mapped', 'read-uring'].filter(() => skipC === false).map((name) => compile(name, join(root, name)));
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
    for (const [path, to] of [['w/link', 'dir/a'], ['w/chain', 'chain-2'], ['w/chain-2', './up/../b'], ['w/up', 'dir/sub'], ['w/broken', 'nowhere']] as const) builder.set(toByteString(path), { kind: 'symlink', mode: 0o777, target: toByteString(to) });
    builder.set(toByteString('w/void'), { kind: 'dir', mode: 0o755 });
    builder.set(toByteString('w/script'), { kind: 'file', mode: 0o755, digest: store.putBlob(Buffer.from('#!/w/interpreter\n')), size: 17 });
    builder.set(toByteString('w/interpreter'), { kind: 'symlink', mode: 0o777, target: toByteString('/bin/cat') });
    builder.set(toByteString('w/marked'), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from('marked')), size: 6, meta: { uid: 0, gid: 0, mtimeNs: 0n, xattrs: [[toByteString('user.mark'), Buffer.from('m')]], linkGroup: 0, links: 1 } });
    return builder.finish();
  };

  /** Runs a command in /w of the tree, as a step is: chrooted in an overlay on the traced mount. */
  const trace = async (args: readonly string[]): Promise<Trace & { asked: Record<string, number>; status: number | null; stdout: string }> => {
    const id = `t${count++}`;
    const dir = join(root, id);
    const [lower, merged] = [join(dir, 'lower'), join(dir, 'merged')];
    mkdirSync(lower, { recursive: true });
    const tree = project();
    store.flush();
    await host.mount(id, { tree, mountpoint: lower, storeDir, tracing: true });
    mountOverlay({ lower, upper: join(dir, 'upper'), work: join(dir, 'work'), merged });
    const run = spawnSync('chroot', [merged, '/bin/sh', '-c', 'cd /w && exec "$@"', 'sh', ...args], { encoding: 'utf8', env: { PATH: '/bin:/usr/bin:/usr/sbin' } });
    await unmount(merged);
    const { paths: seen, askers } = await host.unmount(id);
    const carried = new TraceRecorder();
    captureUpper(store, join(dir, 'upper'), tree, new Set(), (path, mask) => carried.record(path, mask));
    const paths = joinPaths(seen, carried.finish());
    assert.equal(run.error?.message ?? run.stderr, '', args.join(' '));
    const asked = Object.fromEntries([...paths].filter(([path]) => path.startsWith('w/')).map(([path, mask]) => [path.slice(2), mask & ~Asked.xattrs]));
    return { asked, paths, askers, status: run.status, stdout: run.stdout };
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
    assert.deepEqual(await shell('cat hard-1; [ -e hard-2 ]'), { 'hard-1': stat | content, 'hard-2': stat | content }, 'its bytes are in the page cache by then');
    assert.deepEqual(await shell('[ -e hard-1 ]; [ -e hard-2 ]'), { 'hard-1': stat, 'hard-2': stat });
  });

  test('what a step moves or marks keeps its bytes, so that they count', async () => {
    assert.deepEqual(await shell('mv in moved'), { in: stat | content, moved: stat });
    assert.deepEqual(await shell('touch in'), { in: stat | content });
  });

  test('an empty file that is read counts by its size', async () => {
    assert.deepEqual(await shell('cat empty'), { empty: stat });
  });

  /** System calls by themselves, as `ask` makes them: what each asks of the tree, and whether it is refused. */
  const calls: Record<string, { asked: Record<string, number>; refused?: true }> = {
    'access in': { asked: { in: stat } },
    'statx link': { asked: { link: stat } },
    'stat none/below': { asked: { none: stat }, refused: true },
    'open in': { asked: { in: stat } },
    'open-path in': { asked: { in: stat } },
    'open-path link': { asked: { link: stat } },
    'inotify in': { asked: { in: stat } },
    'inotify dir': { asked: { dir: stat } },
    'handle in': { asked: { in: stat }, refused: true },
    'chdir dir': { asked: { dir: stat } },
    'read in': { asked: { in: stat | content } },
    'splice in': { asked: { in: stat | content } },
    'sendfile in': { asked: { in: stat | content } },
    'map-shared in': { asked: { in: stat | content } },
    'openat2 dir/../in': { asked: { dir: stat, in: stat | content } },
    'read chain': { asked: { chain: stat | target, 'chain-2': stat | target, up: stat | target, dir: stat, 'dir/sub': stat, 'dir/b': stat | content } },
    'read broken': { asked: { broken: stat | target, nowhere: stat }, refused: true },
    'list dir': { asked: { dir: stat | listing } },
    'list void': { asked: { void: stat | listing } },
    'exec script': { asked: { script: stat | content, interpreter: stat | target } },
    'open-excl fresh': { asked: { fresh: stat } },
    'mkdir new': { asked: { new: stat } },
    'mkdir dir/new': { asked: { dir: stat, 'dir/new': stat } },
    'symlink new in': { asked: { new: stat } },
    'bind dir/socket': { asked: { dir: stat, 'dir/socket': stat } },
    'overwrite in': { asked: { in: stat } },
    'append in': { asked: { in: stat | content } },
    'write-inside in': { asked: { in: stat | content } },
    'truncate in': { asked: { in: stat | content } },
    'link in hard': { asked: { in: stat | content, hard: stat } },
    'chmod in': { asked: { in: stat | content } },
    'chmod dir': { asked: { dir: stat } },
    'chown in': { asked: { in: stat | content } },
    'chown link': { asked: { link: stat | target } },
    'utimes in': { asked: { in: stat | content } },
    'setxattr in': { asked: { in: stat | content } },
    'unlink in': { asked: { in: stat } },
    'unlink link': { asked: { link: stat } },
    'rmdir void': { asked: { void: stat | listing } },
    'rmdir dir': { asked: { dir: stat | listing }, refused: true },
    'rename in other': { asked: { in: stat | content, other: stat } },
    'rename link moved': { asked: { link: stat | target, moved: stat } },
    'exchange in other': { asked: { in: stat | content, other: stat | content } },
    'rename far/away dir': { asked: { far: stat, 'far/away': stat, dir: stat | listing }, refused: true },
    // The result holds all of it.
    'rename dir moved': { asked: { moved: stat, dir: stat | listing, 'dir/a': stat | content, 'dir/b': stat | content, 'dir/sub': stat | listing, 'dir/sub/c': stat | content } },
  };
  test('one system call at a time', { skip: skipC }, async () => {
    for (const [call, { asked: expected, refused }] of Object.entries(calls)) {
      const { asked, status } = await trace(['/bin/ask', ...call.split(' ')]);
      assert.deepEqual({ call, asked, status }, { call, asked: expected, status: refused === true ? 1 : 0 });
    }
  });

  test('attributes are asked for by name or in a list, also where there are none', { skip: skipC }, async () => {
    for (const call of ['getxattr marked', 'listxattr marked', 'getxattr in', 'chmod in', 'overwrite in']) {
      const { paths } = await trace(['/bin/ask', ...call.split(' ')]);
      assert(asksForAttributes(paths, `w/${call.split(' ')[1]}`), call);
    }
  });

  test('a file published by renaming is the step\'s own', async () => {
    assert.deepEqual(await shell('echo x > temporary; mv temporary in; cat in'), { temporary: stat, in: stat });
    assert.deepEqual(await shell('cat in > temporary; mv temporary other; cat other'), { in: stat | content, temporary: stat, other: stat });
  });

  test('a directory of the tree that a step renames: the key changes with anything in it, and with nothing beside it', async () => {
    const { paths } = await trace(['sh', '-c', 'mv dir renamed; echo own > renamed/new; mv renamed/sub again']);
    const key = (tree: TreeDigest): string => contentKey(store, DEFINITION, paths, tree);
    const edited = (path: string): TreeDigest => {
      const builder = new TreeBuilder(store, project());
      builder.set(toByteString(path), { kind: 'file', mode: 0o644, digest: store.putBlob(Buffer.from('edited')), size: 10 });
      return builder.finish();
    };
    for (const path of ['w/dir/b', 'w/dir/sub/c', 'w/dir/fresh', 'w/dir/sub/fresh']) assert.notEqual(key(edited(path)), key(project()), path);
    assert.equal(key(edited('w/beside')), key(project()));
  });

  test('what a step writes beside others depends on no listing', async () => {
    const { paths } = await trace(['sh', '-c', 'echo own > made; mkdir new; echo x > new/f; ls new; rm in']);
    assert.equal(paths.get(toByteString('w'))! & listing, 0);
    assert.notEqual((await trace(['ls'])).paths.get(toByteString('w'))! & listing, 0);
  });

  test('each question has the program that asked it first', async () => {
    const { askers } = await trace(['sh', '-c', 'cat in; ls dir; exec cat other dir/a']);
    const by = (path: string, mask: number): string | undefined => askerOf(askers, toByteString(`w/${path}`), mask);
    assert.deepEqual([by('in', content), by('dir', listing), by('other', content), by('dir/b', content)], ['cat in', 'ls dir', 'cat other dir/a', undefined]);
    assert.match(askerOf(askers, toByteString('bin/cat'), content) ?? '', /^sh -c …$/, 'the program that executes another reads it');
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

function asksForAttributes(paths: PathSet, path: string): boolean {
  return ((paths.get(toByteString(path)) ?? 0) & Asked.xattrs) !== 0;
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
