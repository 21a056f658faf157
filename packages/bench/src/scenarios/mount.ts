import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@hyperdocker/demo';
import { emptyPageCache } from '../page-cache.ts';
import type { Race, Sample, Scenario } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import type { DebianBase } from '../workshop.ts';
import { BASE } from '../workshop.ts';
import { npmProject } from './tracing.ts';

const IMAGE: DebianBase = { suite: BASE.suite, include: `${BASE.include},nodejs,npm,git`, tag: 'bench-mount' };
const FILES = 10_000;
const LARGE_MIB = 1024;
const NPM_CI = 'npm ci --offline --no-audit --cache .npm';

const GIT_STATUS = 'git -c safe.directory=* --git-dir=repository --work-tree=. status --porcelain';

interface Case {
  name: string;
  what: string;
  /** In the project's directory, by a shell. Timed from its start to its end. */
  command: string;
  /** What only writes has no first time. */
  coldToo: boolean;
  fill?: (workshop: Workshop, dir: string) => Promise<void>;
  /** Once in each root, unmeasured. */
  prepare?: string;
}

const CASES: Case[] = [
  { name: 'find', what: 'Every path of the root file system is listed', command: 'find / -xdev', coldToo: true },
  { name: 'stat', what: `Each of ${FILES} files of the project is looked at`, command: 'find files -type f -size +1M', coldToo: true, fill: files },
  { name: 'cat', what: `${FILES} files of the project are read`, command: 'find files -type f -print0 | xargs -0 cat', coldToo: true, fill: files },
  { name: 'cat-image', what: 'Every file below /usr of the image is read', command: 'find /usr -xdev -type f -print0 | xargs -0 cat', coldToo: true },
  { name: 'git-status', what: `git status of ${FILES} files, which git has seen before`, command: GIT_STATUS, coldToo: true, fill: files, prepare: `${GIT_STATUS} > /dev/null` },
  { name: 'random', what: '20,000 readings of 4 KiB in a file of 1 GiB', command: 'python3 random-reads.py', coldToo: true, fill: large },
  { name: 'sequential', what: 'A file of 1 GiB is read', command: 'cat large', coldToo: true, fill: large },
  { name: 'tsc', what: 'The type check of the example node-ts', command: 'npx --offline tsc', coldToo: true, fill: npmProject, prepare: NPM_CI },
  { name: 'npm-ci', what: 'npm ci of the example node-ts, from a cache in the project', command: NPM_CI, coldToo: false, fill: npmProject, prepare: NPM_CI },
  { name: 'write', what: '5,000 files of 4 KiB and one of 256 MiB are written, and removed', command: 'python3 writes.py', coldToo: false, fill: writes },
];

export const mountScenarios: Scenario[] = CASES.map((one) => ({
  name: `mount.${one.name}`, rounds: 5,
  what: `${one.what}: in the environment, beside the same files on the disk's own file system (ext4 or what it is), both ${one.coldToo ? 'again, and the first time with an empty page cache, which for hd is of a fresh mount as well' : 'again'}`,
  open: (workshop) => inBoth(workshop, one),
}));

async function inBoth(workshop: Workshop, { command, coldToo, fill, prepare = 'true' }: Case): Promise<Race> {
  const dir = workshop.tempDir('project');
  await fill?.(workshop, dir);
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "mount"\nbase = "apt://${IMAGE.suite}?include=${IMAGE.include}"\n`);
  const hd = workshop.hd(dir);
  await hd.up();
  const root = workshop.tempDir('root');
  await run('tar', ['--extract', '--xattrs', '--file', await workshop.baseTar(IMAGE), '--directory', root]);
  await run('cp', ['-a', dir, join(root, 'workspace')]);
  const timed = `set -e; cd /workspace; started=$(date +%s%N); { ${command}; } > /dev/null; ended=$(date +%s%N); echo "$((ended - started))"`;
  const ready = `cd /workspace && ${prepare}`;
  const inside = async (): Promise<Sample> => sample(await hd.exec('/bin/sh', '-c', timed));
  const beside = async (): Promise<Sample> => sample(await run('chroot', [root, '/bin/sh', '-c', `export HOME=/root; ${timed}`]));
  await run('chroot', [root, '/bin/sh', '-c', ready]);
  await hd.exec('/bin/sh', '-c', ready);
  return {
    sides: [
      // The first times empty the page cache for both.
      { name: 'disk, again', run: async () => (await beside(), beside()) },
      { name: 'hd, again', run: async () => (await inside(), inside()) },
      ...(coldToo ? [
        { name: 'disk, first time', run: async () => (await emptyPageCache(), beside()) },
        {
          name: 'hd, first time',
          run: async () => {
            await hd.down();
            await hd.up();
            await hd.exec('/bin/sh', '-c', ready);
            await emptyPageCache();
            return inside();
          },
        },
      ] : []),
    ],
    [Symbol.asyncDispose]: async () => {
      await hd.down();
      for (const path of [root, dir]) rmSync(path, { recursive: true, force: true });
    },
  };
}

async function files(_: Workshop, dir: string): Promise<void> {
  for (let i = 0; i < FILES; i++) {
    const folder = join(dir, 'files', String(i % 100));
    if (i < 100) mkdirSync(folder, { recursive: true });
    writeFileSync(join(folder, `file-${i}.txt`), `line of file ${i}\n`.repeat(50 + (i % 300)));
  }
  const git = (...args: string[]): Promise<string> => run('git', [`--git-dir=${join(dir, 'repository')}`, `--work-tree=${dir}`, '-c', 'user.name=bench', '-c', 'user.email=bench@localhost', ...args], { cwd: dir });
  await git('init', '--quiet');
  await git('add', 'files');
  await git('commit', '--quiet', '--message', 'files');
}

async function large(_: Workshop, dir: string): Promise<void> {
  await run('dd', ['if=/dev/urandom', `of=${join(dir, 'large')}`, 'bs=1M', `count=${LARGE_MIB}`, 'status=none']);
  writeFileSync(join(dir, 'random-reads.py'), `import os, random\nrandom.seed(1)\nfd = os.open("large", os.O_RDONLY)\nfor _ in range(20000):\n    os.pread(fd, 4096, random.randrange(0, ${LARGE_MIB} * 256) * 4096)\n`);
}

async function writes(_: Workshop, dir: string): Promise<void> {
  writeFileSync(join(dir, 'writes.py'), 'import os, shutil\nos.mkdir("written")\nfor i in range(5000):\n    with open(f"written/{i}", "wb") as file:\n        file.write(b"x" * 4096)\nwith open("written/large", "wb") as file:\n    for _ in range(256):\n        file.write(bytes(1 << 20))\nshutil.rmtree("written")\n');
}

function sample(output: string): Sample {
  return { ms: Number(output.trim().split('\n').at(-1)) / 1e6, work: '' };
}
