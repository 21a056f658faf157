import { EventEmitter, once } from 'node:events';
import { HdError } from '@hyperdocker/base';
import type { Emitted, ExecReply } from '@hyperdocker/environment';
import { connectOrFail, envPaths, findProject, openHome } from '@hyperdocker/environment';
import { attempt, run } from '@hyperdocker/demo';

/** The `hd` command on one project, as a user runs it: times include the start of the process. */
export class Hd {
  readonly #bin: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #projectDir: string;
  #events: Emitted[] = [];
  readonly #arrived = new EventEmitter();

  constructor(bin: string, homeDir: string, projectDir: string, env: NodeJS.ProcessEnv) {
    this.#bin = bin;
    this.#env = { ...process.env, HD_HOME: homeDir, ...env };
    this.#projectDir = projectDir;
  }

  async up(): Promise<void> {
    await this.#hd('up', '--detach');
  }

  async down(): Promise<void> {
    await this.#hd('down');
  }

  /** Events of the build, without services. */
  async build(): Promise<Emitted[]> {
    return parseEvents(await this.#hd('build', '--json'));
  }

  /** The same for a build that may fail: its events end there. */
  async tryBuild(): Promise<Emitted[]> {
    const { output } = await attempt(this.#bin, ['build', '--json'], { cwd: this.#projectDir, env: this.#env });
    const events = parseEvents(output);
    if (!events.some((event) => event.type === 'built' || (event.type === 'step' && event.status === 'failed'))) throw new HdError('BENCH_COMMAND', `hd build came to nothing:\n${output.slice(-4_000)}`);
    return events;
  }

  /** Any command, to its end. */
  run(...args: string[]): Promise<string> {
    return this.#hd(...args);
  }

  exec(...command: string[]): Promise<string> {
    return this.#hd('exec', '--no-tty', '--', ...command);
  }

  /** What `exec` would run, ready to be run by somebody else. */
  async prepareExec(args: string[]): Promise<ExecReply> {
    const client = await connectOrFail(envPaths(openHome(this.#env), findProject(this.#projectDir)));
    return await client.exec({ args, terminal: false, env: {} });
  }

  async supervisorPid(): Promise<number> {
    return (await (await connectOrFail(envPaths(openHome(this.#env), findProject(this.#projectDir)))).status()).pid;
  }

  /** Follows the events of the environment that is up, for `stepsRun`. */
  async follow(): Promise<void> {
    const client = await connectOrFail(envPaths(openHome(this.#env), findProject(this.#projectDir)));
    this.#events = [];
    const first = Promise.withResolvers<void>();
    const read = async (): Promise<void> => {
      for await (const event of client.events(0)) {
        this.#events.push(event);
        this.#arrived.emit('event');
        first.resolve();
      }
    };
    read().catch(first.reject);
    await first.promise;
  }

  /** Those since `follow`. */
  get events(): readonly Emitted[] {
    return this.#events;
  }

  /** The first event from `mark` on that is as wanted, now or later. */
  async waitForEvent<T extends Emitted>(mark: number, wanted: (event: Emitted) => event is T): Promise<T>;
  async waitForEvent(mark: number, wanted: (event: Emitted) => boolean): Promise<Emitted>;
  async waitForEvent(mark: number, wanted: (event: Emitted) => boolean): Promise<Emitted> {
    for (;;) {
      const found = this.#events.slice(mark).find(wanted);
      if (found !== undefined) return found;
      await once(this.#arrived, 'event');
    }
  }

  /** How many steps ran since `mark`, and where that count stands now. */
  stepsRun(mark: number): { ran: number; mark: number } {
    return { ran: this.#events.slice(mark).filter((event) => event.type === 'step' && event.status === 'ran').length, mark: this.#events.length };
  }

  #hd(...args: string[]): Promise<string> {
    return run(this.#bin, args, { cwd: this.#projectDir, env: this.#env });
  }
}

function parseEvents(text: string): Emitted[] {
  return text.split('\n').filter((line) => line.startsWith('{')).map((line) => JSON.parse(line) as Emitted);
}
