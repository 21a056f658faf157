import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import { HdError } from '@hyperdocker/base';
import type { ExecReply, ExecRequest, SupervisorClient } from '@hyperdocker/environment';
import type { ContainerExit, RunningContainer } from '@hyperdocker/sandbox';
import { OciRuntime } from '@hyperdocker/sandbox';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { renderError } from '../errors.ts';
import { EXIT } from '../exit-code.ts';
import { locateProject } from '../project.ts';
import { reach } from '../reach.ts';
import { SignalForwarding } from '../signal-forwarding.ts';

export function run(invocation: Invocation): Promise<number> {
  return execInside(invocation, invocation.args, { detach: invocation.flags.bool('detach') });
}

/** As `docker run`: the daemon could not start it. */
const NOT_STARTED = 125;
const NOT_STARTED_CODES = ['USER_NOT_FOUND', 'GROUP_NOT_FOUND', 'CONTAINER_SPEC_INVALID'];
const KILLED = 137;
const STREAMS = [0, 1, 2];

/** Runs a command in a container of its own on the environment's files; no arguments: a shell. @returns its exit code */
export async function execInside(invocation: Invocation, args: string[], { detach }: { detach: boolean }): Promise<number> {
  const { terminal } = invocation;
  const explain = (error: HdError): void => terminal.err(renderError(error, terminal.errPaint, { debug: false }).text);
  const request = toRequest(invocation, args, !detach);
  const client = await reach(locateProject(invocation), invocation);
  try {
    if (detach) return await runDetached(client, request, explain);
    const reply = await client.exec(request);
    const exit = await runToEnd(reply);
    if (exit.problem !== undefined) explain(exit.problem);
    return exit.code;
  } catch (error) {
    if (!(error instanceof HdError) || !NOT_STARTED_CODES.includes(error.code)) throw error;
    explain(error);
    return NOT_STARTED;
  }
}

async function runDetached(client: SupervisorClient, request: ExecRequest, explain: (error: HdError) => void): Promise<number> {
  const { exitCode, error } = await client.detach(request);
  if (error !== undefined) explain(HdError.fromJSON(error));
  return error === undefined ? EXIT.ok : exitCode;
}

async function runToEnd({ runtime, runtimeRoot, prefix, bundleDir, container }: ExecReply): Promise<ContainerExit> {
  const oci = new OciRuntime({ path: runtime, root: runtimeRoot, prefix });
  try {
    // Listened to before there is anything to hand them to: a command may run before starting it has returned. They come after that.
    using _signals = new SignalForwarding((signal, to) => void running.signal(signal, to));
    const running = container.terminal || !STREAMS.some(isatty) ? oci.runPrepared(container, { bundleDir, stdio: 'inherit' }) : runBeside(oci, container, bundleDir);
    const exit = await running.exit;
    // The supervisor has taken it away before it ended the command.
    if (existsSync(join(bundleDir, 'config.json'))) return exit;
    return { code: KILLED, signal: 'SIGKILL', problem: new HdError('STOPPED', 'the environment was stopped, and the command with it') };
  } finally {
    oci.close();
    rmSync(bundleDir, { recursive: true, force: true });
  }
}

/** A terminal of the host's is never handed to a command that was not given one: with the descriptor it could type into it. */
function runBeside(oci: OciRuntime, container: ExecReply['container'], bundleDir: string): RunningContainer {
  const running = oci.runPrepared(container, { bundleDir, stdio: 'capture', stdin: 'pipe', onOutput: (stream, bytes) => void process[stream].write(bytes) });
  if (running.stdin !== undefined) process.stdin.pipe(running.stdin);
  return running;
}

/** @throws HdError USAGE, NOT_A_TERMINAL */
function toRequest({ flags, env, terminal }: Invocation, args: string[], attached: boolean): ExecRequest {
  const wanted = flags.bool('tty') && attached;
  if (wanted && !STREAMS.some(isatty)) throw new HdError('NOT_A_TERMINAL', 'standard input is not a terminal', { hint: 'leave out -t' });
  const interactive = attached && (wanted || terminal.isInteractive) && !flags.bool('no-tty');
  const [user, workdir] = [flags.text('user'), flags.text('workdir')];
  return {
    args,
    terminal: interactive,
    ...(interactive && process.stdout.isTTY ? { terminalSize: { rows: process.stdout.rows, columns: process.stdout.columns } } : {}),
    env: { ...(interactive && env['TERM'] !== undefined ? { TERM: env['TERM'] } : {}), ...variables(flags.list('env'), env) },
    ...(user === undefined ? {} : { user }),
    ...(workdir === undefined ? {} : { workdir }),
  };
}

/** `NAME=VALUE`, or `NAME` for the value that it has here; one that is not set here is left out. */
function variables(assignments: readonly string[], env: NodeJS.ProcessEnv): Record<string, string> {
  const result: Record<string, string> = {};
  for (const assignment of assignments) {
    const [, name, , value] = /^([^=]+)(=([\s\S]*))?$/.exec(assignment) ?? [];
    if (name === undefined) throw usageError(`--env needs NAME=VALUE, not "${assignment}"`);
    const given = value ?? env[name];
    if (given !== undefined) result[name] = given;
  }
  return result;
}
