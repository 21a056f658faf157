/**
 * `npm run posix -- --pjdfstest DIR [--work DIR] [--only chmod] [--json]`: runs pjdfstest (built, in DIR) on a plain directory, on overlayfs over plain directories, and on our own
 * mounts, and says what fails where. What plain overlayfs fails is overlayfs's; nothing else may fail on ours: then the exit code is 1. Needs root.
 */
import { spawn, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import type { TreeDigest } from '@hyperdocker/base';
import { HdError, toByteString } from '@hyperdocker/base';
import type { Store } from '@hyperdocker/cas';
import { TreeBuilder, openStore } from '@hyperdocker/cas';
import { FuseHost, detachBelow, materialize, mountOverlay } from '@hyperdocker/mount';

const NAMESPACE = 'HD_POSIX_NAMESPACE';
const { values } = parseArgs({ options: { pjdfstest: { type: 'string' }, work: { type: 'string' }, only: { type: 'string', default: '' }, json: { type: 'boolean', default: false } } });

interface FileResult { tests: number; failed: number[]; messages: Map<number, string> }
interface SideResult { name: string; files: Map<string, FileResult> }
interface Site { name: string; dir: string }

if (values.pjdfstest === undefined || !existsSync(join(values.pjdfstest, 'pjdfstest'))) {
  console.error('--pjdfstest DIR: a checkout of pjdfstest in which `autoreconf -ifs && ./configure && make pjdfstest` has been run');
  process.exitCode = 2;
} else if (process.env[NAMESPACE] === undefined) {
  // Nothing is ever mounted on the host.
  const run = spawnSync('unshare', ['--mount', '--propagation', 'private', process.execPath, ...process.execArgv, import.meta.filename, ...process.argv.slice(2)], { stdio: 'inherit', env: { ...process.env, [NAMESPACE]: '1' } });
  process.exitCode = run.status ?? 1;
} else {
  process.exitCode = await main(resolve(values.pjdfstest));
}

async function main(suite: string): Promise<number> {
  const root = mkdtempSync(join(values.work ?? tmpdir(), 'hd-posix-'));
  chmodSync(root, 0o755);
  const host = new FuseHost({ logFd: 2 });
  try {
    const sites = await makeSites(root, host);
    const sides: SideResult[] = [];
    // One after the other: some tests compare times.
    for (const site of sites) sides.push(await runSuite(suite, site));
    const own = sides.slice(2).flatMap((side) => onlyThere(side, sides[1]!).map((test) => `${side.name}: ${test}`));
    console.log(values.json ? JSON.stringify(sides.map(({ name, files }) => ({ name, failed: failures(files) })), undefined, 2) : report(sides, own));
    return own.length === 0 ? 0 : 1;
  } finally {
    detachBelow(root);
    await host.close();
    rmSync(root, { recursive: true, force: true });
  }
}

/** The plain directory, plain overlayfs over it, and ours: each a directory that was there before anything was written. */
async function makeSites(root: string, host: FuseHost): Promise<Site[]> {
  const storeDir = join(root, 'store');
  const store = openStore(storeDir);
  const tree = startTree(store);
  store.flush();
  const [plain, lower, fuse] = ['plain', 'lower', 'fuse'].map((name) => join(root, name)) as [string, string, string];
  for (const dir of [plain, lower]) mkdirSync(join(dir, 'work'), { recursive: true });
  mkdirSync(fuse);
  await host.mount('posix', { tree, mountpoint: fuse, storeDir, tracing: false });
  const over = (name: string, from: string): Site => {
    const dir = join(root, name.replaceAll(' ', '-'));
    mountOverlay({ lower: from, upper: join(dir, 'upper'), work: join(dir, 'scratch'), merged: join(dir, 'merged') });
    return { name, dir: join(dir, 'merged/work') };
  };
  const sites = [{ name: fileSystem(plain), dir: join(plain, 'work') }, over('plain overlayfs', lower), over('overlay on FUSE', fuse), over('overlay on materialized', materialize(store, tree, join(root, 'materialized')))];
  store[Symbol.dispose]();
  return sites;
}

function startTree(store: Store): TreeDigest {
  const builder = new TreeBuilder(store);
  builder.set(toByteString('work'), { kind: 'dir', mode: 0o755 });
  return builder.finish();
}

async function runSuite(suite: string, { name, dir }: Site): Promise<SideResult> {
  const files = new Map<string, FileResult>();
  for (const path of globSync(join(suite, 'tests/**/*.t')).sort()) {
    const file = relative(join(suite, 'tests'), path);
    if (!file.startsWith(values.only)) continue;
    files.set(file, parseTap(await output('sh', [path], dir)));
  }
  console.error(`${name}: ${[...files.values()].reduce((sum, { tests }) => sum + tests, 0)} tests in ${files.size} files, ${failures(files).length} failed`);
  return { name, files };
}

/** Lines `ok N`, `not ok N - what`, and a plan `1..N`: what was planned and never told has failed. */
function parseTap(text: string): FileResult {
  const planned = Number(/^1\.\.(\d+)/m.exec(text)?.[1] ?? 0);
  const messages = new Map<number, string>();
  const seen = new Set<number>();
  for (const [line, not, number = '0', rest = ''] of text.matchAll(/^(not )?ok (\d+)(.*)$/gm)) {
    seen.add(Number(number));
    if (not !== undefined && !/# TODO/.test(line)) messages.set(Number(number), rest.replace(/^ - /, '').replaceAll(/pjdfstest_[0-9a-f]+/g, '…'));
  }
  for (let number = 1; number <= planned; number++) if (!seen.has(number)) messages.set(number, 'it did not come to that');
  return { tests: planned, failed: [...messages.keys()].sort((a, b) => a - b), messages };
}

function failures(files: SideResult['files']): string[] {
  return [...files].flatMap(([file, { failed }]) => failed.map((number) => `${file} ${number}`));
}

function onlyThere(side: SideResult, base: SideResult): string[] {
  const known = new Set(failures(base.files));
  return failures(side.files).filter((test) => !known.has(test)).map((test) => {
    const [file = '', number = ''] = test.split(' ');
    return `${test}: ${side.files.get(file)?.messages.get(Number(number))}`;
  });
}

function report(sides: readonly SideResult[], own: readonly string[]): string {
  const groups = [...new Set([...sides[0]!.files.keys()].map((file) => file.split('/')[0]!))];
  const count = (side: SideResult, group: string, of: (result: FileResult) => number): number => [...side.files].filter(([file]) => file.startsWith(`${group}/`)).reduce((sum, [, result]) => sum + of(result), 0);
  const rows = groups.map((group) => [group, count(sides[0]!, group, ({ tests }) => tests), ...sides.map((side) => count(side, group, ({ failed }) => failed.length))]);
  const total = ['**all**', ...rows[0]!.slice(1).map((_, column) => rows.reduce((sum, row) => sum + Number(row[column + 1]), 0))];
  const table = [['Tests of', 'Tests', ...sides.map(({ name }) => `Failed: ${name}`)], sides.map(() => '---').concat('---', '---'), ...rows, total].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
  const overlay = [...sides[1]!.files].filter(([, { failed }]) => failed.length > 0).map(([file, { failed, messages }]) => `- \`${file}\` ${ranges(failed)}: ${messages.get(failed[0]!)}`);
  return [`Linux ${readFileSync('/proc/sys/kernel/osrelease', 'utf8').trim()}`, table, `What plain overlayfs fails:\n\n${overlay.join('\n') || 'nothing'}`, `What ours fails beyond that:\n\n${own.map((line) => `- ${line}`).join('\n') || 'nothing'}`].join('\n\n');
}

/** 3, 4, 5, 9 as "3–5, 9". */
function ranges(numbers: readonly number[]): string {
  const parts: [number, number][] = [];
  for (const number of numbers) {
    const last = parts.at(-1);
    if (last?.[1] === number - 1) last[1] = number;
    else parts.push([number, number]);
  }
  return parts.map(([from, to]) => (from === to ? String(from) : `${from}–${to}`)).join(', ');
}

function fileSystem(dir: string): string {
  const { stdout } = spawnSync('df', ['--output=fstype', dir], { encoding: 'utf8' });
  return stdout.trim().split('\n').at(-1) ?? 'plain directory';
}

/** What is written on standard error is not part of the protocol. */
function output(command: string, args: readonly string[], cwd: string): Promise<string> {
  return new Promise((resolvePromise, reject) => {
    const child = spawn(command, args, { cwd, stdio: ['ignore', 'pipe', 'ignore'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part: string) => (text += part));
    child.once('error', (cause) => reject(new HdError('POSIX', `${command} cannot be run`, { cause })));
    child.once('close', () => resolvePromise(text));
  });
}
