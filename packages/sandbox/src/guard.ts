import { spawn, type ChildProcess } from 'node:child_process';
import type { Socket } from 'node:net';
import { assert } from '@hyperdocker/base';

/**
 * A shell that outlives this process and ends what it leaves behind. It is told of each start and end over a pipe; the pipe closes when this process
 * ends, however it ends, and the shell then kills what was never reported as ended. One for all containers of a runtime: starting a container costs no process more.
 */
export class Guard {
  readonly #child: ChildProcess;
  readonly #input: Socket;

  /** `deleteCommand` is completed by a container's id. */
  constructor(deleteCommand: readonly string[]) {
    // In a session of its own, so that the Ctrl-C that ends this process does not end the guard as well.
    this.#child = spawn('/bin/sh', ['-c', SCRIPT, 'guard', ...deleteCommand], { stdio: ['pipe', 'ignore', 'ignore'], detached: true, cwd: '/' });
    assert(this.#child.stdin !== null, 'the guard has a standard input');
    this.#input = this.#child.stdin as Socket;
    // Without a guard everything works but the clean-up after a SIGKILL, which the next start makes up for.
    this.#child.on('error', () => {});
    this.#input.on('error', () => {});
    this.#child.unref();
    this.#input.unref();
  }

  /** `what` is the id of a container, or undefined for a process that was brought into one. `pidFile` holds the pid of the process inside. */
  started(runtimePid: number, pidFile: string, container: string | undefined): void {
    this.#input.write(`+ ${runtimePid} ${container ?? '-'} ${pidFile}\n`);
  }

  ended(runtimePid: number): void {
    this.#input.write(`- ${runtimePid}\n`);
  }

  /** Ends the guard once it has read everything, along with whatever still runs. */
  close(): void {
    this.#input.end();
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
