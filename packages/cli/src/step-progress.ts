import type { StepId } from '@hyperdocker/environment';
import { displayWidth, fit, formatElapsed, oneLine } from './format.ts';
import { printable } from './terminal.ts';

/** Lines of output shown below the step that runs. */
const TAIL_LINES = 6;

interface Running { step: StepId; startedMs: number; isAhead: boolean; tail: string[] }

/** The steps that run now, and the end of the output of the one whose turn it is: what a terminal shows until they are done. */
export class StepProgress {
  readonly #running = new Map<number, Running>();

  /** Its turn has not come yet. */
  startAhead(step: StepId, nowMs: number): void {
    this.#running.set(step.index, { step, startedMs: nowMs, isAhead: true, tail: [] });
  }

  start(step: StepId, nowMs: number): void {
    const startedMs = this.#running.get(step.index)?.startedMs ?? nowMs;
    this.#running.set(step.index, { step, startedMs, isAhead: false, tail: [] });
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

  clear(): void {
    this.#running.clear();
  }

  /** In the order of the list. @param columns no line is wider */
  lines(nowMs: number, columns: number): string[] {
    return [...this.#running.values()].sort((a, b) => a.step.index - b.step.index).flatMap(({ step, startedMs, isAhead, tail }) => {
      const time = formatElapsed(nowMs - startedMs);
      const head = `[${step.index}/${step.total}] ${isAhead ? 'AHEAD' : 'RUN'} `;
      const command = fit(oneLine(step.command), Math.max(1, columns - displayWidth(head) - time.length - 1));
      return [fit(`${head}${command} ${time}`, columns), ...tail.map((line) => fit(`  | ${printable(line).replaceAll('\t', ' ')}`, columns))];
    });
  }
}
