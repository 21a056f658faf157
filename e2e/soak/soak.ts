import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError } from '@hyperdocker/base';
import type { Emitted } from '@hyperdocker/environment';
import { envPaths, findProject, openHome } from '@hyperdocker/environment';
import { waitUntil } from '@hyperdocker/testkit';
import { BusyboxRig } from '../busybox.ts';
import type { ProjectRig } from '../rig.ts';
import { Random } from '../soundness/random.ts';
import { Day } from './day.ts';
import { describeTree, differences } from './inside.ts';
import type { Usage } from './measure.ts';
import { usageOf } from './measure.ts';

export interface SoakOptions {
  seed: number;
  /** How much work: ends at the first that is reached. */
  edits: number;
  minutes: number;
  onProgress: (text: string) => void;
}

export interface SoakReport {
  seed: number;
  seconds: number;
  edits: number;
  deeds: Record<string, number>;
  batches: number;
  stepsRun: number;
  restarts: number;
  /** Moments at which the inside was compared with the host, and was equal. */
  quietPoints: number;
  /** Of those, how many were not equal at once, but within the debounce's longest wait. */
  late: number;
  clashes: number;
  warnings: string[];
  /** At the start of quiet, after each quarter, and at the end. */
  usage: Usage[];
}

const SERVICES = `
[build]
steps = ["cat data/* | sort > /sorted"]

[services.page]
command = "httpd -f -p PORT -h control"
port = PORT
watch = ["control/page"]

[services.fragile]
command = "was=$(cat control/crash); while [ \\"$(cat control/crash)\\" = \\"$was\\" ]; do sleep 0.1; done; exit 3"
restart_policy = "always"
`;
/** Between quiet points. */
const DEEDS_AT_ONCE: [number, number] = [5, 40];
/** A batch waits a second at most, and is taken in after the one before it. */
const SETTLE_MS = 30_000;
const LATE_MS = 3_000;

/**
 * A day's work on a real environment in little time. At each quiet point the files inside are compared with those of the host, one by one.
 * @throws HdError SOAK_DIFFERS with the seed and what differs
 */
export async function soak(options: SoakOptions): Promise<SoakReport> {
  await using rig = new BusyboxRig();
  const project = await rig.environment('soak', SERVICES, { 'data/0': '0\n', 'control/page': 'x\n', 'control/crash': '0\n', 'play/a.txt': 'a\n', '.gitignore': 'control/\n' });
  const day = new Day(project.dir, new Random(options.seed));
  day.prepare();
  await project.up();
  await using run = await Run.open(options, project, rig.world.home, day);
  return await run.finish();
}

class Run implements AsyncDisposable {
  readonly #options: SoakOptions;
  readonly #project: ProjectRig;
  readonly #home: string;
  readonly #day: Day;
  readonly #supervisorLog: string;
  readonly #inside: string;
  readonly #pids: { supervisor: number; host: number };
  readonly #stop = new AbortController();
  readonly #seen = { batches: 0, stepsRun: 0, restarts: 0, clashes: 0, warnings: new Set<string>() };
  #following: Promise<void> = Promise.resolve();
  #quietPoints = 0;
  #late = 0;

  private constructor({ options, project, home, day, supervisorLog }: { options: SoakOptions; project: ProjectRig; home: string; day: Day; supervisorLog: string }, pids: { supervisor: number; host: number }, inside: string) {
    this.#options = options;
    this.#project = project;
    this.#home = home;
    this.#day = day;
    this.#supervisorLog = supervisorLog;
    this.#ended.promise.catch(() => {});
    this.#pids = pids;
    this.#inside = inside;
  }

  static async open(options: SoakOptions, project: ProjectRig, home: string, day: Day): Promise<Run> {
    const client = await project.client();
    const { pid, last } = await client.status();
    const paths = envPaths(openHome({ HD_HOME: home }), findProject(project.dir));
    const { host } = JSON.parse(readFileSync(paths.liveRecord, 'utf8')) as { host: { pid: number } };
    const run = new Run({ options, project, home, day, supervisorLog: paths.supervisorLog }, { supervisor: pid, host: host.pid }, join(`/proc/${pid}/root`, paths.liveDir, 'merged/workspace'));
    run.#following = run.#follow(client.events(last, run.#stop.signal));
    return run;
  }

  async finish(): Promise<SoakReport> {
    const { edits, minutes, seed, onProgress } = this.#options;
    const random = new Random(seed + 1);
    const startMs = performance.now();
    const isOver = (): boolean => this.#day.edits >= edits || performance.now() - startMs > minutes * 60_000;
    const share = (): number => Math.max(this.#day.edits / edits, (performance.now() - startMs) / (minutes * 60_000));
    await this.#quiet();
    const usage: Usage[] = [];
    for (let quarter = 0; !isOver();) {
      for (let deeds = random.int(...DEEDS_AT_ONCE); deeds > 0 && !isOver(); deeds--) {
        this.#day.next();
        if (random.chance(0.4)) await delay(random.int(0, 60));
      }
      await this.#quiet();
      if (usage.length === 0 || share() >= (quarter + 1) / 4) {
        quarter = Math.floor(share() * 4);
        usage.push(this.#usage());
        onProgress(`${Math.round((performance.now() - startMs) / 1000)} s: ${this.#day.edits} edits, ${this.#seen.batches} batches, ${describeUsage(usage.at(-1))}`);
      }
    }
    await this.#quiet();
    usage.push(this.#usage());
    return {
      seed, seconds: Math.round((performance.now() - startMs) / 1000), edits: this.#day.edits, deeds: Object.fromEntries(this.#day.deeds), batches: this.#seen.batches, stepsRun: this.#seen.stepsRun,
      restarts: this.#seen.restarts, quietPoints: this.#quietPoints, late: this.#late, clashes: this.#seen.clashes, warnings: [...this.#seen.warnings], usage,
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#following;
  }

  async #follow(events: AsyncIterable<Emitted>): Promise<void> {
    for await (const event of events) {
      if (event.type === 'change') {
        this.#seen.batches++;
        for (const { path } of event.changes) if (path.startsWith('control/quiet')) this.#marks.get(path)?.();
      } else if (event.type === 'step' && event.status === 'ran') this.#seen.stepsRun++;
      else if (event.type === 'service' && event.status === 'starting') this.#seen.restarts++;
      else if (event.type === 'clash') this.#seen.clashes++;
      else if (event.type === 'failed' || event.type === 'stopped') this.#ended.reject(this.#differs([`the environment ended: ${JSON.stringify(event)}`]));
      else if (event.type === 'warning') this.#seen.warnings.add(`${event.code}: ${event.message}`);
    }
    if (!this.#stop.signal.aborted) this.#ended.reject(this.#differs(['the supervisor has ended']));
  }

  readonly #ended = Promise.withResolvers<never>();
  readonly #marks = new Map<string, () => void>();

  /** Everything up to here has been taken in, and the services run: then all must be equal. */
  async #quiet(): Promise<void> {
    const path = `control/quiet-${this.#quietPoints}`;
    const taken = Promise.withResolvers<void>();
    this.#marks.set(path, taken.resolve);
    const late = setTimeout(() => taken.reject(this.#differs([`the edit of ${path} was not taken in within ${SETTLE_MS} ms`])), SETTLE_MS);
    this.#project.write(path, `${this.#quietPoints}\n`);
    await Promise.race([taken.promise, this.#ended.promise]);
    clearTimeout(late);
    this.#marks.delete(path);
    const found = this.#compare();
    if (found.length > 0) {
      this.#late++;
      await waitUntil('the rest is taken in', () => (this.#compare().length === 0 ? true : undefined), { timeoutMs: LATE_MS }).catch(() => {});
      const left = this.#compare();
      if (left.length > 0) throw this.#differs(left);
    }
    this.#quietPoints++;
  }

  #compare(): string[] {
    const ignored = new Set(['.git']);
    return differences(describeTree(this.#project.dir, ignored), describeTree(this.#inside, ignored));
  }

  #differs(what: string[]): HdError {
    return new HdError('SOAK_DIFFERS', `seed ${this.#options.seed}, after ${this.#day.edits} edits, quiet point ${this.#quietPoints}: the inside is not the host\n${[...what.slice(0, 20), ...this.#seen.warnings, readFileSync(this.#supervisorLog, 'utf8').slice(-4_000)].join('\n')}`);
  }

  #usage(): Usage {
    return usageOf(this.#pids.supervisor, this.#pids.host, this.#home);
  }
}

export function describeUsage(usage: Usage | undefined): string {
  if (usage === undefined) return '';
  const mb = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(0)} MB`;
  return `supervisor ${mb(usage.supervisorBytes)} and ${usage.supervisorFds} descriptors, file server ${mb(usage.hostBytes)} and ${usage.hostFds}, ${usage.processes} processes, ${usage.mounts} mounts`;
}

/** What grew in the course of a soak, in words; nothing, if all is as it should be. The first quarter is the time in which caches fill. */
export function leaks({ usage }: SoakReport): string[] {
  const [first, last] = [usage[1] ?? usage[0], usage.at(-1)];
  if (first === undefined || last === undefined) return [];
  const grew = (name: keyof Usage, by: number, times: number): string[] => (last[name] > first[name] * times + by ? [`${name}: ${first[name]} → ${last[name]}`] : []);
  return [...grew('supervisorFds', 8, 1), ...grew('hostFds', 8, 1), ...grew('processes', 4, 1), ...grew('mounts', 0, 1), ...grew('supervisorBytes', 40 * 2 ** 20, 1.2), ...grew('hostBytes', 40 * 2 ** 20, 1.2)];
}
