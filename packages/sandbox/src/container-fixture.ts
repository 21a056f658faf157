/** For tests: containers on the host's own programs, in a directory that goes away with them. */
import assert from 'node:assert/strict';
import { lstatSync, mkdirSync, mkdtempSync, readlinkSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ContainerExit, ContainerMount, ContainerSpec, OutputStream } from './contract.ts';
import { OciRuntime, type RunningContainer } from './container.ts';
import { probeRuntimes } from './runtime.ts';

const usable = probeRuntimes().find((probe) => probe.works);

/** Why tests with containers are skipped; `false` where they run. */
export const skipReason: string | false = usable === undefined ? 'no container runtime works on this machine' : false;

export interface World {
  readonly dir: string;
  readonly state: string;
  readonly runtime: OciRuntime;
  start(command: string | string[], changes?: Partial<ContainerSpec>): Started;
  run(command: string | string[], changes?: Partial<ContainerSpec>): Promise<Result>;
  [Symbol.asyncDispose](): Promise<void>;
}

export interface Started extends RunningContainer {
  /** Resolves once standard output holds `text`. */
  printed(text: string): Promise<void>;
  output(stream: OutputStream): string;
}

export interface Result extends ContainerExit {
  readonly stdout: string;
  readonly stderr: string;
}

export function makeWorld(): World {
  assert(usable !== undefined, 'tests without a runtime are skipped');
  const dir = mkdtempSync(join(tmpdir(), 'hd-sandbox-'));
  const state = join(dir, 'state');
  const runtime = new OciRuntime({ path: usable.path, root: state });
  let count = 0;
  const start: World['start'] = (command, changes = {}) => {
    const id = `${dir.split('-').at(-1)}-${count++}`;
    const output = { stdout: '', stderr: '' };
    const waiters = new Set<() => void>();
    const container = runtime.run(makeSpec(join(dir, 'rootfs'), id, command, changes), {
      bundleDir: join(dir, `bundle-${id}`),
      stdio: 'capture',
      onOutput(stream, bytes) {
        output[stream] += bytes.toString();
        for (const waiter of waiters) waiter();
      },
    });
    const printed = (text: string): Promise<void> =>
      new Promise((resolve, reject) => {
        const check = (): void => {
          if (output.stdout.includes(text)) resolve();
        };
        waiters.add(check);
        void container.exit.then((exit) => reject(new Error(`ended before it printed '${text}': ${JSON.stringify({ ...exit, ...output })}`)));
        check();
      });
    return { ...container, printed, output: (stream) => output[stream] };
  };
  makeRootfs(join(dir, 'rootfs'));
  return {
    dir,
    state,
    runtime,
    start,
    async run(command, changes) {
      const started = start(command, changes);
      const exit = await started.exit;
      return { ...exit, stdout: started.output('stdout'), stderr: started.output('stderr') };
    },
    async [Symbol.asyncDispose]() {
      for (const { id } of await runtime.list()) await runtime.delete(id, { force: true });
      runtime.close();
      rmSync(dir, { recursive: true, force: true });
    },
  };
}

export function makeSpec(rootfs: string, id: string, command: string | string[], changes: Partial<ContainerSpec> = {}): ContainerSpec {
  return {
    id,
    rootfs,
    args: typeof command === 'string' ? ['/bin/sh', '-c', command] : command,
    env: { PATH: '/usr/bin:/bin:/usr/sbin:/sbin' },
    cwd: '/',
    user: { uid: 0, gid: 0 },
    hostname: 'test',
    mounts: hostPrograms(),
    network: 'none',
    terminal: false,
    ...changes,
  };
}

const PROGRAM_DIRECTORIES = ['/usr', '/bin', '/sbin', '/lib', '/lib64'];

export function makeRootfs(rootfs: string): void {
  for (const path of ['', '/tmp', '/work']) mkdirSync(join(rootfs, path), { recursive: true });
  for (const path of PROGRAM_DIRECTORIES) {
    if (lstatSync(path, { throwIfNoEntry: false })?.isSymbolicLink() === true) symlinkSync(readlinkSync(path), join(rootfs, path));
  }
}

export function hostPrograms(): ContainerMount[] {
  return PROGRAM_DIRECTORIES.filter((path) => lstatSync(path, { throwIfNoEntry: false })?.isDirectory() === true).map((path) => ({
    destination: path,
    source: path,
    readonly: true,
  }));
}
