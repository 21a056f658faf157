/** A program in a terminal of its own, as a person has it: a pseudo-terminal, held by Python, which Node cannot open. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';

/** Why there is none here, or false. */
export const noTerminal: string | false = spawnSync('python3', ['-c', 'import pty']).status === 0 ? false : 'no python3 on this machine, which opens the terminals';

export interface InTerminal {
  readonly pid: number;
  /** Types. */
  write(text: string): void;
  /** Resolves once what was shown since the last call matches. Ends the program when that takes a minute. */
  waitFor(pattern: RegExp): Promise<void>;
  /** From 24 lines of 80 characters to 33 of 111. */
  resize(): void;
  /** 128+n after signal n. */
  readonly exited: Promise<number>;
}

const TIMEOUT_MS = 60_000;

const HOLDER = `
import fcntl, os, pty, select, signal, struct, sys, termios
pid, fd = pty.fork()
if pid == 0:
    os.execvp(sys.argv[1], sys.argv[1:])
size = lambda lines, columns: fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack('HHHH', lines, columns, 0, 0))
size(24, 80)
signal.signal(signal.SIGUSR1, lambda *_: size(33, 111))
print('pid', pid, flush=True)
inputs = [0, fd]
while fd in inputs:
    for ready in select.select(inputs, [], [])[0]:
        try:
            data = os.read(ready, 65536)
        except OSError:
            data = b''
        if data:
            os.write(fd if ready == 0 else 1, data)
        else:
            inputs.remove(ready)
code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
sys.exit(code if code >= 0 else 128 - code)
`;

export async function startInTerminal(command: string, args: readonly string[], options: { cwd: string; env: Readonly<Record<string, string>> }): Promise<InTerminal> {
  const holder = spawn('python3', ['-c', HOLDER, command, ...args], { cwd: options.cwd, env: { ...process.env, TERM: 'xterm', ...options.env }, stdio: ['pipe', 'pipe', 'inherit'] });
  let shown = '';
  const watchers = new Set<() => void>();
  holder.stdout.setEncoding('utf8').on('data', (text: string) => {
    shown += text;
    for (const check of watchers) check();
  });
  const exited = once(holder, 'close').then(([code]) => code as number);
  const waitFor = async (pattern: RegExp): Promise<RegExpExecArray> => {
    const { promise, resolve } = Promise.withResolvers<RegExpExecArray>();
    const check = (): void => {
      const match = pattern.exec(shown);
      if (match === null) return;
      shown = shown.slice(match.index + match[0].length);
      watchers.delete(check);
      resolve(match);
    };
    watchers.add(check);
    check();
    const fail = (why: string): never => {
      throw new Error(`${why} and had shown ${JSON.stringify(shown)}, not ${pattern}`);
    };
    const late = setTimeout(() => holder.kill('SIGKILL'), TIMEOUT_MS);
    try {
      return await Promise.race([promise, exited.then((code) => fail(`it ended with ${code}`))]);
    } finally {
      clearTimeout(late);
    }
  };
  const [, pid] = await waitFor(/^pid (\d+)\n/);
  return {
    pid: Number(pid), exited,
    write: (text) => void holder.stdin.write(text),
    waitFor: async (pattern) => void (await waitFor(pattern)),
    resize: () => void holder.kill('SIGUSR1'),
  };
}
