/**
 * `npm run bench [-- <scenario>… --rounds N --json --no-docker --install-docker --work DIR --hd PATH --repos DIR]`: times what users
 * wait for, `hd` beside the tools that they would use otherwise, or beside a floor. Both sides do the same work in the same
 * run and take turns. Scenario: a name, or its beginning. A SIGINT to this process alone ends a scenario
 * after the round that is under way. `--repos` holds the clones that `history` needs.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { hasher } from '@hyperdocker/base';
import type { Summary } from '@hyperdocker/demo';
import { formatMs, formatRatio, ratio, summarize } from '@hyperdocker/demo';
import type { Scenario } from './scenario.ts';
import { chunkingScenarios } from './scenarios/chunking.ts';
import { dockerfileScenarios } from './scenarios/dockerfiles.ts';
import { execScenarios } from './scenarios/exec.ts';
import { fuseScenarios } from './scenarios/fuse.ts';
import { flaskScenarios } from './scenarios/flask.ts';
import { historyScenarios } from './scenarios/history.ts';
import { mountScenarios } from './scenarios/mount.ts';
import { imageScenarios } from './scenarios/images.ts';
import { liveScenarios } from './scenarios/live.ts';
import { networkScenarios } from './scenarios/network.ts';
import { profileScenarios } from './scenarios/profiles.ts';
import { scaleScenarios } from './scenarios/scale.ts';
import { skippingScenarios } from './scenarios/skipping.ts';
import { storeScenarios } from './scenarios/store.ts';
import { tracingScenarios } from './scenarios/tracing.ts';
import { Workshop } from './workshop.ts';

interface SideResult { side: string; ms: Summary; samplesMs: number[]; againstFirst: Summary; work: string[] }
interface Result { scenario: string; what: string; rounds: number; sides: SideResult[]; absent: readonly string[]; report?: string }

const SCENARIOS: Scenario[] = [
  ...flaskScenarios,
  ...storeScenarios,
  ...fuseScenarios,
  ...mountScenarios,
  ...execScenarios,
  ...chunkingScenarios,
  ...profileScenarios,
  ...tracingScenarios,
  ...skippingScenarios,
  ...scaleScenarios,
  ...networkScenarios,
  ...liveScenarios,
  ...imageScenarios,
  ...dockerfileScenarios,
  ...historyScenarios,
];
/** Hashed before every round: how long it takes says how busy the machine is. */
const FIXED_WORK = Buffer.alloc(32 * 1024 * 1024, 7);

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: 'string' }, json: { type: 'boolean' }, 'no-docker': { type: 'boolean' }, 'install-docker': { type: 'boolean' }, work: { type: 'string' }, hd: { type: 'string' }, repos: { type: 'string' },
  },
});
const say = (text: string): void => console.error(text);
const chosen = SCENARIOS.filter(({ name }) => positionals.length === 0 || positionals.some((wanted) => name.startsWith(wanted)));
if (chosen.length === 0) {
  say(`no such scenario; there are: ${SCENARIOS.map(({ name }) => name).join(', ')}`);
  process.exitCode = 2;
} else {
  await main();
}

async function main(): Promise<void> {
  await using workshop = new Workshop({
    workDir: values.work,
    docker: values['no-docker'] === true ? 'leave-out' : values['install-docker'] === true ? 'install' : 'use',
    hdBin: values.hd ?? join(import.meta.dirname, '../../../hd'),
    reposDir: values.repos,
    say,
  });
  const noiseMs: number[] = [];
  const results: Result[] = [];
  const leftOut: { scenario: string; why: string }[] = [];
  for (const scenario of chosen) {
    const why = scenario.unable?.(workshop);
    if (why === undefined) results.push(await measure(workshop, scenario, noiseMs));
    else leftOut.push({ scenario: scenario.name, why });
  }
  for (const { scenario, why } of leftOut) say(`${scenario} is left out: ${why}`);
  if (results.length === 0) return;
  const noise = summarize(noiseMs);
  const docker = await workshop.dockerVersion();
  if (values.json === true) console.log(JSON.stringify({ results, leftOut, noise, docker }, undefined, 2));
  else console.log(`${[table(results), ...results.flatMap(({ report }) => report ?? [])].join('\n\n')}\n\n${docker === undefined ? '' : `Docker Engine ${docker} with BuildKit. `}The same fixed work took ${formatMs(noise.min)} to ${formatMs(noise.max)} in the course of the run (median ${formatMs(noise.median)}).`);
}

async function measure(workshop: Workshop, scenario: Scenario, noiseMs: number[]): Promise<Result> {
  const { name, what } = scenario;
  const rounds = values.rounds === undefined ? scenario.rounds : Number(values.rounds);
  say(`${name}: getting ready`);
  await using race = await scenario.open(workshop, rounds);
  const samples = race.sides.map((): { ms: number; work: string }[] => []);
  let stop = false;
  const onInterrupt = (): void => {
    stop = true;
    say(`${name}: the round that is under way is the last one`);
  };
  process.once('SIGINT', onInterrupt);
  let done = 0;
  for (let round = 0; round <= rounds && !(stop && round > 1); round++) {
    noiseMs.push(timeFixedWork());
    for (const [index, side] of race.sides.entries()) {
      const sample = await side.run(round);
      if (round > 0) samples[index]?.push(sample);
    }
    await race.settle?.(round);
    done = round;
    if (round > 0) say(`${name}: round ${round} of ${rounds}: ${race.sides.map((side, index) => `${side.name} ${formatMs(samples[index]?.at(-1)?.ms ?? Number.NaN)}`).join(', ')}`);
  }
  process.off('SIGINT', onInterrupt);
  const reference = samples[0]?.map(({ ms }) => ms) ?? [];
  const sides = race.sides.map((side, index): SideResult => {
    const samplesMs = samples[index]?.map(({ ms }) => ms) ?? [];
    return { side: side.name, ms: summarize(samplesMs), samplesMs, againstFirst: ratio(samplesMs, reference), work: [...new Set(samples[index]?.map(({ work }) => work))] };
  });
  const report = race.report?.();
  return { scenario: name, what, rounds: done, sides, absent: race.absent ?? [], ...(report === undefined ? {} : { report }) };
}

function table(results: readonly Result[]): string {
  const rows = results.flatMap(({ scenario, rounds, sides }) =>
    sides.map(({ side, ms, againstFirst, work }, index) =>
      [index === 0 ? `\`${scenario}\`` : '', side, formatMs(ms.median), `${formatMs(ms.min)} – ${formatMs(ms.max)}`, index === 0 ? '1' : formatRatio(againstFirst), work[0] ?? '', index === 0 ? String(rounds) : ''].join(' | ')),
  );
  const notes = results.map(({ scenario, what, absent }) => `- \`${scenario}\`: ${what}.${absent.length === 0 ? '' : ` Left out, not installed here: ${absent.join(', ')}.`}`);
  return ['| Scenario | Side | Median | Min – max | × first (spread) | Work | Rounds |', '|---|---|---|---|---|---|---|', ...rows.map((row) => `| ${row} |`), '', ...notes].join('\n');
}

function timeFixedWork(): number {
  const startedMs = performance.now();
  hasher.hash(FIXED_WORK);
  return performance.now() - startedMs;
}
