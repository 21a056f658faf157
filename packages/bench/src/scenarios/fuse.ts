import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@hyperdocker/demo';
import type { Race, Sample, Scenario } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';
import { BASE } from '../workshop.ts';

/** Timed inside, so that how the shell got there does not count. */
const CAT_USR = 'started=$(date +%s%N); find /usr -xdev -type f -print0 | xargs -0 cat > /dev/null; ended=$(date +%s%N); echo "$((ended - started)) $(find /usr -xdev -type f | wc -l)"';

export const fuseScenarios: Scenario[] = [
  {
    name: 'fuse.cat', rounds: 5,
    what: 'Every file below /usr of the base image is read, in the environment; beside the same files unpacked on the disk. The first reading is of a fresh mount, the store already in the page cache',
    open: catUsr,
  },
];

async function catUsr(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('project');
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "cat"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n`);
  const hd = workshop.hd(dir);
  const root = workshop.tempDir('root');
  await run('tar', ['--extract', '--directory', root, '--file', await workshop.baseTar()]);
  await hd.up();
  return {
    sides: [
      {
        name: 'hd, again',
        run: async (round) => {
          if (round === 0) await hd.exec('/bin/sh', '-c', CAT_USR);
          return sample(await hd.exec('/bin/sh', '-c', CAT_USR));
        },
      },
      {
        name: 'hd, first time',
        run: async () => {
          await hd.down();
          await hd.up();
          return sample(await hd.exec('/bin/sh', '-c', CAT_USR));
        },
      },
      { name: 'floor: the disk, again', run: async () => sample(await run('chroot', [root, '/bin/sh', '-c', CAT_USR])) },
    ],
    [Symbol.asyncDispose]: () => hd.down(),
  };
}

function sample(output: string): Sample {
  const [ns = '', files = ''] = output.trim().split('\n').at(-1)?.split(' ') ?? [];
  return { ms: Number(ns) / 1e6, work: `${files} files` };
}
