import { createServer } from 'node:net';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { once } from 'node:events';
import { HdError } from '@hyperdocker/base';
import type { Emitted, SupervisorClient } from '@hyperdocker/environment';
import { connectOrFail, envPaths, findProject, openHome } from '@hyperdocker/environment';
import { run, waitForPage } from './process.ts';

/** What one turn of one side came to. */
export interface Turn {
  /** Until the page answered as wanted. */
  ms: number;
  /** Build steps that ran, of how many. For Docker: RUN instructions. */
  ran: number;
  steps: number;
}

/** Files to be written, by path; and what the page shows once they are in use. */
export interface Edit { files: Readonly<Record<string, string>>; shows: string }

export interface HdSideOptions {
  /** How `hd` is called. */
  hd: readonly string[];
  projectDir: string;
  homesDir: string;
  env: NodeJS.ProcessEnv;
  service: string;
  port: number;
}

/** The `hd` command on one copy of the project, as a person uses it: times include the start of the process. */
export class HdSide {
  readonly name = 'hd';
  readonly #options: HdSideOptions;
  #home: string;
  #isUp = false;
  #port = 0;

  /** @param home a directory below `homesDir` in which the base image is */
  constructor(options: HdSideOptions, home: string) {
    this.#options = options;
    this.#home = home;
  }

  get homeDir(): string {
    return join(this.#options.homesDir, this.#home);
  }

  /** Where the page is, once it is up. */
  get port(): number {
    return this.#port;
  }

  get place() {
    const home = openHome({ ...this.#options.env, HD_HOME: this.homeDir });
    const project = findProject(this.#options.projectDir);
    return { home, project, paths: envPaths(home, project) };
  }

  /** Goes on in a copy of a home in which nothing but the base image is. */
  async inFreshHome(template: string, name: string): Promise<void> {
    await this.down();
    const before = this.homeDir;
    await run('cp', ['-a', join(this.#options.homesDir, template), join(this.#options.homesDir, name)]);
    this.#home = name;
    if (!before.endsWith(`/${template}`)) rmSync(before, { recursive: true, force: true });
  }

  /** From down to the first answer that shows `text`. */
  async up(text: string): Promise<Turn> {
    await this.down();
    // Whoever shares the machine's network takes turns with us at the project's own port: this side is published beside it.
    const holder = createServer().listen(this.#options.port, '127.0.0.1');
    const held = await Promise.race([once(holder, 'listening').then(() => true), once(holder, 'error').then(() => false)]);
    const startedMs = performance.now();
    try {
      await this.#hd('up', '--detach');
    } finally {
      if (held) await new Promise((resolve) => holder.close(resolve));
    }
    this.#isUp = true;
    const client = await this.#client();
    const status = (await client.status()).services.find(({ name }) => name === this.#options.service);
    this.#port = status?.published?.port ?? this.#options.port;
    await waitForPage(this.#port, text);
    const ms = performance.now() - startedMs;
    const events = await eventsSoFar(client, 0);
    return { ms, ...countSteps(events) };
  }

  /** From the first write to the first answer that shows it, after the build that it called for. */
  async edit({ files, shows }: Edit, options: { timeoutMs?: number } = {}): Promise<Turn> {
    const client = await this.#client();
    const { last } = await client.status();
    const built = changeAfter(client, last);
    const startedMs = performance.now();
    this.write(files);
    const events = await built;
    await waitForPage(this.#port, shows, options);
    return { ms: performance.now() - startedMs, ...countSteps(events) };
  }

  /** Brings it up without measuring, where it is not. */
  async ready(text: string): Promise<void> {
    if (!this.#isUp) await this.up(text);
  }

  write(files: Readonly<Record<string, string>>): void {
    for (const [path, text] of Object.entries(files)) writeFileSync(join(this.#options.projectDir, path), text);
  }

  async down(): Promise<void> {
    if (!this.#isUp) return;
    await this.#hd('down');
    this.#isUp = false;
  }

  async build(): Promise<void> {
    await this.#hd('build');
  }

  #client(): Promise<SupervisorClient> {
    return connectOrFail(this.place.paths);
  }

  #hd(...args: string[]): Promise<string> {
    const [program = '', ...first] = this.#options.hd;
    return run(program, [...first, ...args], { cwd: this.#options.projectDir, env: { ...this.#options.env, HD_HOME: this.homeDir } });
  }
}

/** Events until the next change has been taken in. @throws HdError DEMO_BUILD_FAILED */
async function changeAfter(client: SupervisorClient, since: number): Promise<Emitted[]> {
  const events: Emitted[] = [];
  for await (const event of client.events(since)) {
    events.push(event);
    if (event.type === 'change') return events;
    if (event.type === 'step' && event.status === 'failed') break;
  }
  throw new HdError('DEMO_BUILD_FAILED', `the edit could not be built:\n${events.map((event) => (event.type === 'step' && event.status === 'failed' ? event.log.slice(-2_000) : '')).join('')}`);
}

async function eventsSoFar(client: SupervisorClient, since: number): Promise<Emitted[]> {
  const { last } = await client.status();
  const events: Emitted[] = [];
  for await (const event of client.events(since)) {
    events.push(event);
    if (event.seq >= last) break;
  }
  return events;
}

function countSteps(events: readonly Emitted[]): { ran: number; steps: number } {
  const count = (status: string): number => events.filter((event) => event.type === 'step' && event.status === status).length;
  return { ran: count('ran'), steps: count('ran') + count('cached') };
}
