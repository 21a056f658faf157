import type { Paint, Style } from './terminal.ts';
import { printable } from './terminal.ts';

const COLORS: Style[] = ['cyan', 'yellow', 'green', 'magenta', 'blue'];
const MIN_WIDTH = 6;

/** `web    | text`: one width for all services, and one colour for each, whichever speaks first. */
export class LogPrefix {
  readonly #services: readonly string[];
  readonly #width: number;

  constructor(services: readonly string[]) {
    this.#services = services;
    this.#width = Math.max(MIN_WIDTH, ...services.map((name) => name.length));
  }

  paint(text: string, service: string, paint: Paint): string {
    const index = this.#services.indexOf(service);
    return paint(COLORS[Math.max(0, index) % COLORS.length] ?? 'cyan', text);
  }

  /** The lines of one piece of a service's output. A final line end adds no empty line. */
  lines(service: string, text: string, paint: Paint): string[] {
    const prefix = this.paint(`${service.padEnd(this.#width)} |`, service, paint);
    return text.replace(/\r?\n$/, '').split('\n').map((line) => `${prefix} ${printable(line.replace(/\r$/, ''), paint.enabled)}`.trimEnd());
  }
}
