/**
 * The command as the child of a shell that is process 1. The kernel keeps signals without a handler from process 1 alone, so the shell outlives a signal while
 * the command gets it like any process; `exit $?` keeps shells from replacing themselves by their last command, and `exec` is what makes `echo` the program of that name
 and not the shell's own.
 */
export function withInit(args: readonly string[]): readonly string[] {
  return ['/bin/sh', '-c', '(exec "$@"); exit $?', 'hd', ...args];
}

/**
 * As `withInit`, and after a signal it waits until its standard input is closed. When process 1 ends, the kernel kills the rest: without the wait, in
 * `sh -c "cd api && server"` the shell would die of the signal at once and take the server with it in the midst of its own clean stop.
 * The shell's own remarks ("Terminated") are kept out of the output, by a descriptor that is none of those a command may be given.
 */
export function withLingeringInit(args: readonly string[]): readonly string[] {
  return ['/bin/sh', '-c', LINGERING, 'init', ...args];
}

const LINGERING = `
stopping=
trap 'stopping=1' TERM INT HUP QUIT USR1 USR2
code=143
exec 9>&2 2>/dev/null
[ -n "$stopping" ] || { (exec "$@") </dev/null 2>&9 9>&-; code=$?; }
[ -z "$stopping" ] || read -r _
exit $code`;

/** The command with descriptors from 3 on that listen: how it is told of them is systemd's protocol, sd_listen_fds(3). Only the process itself knows the number that it is going to have. */
export function withListenPid(args: readonly string[]): readonly string[] {
  return ['/bin/sh', '-c', 'export LISTEN_PID=$$; exec "$@"', 'hd', ...args];
}

/** The variables of that protocol which are known beforehand. @param names of the sockets, in the order of their descriptors */
export function listenVariables(names: readonly string[]): Record<string, string> {
  return { LISTEN_FDS: String(names.length), LISTEN_FDNAMES: names.join(':') };
}
