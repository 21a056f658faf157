import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@hyperdocker/demo';
import { emptyPageCache } from '../page-cache.ts';
import type { Footprint } from '../footprint.ts';
import { footprintOf, pageCacheBytes } from '../footprint.ts';
import type { Hd } from '../hd.ts';
import type { Race, Sample, Scenario } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { BASE } from '../workshop.ts';

const COUNTS = [1, 5, 20];
const PROJECT_FILES = 500;
const IDLE_MS = 10_000;
const MANY_FILES = 50_000;
const FILES_A_DIRECTORY = 100;
/** What every environment reads of the base: its Python library. */
const READ = 'find /usr/lib/python3* -type f -exec cat {} + | wc -c';
const MEBIBYTE = 2 ** 20;

export const scaleScenarios: Scenario[] = [
  {
    name: 'scale.environments', rounds: 1,
    what: `${COUNTS.join(', ')} copies of a project of ${PROJECT_FILES} files, each with one file of its own and a service at the same port, started at once on one base: until all are up. The table below has what they take then`,
    open: environments,
  },
  {
    name: 'scale.files', rounds: 1,
    what: `an environment of ${MANY_FILES} files: until it is up. The table below has what it takes then`,
    open: files,
  },
];

interface Taken extends Footprint {
  environments: number;
  diskBytes: number;
  /** That reading the same files of the base in each of them has added. */
  cacheBytes: number;
  readBytes: number;
}

async function environments(workshop: Workshop): Promise<Race> {
  const taken = new Map<number, Taken>();
  const parent = workshop.tempDir('copies');
  const copies = Array.from({ length: Math.max(...COUNTS) }, (_, index) => {
    const dir = join(parent, `copy-${index}`);
    writeProject(dir, PROJECT_FILES, `port = 8000\n`);
    writeFileSync(join(dir, 'own.txt'), `only in copy ${index}\n`);
    return workshop.hd(dir);
  });
  // The base is there before anything is counted.
  await copies[0]?.build();
  return {
    sides: COUNTS.map((count) => ({
      name: `${count} at once`,
      run: async () => {
        const chosen = copies.slice(0, count);
        const diskBefore = await diskBytes(workshop.hdHome);
        const sample = await timed(async () => void (await Promise.all(chosen.map((copy) => copy.up()))));
        try {
          taken.set(count, await measure(chosen, { workshop, diskBefore }));
        } finally {
          for (const copy of chosen) await copy.down();
        }
        return sample;
      },
    })),
    report: () => table([...taken.values()]),
    [Symbol.asyncDispose]: async () => rmSync(parent, { recursive: true, force: true }),
  };
}

async function measure(copies: readonly Hd[], { workshop, diskBefore }: { workshop: Workshop; diskBefore: number }): Promise<Taken> {
  const pids = await Promise.all(copies.map((copy) => copy.supervisorPid()));
  const footprint = await footprintOf(pids, IDLE_MS);
  const disk = (await diskBytes(workshop.hdHome)) - diskBefore;
  await emptyPageCache();
  const cacheBefore = pageCacheBytes();
  let readBytes = 0;
  for (const copy of copies) readBytes = Number((await copy.exec('sh', '-c', READ)).trim());
  return { ...footprint, environments: copies.length, diskBytes: disk, cacheBytes: pageCacheBytes() - cacheBefore, readBytes };
}

async function files(workshop: Workshop): Promise<Race> {
  const dir = join(workshop.tempDir('many'), 'project');
  writeProject(dir, MANY_FILES, '');
  const hd = workshop.hd(dir);
  const taken: Footprint[] = [];
  return {
    sides: [{
      name: 'hd',
      run: async () => {
        const sample = await timed(() => hd.up());
        try {
          taken.push(await footprintOf([await hd.supervisorPid()], IDLE_MS));
        } finally {
          await hd.down();
        }
        return sample;
      },
    }],
    report: () => `| ${MANY_FILES} files | Supervisor, resident | All processes, proportional | Idle CPU |\n|---|---|---|---|\n${taken.map((each, index) => `| ${index === 0 ? 'first build' : 'again'} | ${mebibytes(each.largestResidentBytes)} | ${mebibytes(each.proportionalBytes)} | ${each.idleCpuPercent.toFixed(2)} % |`).join('\n')}`,
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true, force: true }),
  };
}

function writeProject(dir: string, count: number, more: string): void {
  for (let at = 0; at < count; at += FILES_A_DIRECTORY) {
    const sub = join(dir, 'src', String(at / FILES_A_DIRECTORY));
    mkdirSync(sub, { recursive: true });
    for (let i = at; i < Math.min(at + FILES_A_DIRECTORY, count); i++) writeFileSync(join(sub, `${i}.txt`), `file ${i}\n`.repeat(20));
  }
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "copy"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n\n[services.web]\ncommand = "exec python3 -m http.server 8000 --bind 127.0.0.1"\n${more}`);
}

async function diskBytes(dir: string): Promise<number> {
  return Number((await run('du', ['--summarize', '--block-size=1', dir])).split('\t')[0]);
}

function table(rows: readonly Taken[]): string {
  const lines = rows.map((row) => [
    row.environments, mebibytes(row.diskBytes), `${mebibytes(row.cacheBytes)} (${mebibytes(row.readBytes)} read in each)`, mebibytes(row.proportionalBytes), ...Object.values(row.byKind).map(mebibytes), mebibytes(row.largestResidentBytes), row.processes, row.threads, `${row.idleCpuPercent.toFixed(2)} %`,
  ].join(' | '));
  return ['| Environments | Disk, beyond the base | Page cache | Memory: sum of proportional shares | of supervisors | of FUSE hosts | of the rest | Largest supervisor, resident | Processes | Threads | Idle CPU, of one processor |', '|---|---|---|---|---|---|---|---|---|---|---|', ...lines.map((line) => `| ${line} |`)].join('\n');
}

function mebibytes(bytes: number): string {
  return `${(bytes / MEBIBYTE).toFixed(bytes < 10 * MEBIBYTE ? 1 : 0)} MiB`;
}

async function timed(work: () => Promise<void>): Promise<Sample> {
  const startedMs = performance.now();
  await work();
  return { ms: performance.now() - startedMs, work: 'all up' };
}
