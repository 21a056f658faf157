import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { constants } from 'node:os';
import type { ContainerExit, ContainerSpec, RunOptions, RunningContainer } from '@hyperdocker/sandbox';
import { OciRuntime } from '@hyperdocker/sandbox';

const CHROOT = ['/usr/sbin/chroot', '/usr/bin/chroot', '/sbin/chroot'].find((path) => existsSync(path)) ?? 'chroot';

/**
 * Runs a container's command in its root file system and in nothing else: no namespaces, no cgroup, no mounts. What the file system is asked, and
 * what is written, is what it would be in a container, in a fraction of the time.
 */
export class ChrootRuntime extends OciRuntime {
  override run(spec: ContainerSpec, options: RunOptions): RunningContainer {
    const { uid, gid, additionalGids = [] } = spec.user;
    const enter = ['/bin/sh', '-c', 'umask 022; cd "$0" && exec "$@"', spec.cwd, ...spec.args];
    const child = spawn(CHROOT, [`--userspec=${uid}:${gid}`, `--groups=${additionalGids.join(',')}`, spec.rootfs, ...enter], { env: spec.env, stdio: ['ignore', 'pipe', 'pipe'], detached: true });
    child.stdout.on('data', (bytes: Buffer) => options.onOutput?.('stdout', bytes));
    child.stderr.on('data', (bytes: Buffer) => options.onOutput?.('stderr', bytes));
    const exit = new Promise<ContainerExit>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code, signal) => resolve({ code: code ?? 128 + constants.signals[signal ?? 'SIGKILL'], signal }));
    });
    const kill = (): Promise<ContainerExit> => {
      if (child.pid !== undefined && child.exitCode === null && child.signalCode === null) process.kill(-child.pid, 'SIGKILL');
      return exit;
    };
    return { id: spec.id, pid: child.pid ?? 0, exit, stdin: undefined, started: async () => true, signal: async () => {}, stop: kill, kill };
  }
}
