import { spawn, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';

/**
 * A shell that outlives this process and ends what it leaves behind. It is told of each start and end over a pipe; the pipe closes when this process
 * ends, however it ends, and the shell then kills what was never reported as ended. One for all containers of a runtime: starting a container costs no process more.
 */
export class Guard {
  readonly #deleteCommand: readonly string[];
  /** What runs, by the runtime's process. A guard that is killed is replaced, and the next one has to know. */
  readonly #running = new Map<number, string>();
  #child: ChildProcess | undefined;
  #closing = false;

  /** `deleteCommand` is completed by a container's id. */
  constructor(deleteCommand: readonly string[]) {
    this.#deleteCommand = deleteCommand;
    this.#spawn();
  }

  /** `what` is the id of a container, or undefined for a process that was brought into one. `pidFile` holds the pid of the process inside. */
  started(runtimePid: number, pidFile: string, container: string | undefined): void {
    const line = `+ ${runtimePid} ${container ?? '-'} ${pidFile}\n`;
    this.#running.set(runtimePid, line);
    this.#tell(line);
  }

  ended(runtimePid: number): void {
    this.#running.delete(runtimePid);
    this.#tell(`- ${runtimePid}\n`);
  }

  /** Ends the guard once it has read everything, along with whatever still runs. */
  close(): void {
    this.#closing = true;
    this.#child?.stdin?.end();
  }

  #spawn(): void {
    // In a session of its own, so that the Ctrl-C that ends this process does not end the guard as well.
    const child = spawn('/bin/sh', ['-c', SCRIPT, 'guard', ...this.#deleteCommand], { stdio: ['pipe', 'ignore', 'ignore'], detached: true, cwd: '/' });
    this.#child = child;
    // Without a guard everything works but the clean-up after a SIGKILL, which the next start makes up for.
    child.on('error', () => {});
    child.stdin.on('error', () => {});
    child.once('exit', (_code, signal) => {
      if (signal !== null && !this.#closing) this.#spawn();
    });
    child.unref();
    (child.stdin as Socket).unref();
    for (const line of this.#running.values()) this.#tell(line);
  }

  #tell(line: string): void {
    this.#child?.stdin?.write(line);
  }
}

/** The table is a list of lines; the pid file comes last because only it may hold spaces. */
const SCRIPT = `
table=
newline='
'
while read -r op pid container file; do
  case $op in
    +) table="$table$pid $container $file$newline" ;;
    -) rest=
       while read -r p c f; do
         [ -n "$p" ] && [ "$p" != "$pid" ] && rest="$rest$p $c $f$newline"
       done <<END
$table
END
       table=$rest ;;
  esac
done
while read -r pid container file; do
  [ -n "$pid" ] || continue
  kill -s KILL "$pid"
  if [ "$container" != - ]; then "$@" "$container"
  elif read -r inner < "$file" || [ -n "$inner" ]; then kill -s KILL -- "-$inner" || kill -s KILL "$inner"
  fi
done <<END
$table
END
`;
