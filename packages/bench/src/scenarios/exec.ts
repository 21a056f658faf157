import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from '@hyperdocker/demo';
import type { Race, Sample, Scenario } from '../scenario.ts';
import type { Hd } from '../hd.ts';
import type { Workshop } from '../workshop.ts';
import { BASE } from '../workshop.ts';

export const execScenarios: Scenario[] = [
  {
    name: 'exec.overhead', rounds: 25,
    what: '`true` in the environment that is up: by the OCI runtime alone, in the same root and as tightly, and by `hd exec`; from the start of the process to its end',
    open: overhead,
  },
];

async function overhead(workshop: Workshop): Promise<Race> {
  const dir = workshop.tempDir('project');
  writeFileSync(join(dir, 'hd.toml'), `[environment]\nname = "exec"\nbase = "apt://${BASE.suite}?include=${BASE.include}"\n`);
  const hd = workshop.hd(dir);
  await hd.up();
  return {
    sides: [
      { name: 'floor: the runtime', run: () => byRuntime(hd) },
      { name: 'hd exec', run: () => timed(() => hd.exec('true')) },
    ],
    [Symbol.asyncDispose]: () => hd.down(),
  };
}

/** The bundle is made beforehand, and without the shell that `hd` has as process 1. */
async function byRuntime(hd: Hd): Promise<Sample> {
  const { runtime, runtimeRoot, prefix, bundleDir, container } = await hd.prepareExec(['true']);
  const file = join(bundleDir, 'config.json');
  const config = JSON.parse(readFileSync(file, 'utf8')) as { process: { args: string[] } };
  config.process.args = ['true'];
  writeFileSync(file, JSON.stringify(config));
  const [enter = '', ...args] = [...prefix, runtime, '--root', runtimeRoot, 'run', '--bundle', bundleDir, container.id];
  const sample = await timed(() => run(enter, args));
  rmSync(bundleDir, { recursive: true });
  return sample;
}

async function timed(work: () => Promise<unknown>): Promise<Sample> {
  const startedMs = performance.now();
  await work();
  return { ms: performance.now() - startedMs, work: 'ran it once' };
}
