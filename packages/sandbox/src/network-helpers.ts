import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import type { Socket } from 'node:net';
import { basename } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { HdError, findProgram } from '@hyperdocker/base';
import { signalEach } from './process-tree.ts';

/** The namespace that a helper is for. */
export interface HelpedNamespace {
  readonly descriptor: number;
  /** Something leads out of it. */
  isRouted(): Promise<boolean>;
}

/** A program that leads out of a network namespace. It ends with this process, however that ends. */
export interface Helper {
  end(): void;
}

/** The namespace as the program sees it. Its path by the id of this process would be closed to it. */
const INHERITED = '/proc/self/fd/4';
/** By this variable, what is left of a process that was killed together with its shell is found. */
const OWNER = 'HYPERDOCKER_NETWORK_OF';
const START_MS = 5_000;
const POLL_MS = 5;
const MAX_SAID = 2_000;
const MTU_BYTES = 65_520;

/** pasta takes over the addresses of the host. It gives up its rights by itself; as another user it could not enter the namespace. @throws HdError NO_HELPER, which says why */
export function startPasta(namespace: HelpedNamespace, searchPath = process.env['PATH']): Promise<Helper> {
  const program = findOn(searchPath, 'pasta');
  const nothingIn = ['--tcp-ports', 'none', '--udp-ports', 'none', '--tcp-ns', 'none', '--udp-ns', 'none', '--no-map-gw'];
  return startGuarded([program, '--foreground', '--quiet', '--runas', '0', '--config-net', '--netns', INHERITED, ...nothingIn], namespace);
}

/** @throws HdError NO_HELPER, which says why */
export function startSlirp4netns(namespace: HelpedNamespace, searchPath = process.env['PATH']): Promise<Helper> {
  const program = findOn(searchPath, 'slirp4netns');
  return startGuarded([program, '--configure', `--mtu=${MTU_BYTES}`, '--disable-host-loopback', '--netns-type=path', INHERITED, 'tap0'], namespace);
}

/** Ends the helpers of a process that is gone: their own shells do it, unless they were killed as well. */
export function endHelpersOf(pid: number): void {
  for (const candidate of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (environmentOf(candidate).includes(`${OWNER}=${pid}`)) signalEach([Number(candidate)], 'SIGKILL');
  }
}

function environmentOf(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/environ`, 'utf8').split('\0');
  } catch {
    return [];
  }
}

/** Ends the program when the pipe closes; ends itself when the program does. */
const GUARD = `
"$@" 3<&- >/dev/null &
program=$!
{ read -r _ <&3; kill "$program"; } 2>/dev/null &
waiter=$!
wait "$program"
kill "$waiter" 2>/dev/null
`;

async function startGuarded(command: readonly string[], { descriptor, isRouted }: HelpedNamespace): Promise<Helper> {
  const child = spawn('/bin/sh', ['-c', GUARD, 'way-out', ...command], {
    stdio: ['ignore', 'ignore', 'pipe', 'pipe', descriptor], detached: true, cwd: '/', env: { ...process.env, [OWNER]: String(process.pid) },
  });
  const end = (): void => void (child.stdio[3] as Socket).destroy();
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => (said = `${said}${bytes.toString()}`.slice(-MAX_SAID)));
  let problem: string | undefined;
  child.once('error', (error) => (problem = error.message));
  child.once('close', () => (problem ??= said.trim().split('\n').at(-1) || 'it gave no reason'));
  const deadline = performance.now() + START_MS;
  while (problem === undefined && !(await isRouted())) {
    if (performance.now() > deadline) problem = `no route after ${START_MS} ms`;
    await delay(POLL_MS);
  }
  if (problem !== undefined) {
    end();
    throw new HdError('NO_HELPER', `${basename(command[0] ?? '')} could not be started: ${problem}`);
  }
  child.unref();
  for (const stream of [child.stderr, child.stdio[3]]) (stream as Socket).unref();
  return { end };
}

function findOn(searchPath: string | undefined, name: string): string {
  const found = findProgram(name, searchPath);
  if (found === undefined) throw new HdError('NO_HELPER', `${name} is not installed`);
  return found;
}
