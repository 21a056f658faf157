import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { HdError } from '@hyperdocker/base';
import { openStore } from '@hyperdocker/cas';
import { openHome } from '@hyperdocker/environment';
import type { Docker } from '@hyperdocker/demo';
import { formatMs, run } from '@hyperdocker/demo';
import type { CorpusEntry } from '../dockerfile-corpus.ts';
import { BUSYBOX_NAME, TOOLCHAIN, TOOLCHAIN_NAMES, copyProject, corpus, edit } from '../dockerfile-corpus.ts';
import type { ImageDifferences } from '../image-comparison.ts';
import { compareImages } from '../image-comparison.ts';
import type { Race, Sample, Scenario } from '../scenario.ts';
import type { Workshop } from '../workshop.ts';

const RUN = Date.now().toString(36);
const COLD_ROUNDS = 1;

/** What one builder did with one Dockerfile. */
interface Timed { ms: number; ran: number }
interface Row { entry: CorpusEntry; cold: { hd: Timed[]; docker: Timed[] }; warm: { hd: Timed[]; docker: Timed[] }; differences: ImageDifferences | undefined; problem: string | undefined }

/** `hd build -f` beside BuildKit, on the corpus of `packages/bench/dockerfiles`. */
export const dockerfileScenarios: Scenario[] = [
  {
    name: 'dockerfiles', rounds: 3,
    what: 'Every Dockerfile of `packages/bench/dockerfiles` is built again after one of its files was edited, another content each time: from the start of the command to its end; the time is the median over all of them. Images are compared after the first builds, which run everything (`--no-cache`)',
    open,
  },
];

async function open(workshop: Workshop, rounds: number): Promise<Race> {
  const docker = await workshop.docker(TOOLCHAIN);
  if (docker === undefined) throw new HdError('BENCH_DOCKER', 'this scenario compares with Docker, which is not here');
  const dir = workshop.tempDir('dockerfiles');
  const side = new Builders(workshop, docker, dir);
  await side.prepare();
  const rows: Row[] = corpus().map((entry) => ({ entry, cold: { hd: [], docker: [] }, warm: { hd: [], docker: [] }, differences: undefined, problem: undefined }));
  for (const row of rows) await side.cold(row);
  const compared = rows.filter(({ entry, problem }) => entry.tooNew === undefined && problem === undefined);
  return {
    sides: [
      { name: '`hd build -f`', run: (round) => side.warm(compared, 'hd', round) },
      { name: 'BuildKit', run: (round) => side.warm(compared, 'docker', round) },
    ],
    report: () => report(rows, rounds),
    [Symbol.asyncDispose]: async () => rmSync(dir, { recursive: true, force: true }),
  };
}

class Builders {
  readonly #workshop: Workshop;
  readonly #docker: Docker;
  readonly #dir: string;
  readonly #secret: string;

  constructor(workshop: Workshop, docker: Docker, dir: string) {
    this.#workshop = workshop;
    this.#docker = docker;
    this.#dir = dir;
    this.#secret = join(dir, 'secret');
    writeFileSync(this.#secret, 'correct horse battery staple\n');
  }

  /** The same base images for both, under the names that the Dockerfiles use. */
  async prepare(): Promise<void> {
    const toolchain = await this.#docker.baseImage(await this.#workshop.baseTar(TOOLCHAIN), TOOLCHAIN_NAMES, 'CMD ["bash"]');
    const busybox = await this.#docker.baseImage(await this.#workshop.busyboxTar(), [BUSYBOX_NAME], 'CMD ["sh"]');
    for (const [image, names] of [[toolchain, TOOLCHAIN_NAMES], [busybox, [BUSYBOX_NAME]]] as const) {
      const archive = join(this.#dir, 'base.tar');
      const here = await this.#hd(['image', 'ls', '--json'], this.#dir);
      const missing = names.filter((name) => !here.includes(`"${name}"`));
      if (missing.length > 0) await this.#docker.save(image, archive);
      for (const name of missing) await this.#hd(['image', 'import', archive, name], this.#dir);
      rmSync(archive, { force: true });
    }
  }

  /** Everything runs, in directories that neither has seen; and the images are compared. */
  async cold(row: Row): Promise<void> {
    const { entry } = row;
    for (let round = 0; round < COLD_ROUNDS; round++) {
      const startedMs = Date.now() - 1000;
      try {
        row.cold.hd.push(await this.#build('hd', entry, this.#project('hd', entry, String(round)), true));
        if (entry.tooNew !== undefined) continue;
        row.cold.docker.push(await this.#build('docker', entry, this.#project('docker', entry, String(round)), true));
        if (round === 0) row.differences = await this.#compare(entry, startedMs);
      } catch (error) {
        row.problem = error instanceof Error ? error.message.trim().split('\n').slice(-6).join(' / ') : String(error);
        this.#workshop.say(`${entry.name}: ${row.problem}`);
        return;
      }
    }
    this.#workshop.say(`${entry.name}: hd ${row.cold.hd.map(({ ms }) => formatMs(ms)).join(' ')}, BuildKit ${row.cold.docker.map(({ ms }) => formatMs(ms)).join(' ')}${differencesOf(row) === '' ? '' : `; ${differencesOf(row)}`}`);
  }

  async warm(rows: readonly Row[], builder: 'hd' | 'docker', round: number): Promise<Sample> {
    const times: Timed[] = [];
    for (const row of rows) {
      const dir = this.#project(builder, row.entry, 'last');
      edit(row.entry, dir, `${RUN}-${round}`);
      const timed = await this.#build(builder, row.entry, dir, false);
      times.push(timed);
      if (round > 0) row.warm[builder].push(timed);
    }
    return { ms: median(times.map(({ ms }) => ms)), work: `${times.reduce((sum, { ran }) => sum + ran, 0)} commands ran in ${rows.length} builds` };
  }

  readonly #made = new Set<string>();

  #project(builder: 'hd' | 'docker', entry: CorpusEntry, which: string): string {
    const dir = join(this.#dir, builder, which, entry.name);
    if (this.#made.has(dir)) return dir;
    mkdirSync(dir, { recursive: true });
    copyProject(entry, dir, { withoutSyntax: builder === 'docker' });
    this.#made.add(dir);
    return dir;
  }

  async #build(builder: 'hd' | 'docker', entry: CorpusEntry, dir: string, noCache: boolean): Promise<Timed> {
    const options = [...entry.options.map((option) => option.replace('SECRET', this.#secret)), ...(noCache ? ['--no-cache'] : [])];
    const startedMs = performance.now();
    if (builder === 'docker') {
      const { commands } = await this.#docker.build(dir, entry.name, { options });
      return { ms: performance.now() - startedMs, ran: commands.filter((ran) => ran).length };
    }
    const output = await this.#hd(['build', '-f', 'Dockerfile', '-t', entry.name, '--json', ...options], dir);
    const ms = performance.now() - startedMs;
    const built = output.split('\n').filter((line) => line.includes('"image-built"')).map((line) => JSON.parse(line) as { ran: number }).at(-1);
    return { ms, ran: built?.ran ?? 0 };
  }

  /** Both in the store of `hd`. Layers that are there need not be read again. */
  async #compare(entry: CorpusEntry, sinceMs: number): Promise<ImageDifferences> {
    const [archive, other] = [join(this.#dir, 'docker.tar'), `of-docker/${entry.name}`];
    await this.#docker.save(entry.name, archive);
    await this.#hd(['image', 'import', archive, other], this.#dir);
    rmSync(archive);
    using store = openStore(openHome({ HD_HOME: this.#workshop.hdHome }).storeDir, { readOnly: true });
    return compareImages(store, entry.name, other, sinceMs);
  }

  #hd(args: string[], cwd: string): Promise<string> {
    return run(this.#workshop.hdBin, args, { cwd, env: { ...process.env, HD_HOME: this.#workshop.hdHome } });
  }
}

function report(rows: readonly Row[], rounds: number): string {
  const lines = rows.map((row) => {
    const { entry, cold, warm } = row;
    const name = `[\`${entry.name}\`](../packages/bench/dockerfiles/${entry.name}/Dockerfile)`;
    if (cold.docker.length === 0) return `| ${name} | ${row.problem === undefined ? ms(cold.hd) : 'failed'} | – | – | – | – | – | – | ${entry.tooNew ?? row.problem ?? ''} |`;
    return `| ${name} | ${ms(cold.hd)} | ${ms(cold.docker)} | ${ratio(cold.docker, cold.hd)} | ${ms(warm.hd)} | ${ms(warm.docker)} | ${ratio(warm.docker, warm.hd)} | ${warm.hd[0]?.ran ?? 0} : ${warm.docker[0]?.ran ?? 0} | ${differencesOf(row) || 'equal'} |`;
  });
  const both = rows.filter(({ cold }) => cold.docker.length > 0);
  const all = (which: 'cold' | 'warm'): string => median(both.map((row) => times(row[which].docker) / times(row[which].hd))).toFixed(2);
  return [
    `| Dockerfile | Cold: hd | BuildKit | BuildKit ÷ hd | After an edit: hd | BuildKit | BuildKit ÷ hd | Commands run, hd : BuildKit | Image |`,
    '|---|---|---|---|---|---|---|---|---|', ...lines, '',
    `Median of the ratios over ${both.length} Dockerfiles: cold ${all('cold')}, after an edit ${all('warm')}. Times are medians of ${COLD_ROUNDS} cold builds and ${rounds} edits.`,
  ].join('\n');
}

function differencesOf({ differences }: Row): string {
  if (differences === undefined) return '';
  const { files, times: mtimes, config } = differences;
  const some = (list: readonly string[]): string => `${list.slice(0, 4).join(', ')}${list.length > 4 ? ` and ${list.length - 4} more` : ''}`;
  return [...(files.length === 0 ? [] : [some(files)]), ...(mtimes.length === 0 ? [] : [`times: ${some(mtimes)}`]), ...(config.length === 0 ? [] : [`config: ${some(config)}`])].join('; ');
}

function ms(timed: readonly Timed[]): string {
  return formatMs(times(timed));
}

function ratio(first: readonly Timed[], second: readonly Timed[]): string {
  return (times(first) / times(second)).toFixed(2);
}

function times(timed: readonly Timed[]): number {
  return median(timed.map((sample) => sample.ms));
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? (sorted[middle] ?? Number.NaN) : ((sorted[middle - 1] ?? Number.NaN) + (sorted[middle] ?? Number.NaN)) / 2;
}
