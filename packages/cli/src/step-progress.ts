import type { StepId } from '@hyperdocker/environment';
import { formatDuration, oneLine, shorten } from './format.ts';
import { printable } from './terminal.ts';

/** Lines of output shown below a step that runs; fewer where several run. */
const TAIL_LINES = 6;
const SHARED_TAIL_LINES = 2;

interface Running { step: StepId; startedMs: number; tail: string[] }

/** The steps that run now, each with the end of its output: what a terminal shows until they are done. */
export class StepProgress {
  readonly #running = new Map<number, Running>();

  start(step: StepId, nowMs: number): void {
    this.#running.set(step.index, { step, startedMs: nowMs, tail: [] });
  }

  output({ index }: StepId, line: string): void {
    const running = this.#running.get(index);
    if (running === undefined || line.trim() === '') return;
    running.tail.push(line);
    if (running.tail.length > TAIL_LINES) running.tail.shift();
  }

  end({ index }: StepId): void {
    this.#running.delete(index);
  }

  /** @param columns no line is longer */
  lines(nowMs: number, columns: number): string[] {
    const tailLines = this.#running.size > 1 ? SHARED_TAIL_LINES : TAIL_LINES;
    return [...this.#running.values()].flatMap(({ step, startedMs, tail }) => {
      const time = formatDuration(Math.floor((nowMs - startedMs) / 100) * 100);
      const head = `[${step.index}/${step.total}] RUN `;
      const command = shorten(oneLine(step.command), Math.max(1, columns - head.length - time.length - 1));
      return [shorten(`${head}${command} ${time}`, columns), ...tail.slice(-tailLines).map((line) => shorten(`  | ${printable(line).replaceAll('\t', ' ')}`, columns))];
    });
  }
}
