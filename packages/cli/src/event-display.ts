import type { HdEvent } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import type { EventRendererOptions } from './event-renderer.ts';
import { EventRenderer } from './event-renderer.ts';
import type { LiveRegion } from './live-region.ts';
import { openLiveRegion, ticking } from './live-region.ts';

export type DisplayOptions = Omit<EventRendererOptions, 'outPaint' | 'errPaint' | 'quiet' | 'live'>;

/** Events as a command shows them: as lines of JSON, else as text, with what runs below it where there is a terminal. That goes when the display is disposed of. */
export class EventDisplay implements Disposable {
  readonly #invocation: Invocation;
  readonly #renderer: EventRenderer;
  readonly #region: LiveRegion | undefined;
  readonly #ticks: Disposable | undefined;

  constructor(invocation: Invocation, options: DisplayOptions) {
    const { terminal: { outPaint, errPaint, live }, quiet, json } = invocation;
    const drawn = json || quiet ? undefined : live;
    const renderer = new EventRenderer({ ...options, outPaint, errPaint, quiet, ...(drawn === undefined ? {} : { live: drawn }) });
    this.#invocation = invocation;
    this.#renderer = renderer;
    this.#region = drawn === undefined ? undefined : openLiveRegion(drawn, (columns) => renderer.region(performance.now(), columns));
    this.#ticks = this.#region === undefined ? undefined : ticking(this.#region);
  }

  /** Events are going to be those after a first build that is not among them. */
  skipBuild(): void {
    this.#renderer.skipBuild();
  }

  show(event: HdEvent): void {
    const { terminal, json } = this.#invocation;
    if (json) return terminal.out(`${JSON.stringify(event)}\n`);
    const lines = this.#renderer.render(event);
    this.print(() => {
      for (const { stream, text } of lines) terminal[stream === 'stdout' ? 'out' : 'err'](`${text}\n`);
    });
  }

  /** Whatever else is to be said meanwhile. */
  print(write: () => void): void {
    if (this.#region === undefined) write();
    else this.#region.print(write);
  }

  [Symbol.dispose](): void {
    this.#ticks?.[Symbol.dispose]();
    this.#region?.[Symbol.dispose]();
  }
}
