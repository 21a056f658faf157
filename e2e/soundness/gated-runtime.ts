import type { ContainerExit, ContainerSpec, RunOptions, RunningContainer } from '@hyperdocker/sandbox';
import { ChrootRuntime } from './chroot-runtime.ts';
import type { StepEvent } from './workshop.ts';

/** When a step that runs ahead of its turn comes to its end: before the step whose turn it is, or not before its own turn. Either way it has begun by then. */
export type Timing = 'early' | 'late';

/**
 * Steps do what they do at once, but which of them ends first is a choice and no accident: of what runs at the same time, the end is told when `timing` has it.
 * Steps are known by their commands, so these differ.
 */
export class GatedRuntime extends ChrootRuntime {
  timing: Timing = 'early';
  /** How many there were at the same time. */
  mostAtOnce = 0;
  readonly #events: StepEvent[] = [];
  readonly #started = new Set<string>();
  readonly #ended = new Set<string>();
  readonly #waiting = new Set<() => void>();
  #running = 0;

  /** Forgets the build before. */
  begin(timing: Timing): void {
    this.timing = timing;
    this.mostAtOnce = 0;
    this.#events.length = 0;
    this.#started.clear();
    this.#ended.clear();
  }

  onStep(event: StepEvent): void {
    this.#events.push(event);
    this.#lookAgain();
  }

  override run(spec: ContainerSpec, options: RunOptions): RunningContainer {
    const command = spec.args.at(-1) ?? '';
    const isAhead = this.#ahead().includes(command);
    const killed = Promise.withResolvers<void>();
    this.mostAtOnce = Math.max(this.mostAtOnce, ++this.#running);
    const container = super.run(spec, options);
    this.#started.add(command);
    this.#lookAgain();
    const end = async (): Promise<ContainerExit> => {
      const exit = await container.exit;
      await Promise.race([killed.promise, this.#until(() => this.#mayEnd(command, isAhead))]);
      this.#running--;
      if (isAhead) this.#ended.add(command);
      this.#lookAgain();
      return exit;
    };
    const exit = end();
    const kill = (): Promise<ContainerExit> => {
      killed.resolve();
      void container.kill();
      return exit;
    };
    return { ...container, exit, stop: kill, kill };
  }

  #mayEnd(command: string, isAhead: boolean): boolean {
    if (isAhead) return this.timing === 'early' || this.#events.some((event) => event.step.command === command && event.status === 'running');
    const awaited = this.timing === 'early' ? this.#ended : this.#started;
    return this.#ahead().every((other) => other === command || awaited.has(other));
  }

  /** Commands that were run ahead, and were not thrown away since. */
  #ahead(): string[] {
    const last = new Map(this.#events.filter(({ status }) => status === 'ahead' || status === 'discarded').map(({ step, status }) => [step.command, status]));
    return [...last].filter(([, status]) => status === 'ahead').map(([command]) => command);
  }

  async #until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.add(resolve));
  }

  #lookAgain(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const resolve of waiting) resolve();
  }
}
