import { lstatSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { hasher } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import type { Race, Scenario } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { BASE } from '../workshop.ts';

const FILES = 13_000;
const FILES_A_DIRECTORY = 40;

export const storeScenarios: Scenario[] = [
  { name: 'store.ingest', rounds: 5, what: `${FILES} new files of 7 KB on average into an empty store, to the disk; beside reading and hashing alone`, open: ingest },
  { name: 'store.noop-scan', rounds: 9, what: `\`hd build\` of a project of ${FILES} files, none changed: what its \`built\` event says; beside a bare walk that stats them`, open: noopScan },
];

async function ingest(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('files');
  makeFiles(dir);
  const stores = workshop.tempDir('stores');
  return {
    sides: [
      {
        name: 'hd',
        run: async (round) => {
          const storeDir = join(stores, String(round));
          const startedMs = performance.now();
          using store = openStore(storeDir, { nodeLinks: () => [] });
          walk(dir, (path) => void store.putFile(path));
          store.flush();
          return { ms: performance.now() - startedMs, work: `${FILES} blobs` };
        },
      },
      {
        name: 'floor: read and hash',
        run: async () => {
          const startedMs = performance.now();
          walk(dir, (path) => void hasher.hash(readFileSync(path)));
          return { ms: performance.now() - startedMs, work: 'nothing kept' };
        },
      },
    ],
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true }),
  };
}

async function noopScan(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('project');
  makeFiles(dir);
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
function makeFiles(dir: string): void {
  let seed = 1;
  const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
  for (let index = 0; index < FILES; index++) {
    const sub = join(dir, `d${Math.floor(index / FILES_A_DIRECTORY / 18)}`, `e${Math.floor(index / FILES_A_DIRECTORY)}`);
    if (index % FILES_A_DIRECTORY === 0) mkdirSync(sub, { recursive: true });
    const line = `file ${index} ${random()}\n`;
    writeFileSync(join(sub, `f${index}.js`), line.repeat(Math.ceil(Math.exp(random() * 8) / 10) * 3));
  }
}

function walk(dir: string, visit: (path: string) => void): void {
  for (const entry of readdirSync(dir, { withFileTypes: true })) {
    const path = join(dir, entry.name);
    if (entry.isDirectory()) walk(path, visit);
    else visit(path);
  }
}
