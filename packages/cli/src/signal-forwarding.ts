/** Those of the keyboard go to all processes of the command, as a terminal sends them; the others to the command itself, as `kill` does. */
const TO_ALL: readonly NodeJS.Signals[] = ['SIGINT', 'SIGQUIT'];
const TO_COMMAND: readonly NodeJS.Signals[] = ['SIGTERM', 'SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGCONT'];

/** The same signal this soon again is the same one: `timeout` signals its child and then its whole group. */
const SAME_MS = 100;

/** Passes this process's signals on instead of acting on them. */
export class SignalForwarding implements Disposable {
  readonly #stack = new DisposableStack();

  constructor(forward: (signal: NodeJS.Signals, to: 'command' | 'all') => void) {
    for (const signal of [...TO_ALL, ...TO_COMMAND]) {
      let lastMs = -Infinity;
      const listener = (): void => {
        const now = performance.now();
        if (now - lastMs >= SAME_MS) forward(signal, TO_ALL.includes(signal) ? 'all' : 'command');
        lastMs = now;
      };
      process.on(signal, listener);
      this.#stack.defer(() => process.off(signal, listener));
    }
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}
