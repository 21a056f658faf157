import { setTimeout as delay } from 'node:timers/promises';
import { HdError, findProgram } from '@hyperdocker/base';
import type { Emitted, EnvironmentOrder, HdEvent } from '@hyperdocker/environment';
import { ensureSystemPackages, readSpecText, requestBuild } from '@hyperdocker/environment';
import type { EnvSpec } from '@hyperdocker/spec';
import { BUILD_SERVER_PROGRAM } from './build-server-program.ts';
import type { Invocation } from './command.ts';
import { EventDisplay } from './event-display.ts';
import { EXIT } from './exit-code.ts';
import { Interrupts } from './interrupts.ts';
import type { ProjectPlace } from './project.ts';
import { locateProject } from './project.ts';
import { connectToLive } from './running.ts';
import { isMadeBy } from './start.ts';

/** A supervisor can be reached a moment after it has taken the environment, and ends a moment after it could be. */
const ATTEMPTS = 100;
const INTERVAL_MS = 50;

/**
 * Builds the environment of a project; one that runs builds by itself. Somebody waits for it, mostly where there is nothing to do: so hd.toml is not parsed here where a server is there that has
 * its parser loaded.
 */
export async function buildProject(invocation: Invocation, wishes: Wishes): Promise<number> {
  const place = locateProject(invocation, invocation.args[0]);
  using build = new ProjectBuild(invocation, place);
  for (let attempt = 1; ; attempt++) {
    if (await isRunning(invocation, place)) return EXIT.ok;
    try {
      return await build.run(wishes);
    } catch (error) {
      if (!(error instanceof HdError && error.code === 'ALREADY_RUNNING') || attempt === ATTEMPTS) throw error;
      await delay(INTERVAL_MS);
    }
  }
}

type Wishes = Pick<EnvironmentOrder, 'refreshImage' | 'noCache'>;

async function isRunning({ terminal, json }: Invocation, place: ProjectPlace): Promise<boolean> {
  const running = await connectToLive(place);
  if (running === undefined) return false;
  if (!isMadeBy(running, place)) (await import('./load-spec.ts')).loadSpec(place.project, terminal);
  if (!json) terminal.out('already running: it builds by itself whenever a file changes\n');
  return true;
}

/** One build, shown as it goes. */
class ProjectBuild implements Disposable {
  readonly #invocation: Invocation;
  readonly #place: ProjectPlace;
  readonly #text: string;
  readonly #display: EventDisplay;
  readonly #stop = new AbortController();
  readonly #killed = Promise.withResolvers<never>();
  #spec: EnvSpec | undefined;
  #seq = 0;

  constructor(invocation: Invocation, place: ProjectPlace) {
    this.#invocation = invocation;
    this.#place = place;
    this.#text = readSpecText(place.project);
    this.#display = new EventDisplay(invocation, { services: [], specText: this.#text, buildOnly: true });
  }

  async run(wishes: Wishes): Promise<number> {
    const { env, terminal } = this.#invocation;
    const { home, project } = this.#place;
    using _interrupts = new Interrupts((count) => this.#interrupt(count));
    terminal.closed.addEventListener('abort', () => this.#interrupt(1));
    const started = performance.now();
    const building = requestBuild({ projectDir: project.dir, text: this.#text, ...wishes }, {
      home, env, program: BUILD_SERVER_PROGRAM, emit: (event) => this.#show(event), signal: this.#stop.signal,
      beforeRun: () => this.#beforeRun(), beforeLaunch: () => this.#beforeLaunch(), onDiagnosed: async () => void (await this.#loadSpec()),
    });
    try {
      await Promise.race([building, this.#killed.promise]);
    } catch (error) {
      return this.#failed(error);
    }
    this.#show({ type: 'up', ms: performance.now() - started, failed: [] });
    this.#show({ type: 'stopped' });
    return EXIT.ok;
  }

  /** The first asks for a stop; any further one does not wait for it. */
  #interrupt(count: number): void {
    this.#display.print(() => this.#invocation.terminal.err(count === 1 ? 'Stopping… (press Ctrl-C again to kill)\n' : 'Killing…\n'));
    this.#stop.abort(stopped());
    if (count > 1) this.#killed.reject(stopped());
  }

  #failed(error: unknown): number {
    const isStopped = this.#stop.signal.aborted;
    if (!isStopped && error instanceof HdError && NOT_BEGUN.includes(error.code)) throw error;
    const problem = isStopped ? stopped() : error instanceof HdError ? error : undefined;
    if (problem !== undefined) {
      this.#show({ type: 'failed', error: problem.toJSON() });
      this.#show({ type: 'stopped' });
    }
    if (isStopped) return EXIT.interrupted;
    throw error;
  }

  /** A server that runs has all that steps take; a Debian takes more. */
  async #beforeRun(): Promise<void> {
    const mayNeed = this.#text.includes('apt://') && findProgram('mmdebstrap', this.#invocation.env['PATH']) === undefined;
    if (mayNeed) await this.#ensure(await this.#loadSpec());
  }

  async #beforeLaunch(): Promise<EnvSpec> {
    const spec = await this.#loadSpec();
    await this.#ensure(spec);
    return spec;
  }

  async #ensure({ environment: { base } }: EnvSpec): Promise<void> {
    const { env, terminal } = this.#invocation;
    await ensureSystemPackages({ needs: { runtime: true, mmdebstrap: base.startsWith('apt://') }, allowInstall: env['HD_NO_INSTALL'] !== '1', onMessage: (message) => terminal.err(`${message}\n`) });
  }

  /** What is to be said of hd.toml is said once. @throws HdError SPEC_INVALID */
  async #loadSpec(): Promise<EnvSpec> {
    const { checkSpec } = await import('./load-spec.ts');
    return (this.#spec ??= checkSpec(this.#text, this.#place.project, this.#invocation.terminal));
  }

  #show(event: HdEvent): void {
    const emitted: Emitted = { ...event, seq: ++this.#seq, atMs: Date.now() };
    this.#display.show(emitted);
  }

  [Symbol.dispose](): void {
    this.#display[Symbol.dispose]();
  }
}

/** Whoever reads events has seen none. */
const NOT_BEGUN = ['SPEC_INVALID', 'ALREADY_RUNNING'];

function stopped(): HdError {
  return new HdError('STOPPED', 'the build was stopped');
}
