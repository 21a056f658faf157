import { rmSync } from 'node:fs';
import type { ExecReply, ExecRequest } from '@hyperdocker/environment';
import { OciRuntime } from '@hyperdocker/sandbox';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { renderError } from '../errors.ts';
import { Interrupts } from '../interrupts.ts';
import { locateProject } from '../project.ts';
import { reach } from '../session.ts';

export function run(invocation: Invocation): Promise<number> {
  return execInside(invocation, invocation.args);
}

/** Longer than anybody waits: a signal is passed on, and what comes of it is the command's own business. */
const NO_GRACE_LIMIT_MS = 2 ** 31 - 1;

/** Runs a command in a container of its own on the environment's files. @returns its exit code */
export async function execInside(invocation: Invocation, args: string[]): Promise<number> {
  const { terminal } = invocation;
  const client = await reach(locateProject(invocation), invocation);
  const reply = await client.exec(toRequest(invocation, args));
  try {
    const exit = await runToEnd(reply);
    if (exit.problem !== undefined) terminal.err(renderError(exit.problem, terminal.errPaint, { debug: false }).text);
    return exit.code;
  } finally {
    rmSync(reply.bundleDir, { recursive: true, force: true });
  }
}

async function runToEnd({ runtime, runtimeRoot, prefix, bundleDir, spec }: ExecReply) {
  const oci = new OciRuntime({ path: runtime, root: runtimeRoot, prefix });
  const container = oci.run(spec, { bundleDir, stdio: 'inherit' });
  using _interrupts = new Interrupts((_, signal) => void container.stop({ signal, graceMs: NO_GRACE_LIMIT_MS }));
  const exit = await container.exit;
  oci.close();
  return exit;
}

function toRequest({ flags, env, terminal }: Invocation, args: string[]): ExecRequest {
  const interactive = terminal.isInteractive && !flags.bool('no-tty');
  const [user, workdir] = [flags.text('user'), flags.text('workdir')];
  return {
    args,
    terminal: interactive,
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
