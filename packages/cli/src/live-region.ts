/** Lines for good, and below them some that come and go. */
export interface LiveRegion extends Disposable {
  /** Prints lines for good, above the region. `text` ends with a line end. */
  print(write: () => void): void;
  /** Draws the region again, with what `lines` gives now. */
  refresh(): void;
}

export interface LiveOutput {
  write(text: string): void;
  columns(): number;
  rows(): number;
}

const UP_AND_CLEAR = (lines: number): string => `\r\u001b[${lines}A\u001b[J`;

/**
 * A few lines at the end of a terminal that change while something is under way. Everything else moves up as if they were not there; when it is disposed of, they
 * are gone. Never the alternate screen: what was printed stays in the scrollback.
 * @param lines the region's lines now, none wider than the terminal
 */
export function openLiveRegion(output: LiveOutput, lines: (columns: number) => string[]): LiveRegion {
  let shown = 0;
  const clear = (): void => {
    if (shown > 0) output.write(UP_AND_CLEAR(shown));
    shown = 0;
  };
  const draw = (): void => {
    // One column less: a full line makes some terminals wrap.
    // One row less: what has left the screen at its top cannot be drawn over.
    const now = lines(Math.max(10, output.columns() - 1)).slice(0, Math.max(1, output.rows() - 1));
    if (now.length > 0) output.write(`${now.join('\n')}\n`);
    shown = now.length;
  };
  return {
    print(write) {
      clear();
      write();
      draw();
    },
    refresh() {
      clear();
      draw();
    },
    [Symbol.dispose]: clear,
  };
}

const TICK_MS = 200;

/** The times of what runs go on while nothing happens. */
export function ticking(region: LiveRegion): Disposable {
  const timer = setInterval(() => region.refresh(), TICK_MS);
  return { [Symbol.dispose]: () => clearInterval(timer) };
}
