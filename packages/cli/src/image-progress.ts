import type { ImageProgress } from '@hyperdocker/environment';
import type { Invocation } from './command.ts';
import { fit, formatBytes, plural } from './format.ts';
import type { LiveRegion } from './live-region.ts';
import { openLiveRegion } from './live-region.ts';

const BAR_COLUMNS = 30;
/** As often as anybody can see. */
const REDRAW_MS = 80;

/** Shows how an image comes: on a terminal a bar for each layer on its way, elsewhere a line for each that is there. On the diagnostics' side, data stays clean. */
export class ImageProgressView implements Disposable {
  readonly #say: (line: string) => void;
  readonly #region: LiveRegion | undefined;
  readonly #downloads = new Map<string, { done: number; total: number }>();
  #drawnMs = -Infinity;

  constructor({ terminal, json, quiet }: Invocation) {
    const isShown = !json && !quiet;
    this.#region = isShown && terminal.live !== undefined ? openLiveRegion(terminal.live, (columns) => this.#bars(columns)) : undefined;
    this.#say = (line) => {
      if (!isShown) return;
      if (this.#region === undefined) terminal.err(`${line}\n`);
      else this.#region.print(() => terminal.err(`${line}\n`));
    };
  }

  show(progress: ImageProgress): void {
    switch (progress.kind) {
      case 'found':
        return this.#say(`${plural(progress.layers, 'layer')}${progress.here === 0 ? '' : `, ${progress.here} here already`}: ${formatBytes(progress.totalBytes)}`);
      case 'download':
        return this.#download(progress);
      case 'unpacked':
        return this.#say(`[${progress.layer}/${progress.layers}] unpacked`);
    }
  }

  [Symbol.dispose](): void {
    this.#region?.[Symbol.dispose]();
  }

  #download({ digest, doneBytes, totalBytes }: Extract<ImageProgress, { kind: 'download' }>): void {
    if (doneBytes >= totalBytes) {
      this.#downloads.delete(digest);
      this.#say(`${shortLayer(digest)} fetched, ${formatBytes(totalBytes)}`);
      return;
    }
    this.#downloads.set(digest, { done: doneBytes, total: totalBytes });
    if (performance.now() - this.#drawnMs < REDRAW_MS) return;
    this.#drawnMs = performance.now();
    this.#region?.refresh();
  }

  #bars(columns: number): string[] {
    return [...this.#downloads].map(([digest, { done, total }]) => fit(`${shortLayer(digest)} [${bar(done / total)}] ${formatBytes(done)} of ${formatBytes(total)}`, columns));
  }
}

function bar(part: number): string {
  const filled = Math.min(BAR_COLUMNS, Math.floor(part * BAR_COLUMNS));
  return '='.repeat(filled).concat(filled < BAR_COLUMNS ? '>' : '').padEnd(BAR_COLUMNS).slice(0, BAR_COLUMNS);
}

function shortLayer(digest: string): string {
  return digest.replace('sha256:', '').slice(0, 12);
}
