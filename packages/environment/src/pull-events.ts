import type { PulledFile } from './api.ts';
import type { Emit, HdEvent } from './events.ts';

const MAX_TOLD = 1_000;

/** Tells of files that came out, or did not. What stays as it is, is not told at every turn. */
export class PullReporter {
  readonly #emit: Emit;
  readonly #told = new Set<string>();

  constructor(emit: Emit) {
    this.#emit = emit;
  }

  tell(files: readonly PulledFile[]): void {
    for (const event of pullEvents(files)) if (event.type === 'pulled' || this.#isNews(event)) this.#emit(event);
  }

  #isNews(event: HdEvent): boolean {
    const text = JSON.stringify(event);
    if (this.#told.has(text)) return false;
    if (this.#told.size >= MAX_TOLD) this.#told.clear();
    this.#told.add(text);
    return true;
  }
}

function pullEvents(files: readonly PulledFile[]): HdEvent[] {
  const written = files.flatMap((file) => (file.outcome === 'written' ? [{ path: file.path, change: file.change, before: file.host ?? null, after: file.inside ?? null }] : []));
  return [
    ...(written.length === 0 ? [] : [{ type: 'pulled' as const, files: written }]),
    ...files.flatMap((file): HdEvent[] => {
      if (file.outcome === 'written') return [];
      if (file.outcome === 'refused') return [{ type: 'warning', code: 'NOT_PULLED', message: `${file.path} is not brought to the host: ${file.reason}` }];
      const { path, host, inside, keptAt = '' } = file;
      return [{ type: 'clash', path, keptAt, pulled: true, ...(typeof inside === 'string' ? { inside } : {}), ...(typeof host === 'string' ? { host } : {}) }];
    }),
  ];
}
