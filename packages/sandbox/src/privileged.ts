import { lstatSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/** In the order of their numbers. */
const NAMES: readonly string[] = [
  'CHOWN', 'DAC_OVERRIDE', 'DAC_READ_SEARCH', 'FOWNER', 'FSETID', 'KILL', 'SETGID', 'SETUID', 'SETPCAP', 'LINUX_IMMUTABLE', 'NET_BIND_SERVICE', 'NET_BROADCAST', 'NET_ADMIN', 'NET_RAW', 'IPC_LOCK', 'IPC_OWNER',
  'SYS_MODULE', 'SYS_RAWIO', 'SYS_CHROOT', 'SYS_PTRACE', 'SYS_PACCT', 'SYS_ADMIN', 'SYS_BOOT', 'SYS_NICE', 'SYS_RESOURCE', 'SYS_TIME', 'SYS_TTY_CONFIG', 'MKNOD', 'LEASE', 'AUDIT_WRITE', 'AUDIT_CONTROL', 'SETFCAP',
  'MAC_OVERRIDE', 'MAC_ADMIN', 'SYSLOG', 'WAKE_ALARM', 'BLOCK_SUSPEND', 'AUDIT_READ', 'PERFMON', 'BPF', 'CHECKPOINT_RESTORE',
];

/** The capabilities that this process can hand on: no runtime can give what its own caller is denied. */
export function ownCapabilities(): string[] {
  const mask = BigInt(`0x${/^CapBnd:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 'ffffffffffffffff'}`);
  return NAMES.flatMap((name, bit) => ((mask >> BigInt(bit)) & 1n) === 1n ? [`CAP_${name}`] : []);
}

/** The devices of the host that lie in /dev itself, in the words of the runtime specification. */
export function hostDevices(dir = '/dev'): object[] {
  return readdirSync(dir).sort().flatMap((name) => {
    const path = join(dir, name);
    const stats = lstatSync(path, { throwIfNoEntry: false });
    const type = stats?.isCharacterDevice() === true ? 'c' : stats?.isBlockDevice() === true ? 'b' : undefined;
    if (stats === undefined || type === undefined || BY_RUNTIME.includes(name)) return [];
    const [major, minor] = [Math.floor(stats.rdev / 256) & 0xfff, (stats.rdev & 0xff) | (Math.floor(stats.rdev / 4096) & 0xfff00)];
    return [{ path, type, major, minor, fileMode: stats.mode & 0o777, uid: stats.uid, gid: stats.gid }];
  });
}

/** Every container has these, its own. */
const BY_RUNTIME = ['null', 'zero', 'full', 'random', 'urandom', 'tty', 'console', 'ptmx'];
