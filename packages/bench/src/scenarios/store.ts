import { closeSync, fsyncSync, lstatSync, mkdirSync, openSync, readdirSync, rmSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { NODE_FLAGS } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { Ingest } from '@hyperdocker/environment';
import { createFilter } from '@hyperdocker/watch';
import { run } from '@hyperdocker/demo';
import { emptyPageCache } from '../page-cache.ts';
import type { Peer } from '../peers.ts';
import { findPeers } from '../peers.ts';
import type { Race, Sample, Scenario, Side } from '../scenario.ts';
import type { ChildResult } from '../store-child.ts';
import type { Workshop } from '../workshop.ts';
import { BASE } from '../workshop.ts';

const FILES = 13_000;
const FILES_A_DIRECTORY = 40;
const MANY_FILES = 50_000;
const SMALL_OBJECTS = 50_000;
const SMALL_OBJECT_BYTES = 300;
const PROJECT = 'a node_modules of 14,700 files and 335 MB';
const TIMED = 'hd and floors in a process of their own, timed without its start; the others as whole processes';

export const storeScenarios: Scenario[] = [
  { name: 'store.ingest', rounds: 5, what: `${PROJECT} into an empty store, repository, to the disk; floor: one thread walks, reads and hashes it. ${TIMED}`, open: ingest },
  { name: 'store.ingest-unread', rounds: 3, what: `as store.ingest, after the system has forgotten what it had read of the disk`, open: ingestUnread },
  { name: 'store.warm', rounds: 9, what: `the same once more, nothing changed; floor: readdir and lstat of everything. ${TIMED}`, open: warm },
  { name: 'store.restore', rounds: 5, what: `the same tree from the store into a new directory, with owners, modes and times (git: without). ${TIMED}`, open: restore },
  { name: 'store.one-in-50k', rounds: 9, what: `one changed file among ${MANY_FILES} stored, to the disk`, open: oneInMany },
  { name: 'store.small-objects', rounds: 5, what: `${SMALL_OBJECTS} new objects of ${SMALL_OBJECT_BYTES} bytes, durable as one batch; floor: the same bytes appended to one file, which is synced`, open: smallObjects },
  { name: 'store.noop-scan', rounds: 9, what: `\`hd build\` of a project of ${FILES} files, none changed: what its \`built\` event says; beside a bare walk that stats them`, open: noopScan },
];

async function ingest(workshop: Workshop): Promise<Race> {
  const tree = await projectTree(workshop);
  const dir = workshop.tempDir('ingest');
  const { peers, absent } = findPeers();
  return {
    absent,
    sides: [
      { name: 'hd', run: (round) => hdIngest(tree, join(dir, `hd-${round}`), 'remove') },
      floorSide('floor: read and hash', 'read-and-hash', tree),
      ...peers.map((peer): Side => ({ name: `${peer.name} (${peer.note})`, run: (round) => peerStore(peer, tree, join(dir, `${peer.name}-${round}`), round) })),
    ],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

async function ingestUnread(workshop: Workshop): Promise<Race> {
  const tree = await projectTree(workshop);
  const dir = workshop.tempDir('ingest');
  const empty = join(dir, 'empty');
  mkdirSync(empty, { recursive: true });
  const forgetful = (side: Side): Side => ({
    ...side,
    run: async (round) => {
      await emptyPageCache();
      await childRun('lstat', empty); // the program itself is read before
      return side.run(round);
    },
  });
  const hd: Side = { name: 'hd', run: (round) => hdIngest(tree, join(dir, `hd-${round}`), 'remove') };
  return {
    sides: [forgetful(hd), forgetful(floorSide('floor: read and hash', 'read-and-hash', tree))],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

async function warm(workshop: Workshop): Promise<Race> {
  const tree = await projectTree(workshop);
  const dir = workshop.tempDir('warm');
  const { peers, absent } = findPeers();
  await hdIngest(tree, join(dir, 'hd'), 'keep');
  for (const peer of peers) {
    await peer.init(join(dir, peer.name));
    await peer.store(join(dir, peer.name), tree, -1);
  }
  return {
    absent,
    sides: [
      { name: 'hd', run: () => hdIngest(tree, join(dir, 'hd'), 'keep') },
      floorSide('floor: walk and lstat', 'lstat', tree),
      ...peers.map((peer): Side => ({ name: peer.name, run: async (round) => ({ ms: await timed(() => peer.store(join(dir, peer.name), tree, round)), work: '' }) })),
    ],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

async function restore(workshop: Workshop): Promise<Race> {
  const tree = await projectTree(workshop);
  const dir = workshop.tempDir('restore');
  const { peers, absent } = findPeers();
  const stored = await childRun('ingest', join(dir, 'hd'), tree, join(dir, 'stat.cache'));
  for (const peer of peers) {
    await peer.init(join(dir, peer.name));
    await peer.store(join(dir, peer.name), tree, 0);
  }
  const target = join(dir, 'target');
  const into = (restoreAll: () => Promise<number>) => async (): Promise<Sample> => {
    rmSync(target, { recursive: true, force: true });
    await settle();
    return { ms: await restoreAll(), work: '' };
  };
  return {
    absent,
    sides: [
      { name: 'hd', run: into(async () => (await childRun('restore', join(dir, 'hd'), stored.tree ?? '', target)).ms) },
      ...peers.map((peer): Side => ({ name: peer.name, run: into(() => timed(() => peer.restore(join(dir, peer.name), target, 0))) })),
    ],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

async function oneInMany(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('many');
  const project = join(dir, 'project');
  makeFiles(project, MANY_FILES, 200);
  const store = openStore(join(dir, 'store'));
  const options = { store, storeDir: join(dir, 'store'), projectDir: project, filter: createFilter({ include: [], exclude: [] }), owner: { uid: 0, gid: 0 } };
  const [updating, scanning] = ['update', 'scan'].map((name) => new Ingest({ ...options, statCacheFile: join(dir, name) })) as [Ingest, Ingest];
  updating.scan();
  scanning.scan();
  const { peers, absent } = findPeers();
  const git = peers.find(({ name }) => name === 'git');
  await git?.init(join(dir, 'git'));
  await git?.store(join(dir, 'git'), project, 0);
  const path = 'd3/e60/f2401.js';
  const edit = (round: number, side: string): void => writeFileSync(join(project, path), `edited in round ${round} for ${side}\n`);
  const hdSide = (name: string, look: () => { hashed: number; source: string }): Side => ({
    name,
    run: async (round) => {
      edit(round, name);
      const startedMs = performance.now();
      const { hashed, source } = look();
      store.setRef(`bench/${name}`, { kind: 'tree', digest: source });
      return { ms: performance.now() - startedMs, work: `read ${hashed} files` };
    },
  });
  return {
    absent: absent.filter((name) => name === 'git'),
    sides: [
      hdSide('hd, told which', () => updating.update([path])),
      hdSide('hd, looking at all', () => scanning.scan()),
      ...(git === undefined ? [] : [{ name: 'git add --all', run: async (round: number) => (edit(round, 'git'), { ms: await timed(() => git.store(join(dir, 'git'), project, round)), work: 'whole process' }) }]),
    ],
    [Symbol.asyncDispose]: async () => {
      store[Symbol.dispose]();
      rmSync(dir, { recursive: true });
    },
  };
}

async function smallObjects(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('small');
  const objects = (round: number): Buffer[] => Array.from({ length: SMALL_OBJECTS }, (_, i) => Buffer.alloc(SMALL_OBJECT_BYTES, `${round}/${i} ${Math.sin(round + i)} `));
  const perSecond = (ms: number): Sample => ({ ms, work: `${Math.round(SMALL_OBJECTS / ms)},000 objects/s` });
  return {
    sides: [
      {
        name: 'hd',
        run: async (round) => {
          const bytes = objects(round);
          using store = openStore(join(dir, `store-${round}`));
          await settle();
          const startedMs = performance.now();
          for (const object of bytes) store.putBlob(object);
          store.flush();
          return perSecond(performance.now() - startedMs);
        },
      },
      {
        name: 'floor: append and sync',
        run: async (round) => {
          const bytes = objects(round);
          const fd = openSync(join(dir, `file-${round}`), 'w');
          await settle();
          const startedMs = performance.now();
          for (const object of bytes) writeSync(fd, object);
          fsyncSync(fd);
          const ms = performance.now() - startedMs;
          closeSync(fd);
          return perSecond(ms);
        },
      },
    ],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

async function noopScan(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('project');
  makeFiles(dir, FILES, 7_000);
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "files"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n`);
  const hd = workshop.hd(dir);
  await hd.build();
  return {
    sides: [
      {
        name: 'hd',
        run: async () => {
          const built = (await hd.build()).find((event) => event.type === 'built');
          return { ms: built?.ms ?? Number.NaN, work: `read ${built?.hashed} files` };
        },
      },
      {
        name: 'floor: walk and lstat',
        run: async () => {
          const startedMs = performance.now();
          walk(dir, (path) => void lstatSync(path, { bigint: true }));
          return { ms: performance.now() - startedMs, work: 'nothing compared' };
        },
      },
    ],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

/** The same files every time. Sizes as in a node_modules: most small, a few large. */
export function makeFiles(dir: string, files: number, meanBytes: number): void {
  let seed = 1;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  for (let index = 0; index < files; index++) {
    const sub = join(dir, `d${Math.floor(index / FILES_A_DIRECTORY / 18)}`, `e${Math.floor(index / FILES_A_DIRECTORY)}`);
    if (index % FILES_A_DIRECTORY === 0) mkdirSync(sub, { recursive: true });
    const line = `file ${index} ${random()}\n`;
    writeFileSync(join(sub, `f${index}.js`), line.repeat(Math.ceil((Math.exp(random() * 8) / 373) * (meanBytes / line.length))));
  }
}

function walk(dir: string, visit: (path: string) => void): void {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) walk(path, visit);
    else visit(path);
  }
}

/** Real packages where they can be had. */
async function projectTree(workshop: Workshop): Promise<string> {
  const tree = await workshop.packageTree();
  if (tree !== undefined) return tree;
  const dir = workshop.tempDir('files');
  makeFiles(dir, FILES, 23_000);
  return dir;
}

async function hdIngest(tree: string, dir: string, after: 'keep' | 'remove'): Promise<Sample> {
  mkdirSync(dir, { recursive: true });
  await settle();
  const { ms, files, hashed, peakBytes } = await childRun('ingest', join(dir, 'store'), tree, join(dir, 'stat.cache'));
  const work = `${files} files, read ${hashed}, ${inMb(sizeOf(join(dir, 'store')))} stored, ${inMb(peakBytes)} of memory`;
  if (after === 'remove') rmSync(dir, { recursive: true });
  return { ms, work };
}

async function peerStore(peer: Peer, tree: string, repository: string, round: number): Promise<Sample> {
  await peer.init(repository);
  await settle();
  const ms = await timed(() => peer.store(repository, tree, round));
  const work = `${inMb(sizeOf(repository))} stored`;
  rmSync(repository, { recursive: true });
  return { ms, work };
}

function floorSide(name: string, mode: string, tree: string): Side {
  return {
    name,
    run: async () => {
      await settle();
      const { ms, files } = await childRun(mode, tree);
      return { ms, work: `${files} files, nothing kept` };
    },
  };
}

async function childRun(...args: string[]): Promise<ChildResult> {
  child ??= bundledChild();
  return JSON.parse(await run(process.execPath, [...NODE_FLAGS, await child, ...args])) as ChildResult;
}

let child: Promise<string> | undefined;

/** As users run it: a thread that loads the sources starts 200 ms later. */
async function bundledChild(): Promise<string> {
  const checkout = fileURLToPath(new URL('../../../../', import.meta.url));
  await run(process.execPath, [join(checkout, 'scripts/bundle.ts'), '--entry', 'packages/bench/src/store-child.ts', '--out', 'dist/bench']);
  return join(checkout, 'dist/bench/store-child.mjs');
}

/** What the side before has left to be written is not this side's. */
async function settle(): Promise<void> {
  await run('sync', []);
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const startedMs = performance.now();
  await work();
  return performance.now() - startedMs;
}

function sizeOf(dir: string): number {
  return readdirSync(dir, { recursive: true, encoding: 'utf8' }).reduce((sum, path) => sum + fileBytes(join(dir, path)), 0);
}

function fileBytes(path: string): number {
  const stats = lstatSync(path);
  return stats.isFile() ? stats.size : 0;
}

function inMb(bytes: number): string {
  return `${(bytes / 1e6).toFixed(1)} MB`;
}
