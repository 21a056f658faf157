import { mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { join, posix } from 'node:path';
import { HdError, inUserNamespace } from '@hyperdocker/base';
import { cgroupMode, type CgroupMode } from './cgroups.ts';
import type { ContainerMount, ContainerSpec, ExecSpec } from './contract.ts';
import { limitResources } from './limits.ts';
import { hostDevices, ownCapabilities } from './privileged.ts';
import { seccompProfile } from './seccomp.ts';

/** A path that the runtime makes in the root file system where it is missing, together with missing parents, to mount something on it. */
export interface MountTarget {
  /** Absolute path inside. */
  readonly path: string;
  readonly kind: 'directory' | 'file';
}

/** Facts of the host that a configuration depends on. */
export interface HostFacts {
  readonly cgroups: CgroupMode;
  /** This process is root of a user namespace, not of the machine. */
  readonly userNamespace: boolean;
  /** What this process can hand on: more makes the runtime fail. */
  readonly capabilities: readonly string[];
  /** Hard limit of open files: raising it needs a right that this process may not have. */
  readonly maxOpenFiles: number;
}

/** Writes `config.json` into `bundleDir`, which is made where it is missing. */
export function writeBundle(bundleDir: string, spec: ContainerSpec, host: HostFacts = hostFacts()): void {
  mkdirSync(bundleDir, { recursive: true, mode: 0o700 });
  writeFileSync(join(bundleDir, 'config.json'), JSON.stringify(buildConfig(spec, host)), { mode: 0o600 });
}

/**
 * The configuration of the OCI runtime specification 1.0, with the security defaults of Docker.
 * Throws `CONTAINER_SPEC_INVALID`.
 */
export function buildConfig(spec: ContainerSpec, host: HostFacts): object {
  checkSpec(spec);
  const privileged = spec.privileged === true && !host.userNamespace;
  return {
    ociVersion: '1.0.2',
    root: { path: spec.rootfs, readonly: spec.rootReadonly ?? false },
    hostname: spec.hostname,
    process: {
      ...(privileged ? withAllRights(buildProcess(spec, host), host.capabilities) : buildProcess(spec, host)),
      rlimits: [{ type: 'RLIMIT_NOFILE', soft: Math.min(65_536, host.maxOpenFiles), hard: Math.min(524_288, host.maxOpenFiles) }],
    },
    mounts: [...standardMounts(host, spec.network === 'none'), ...spec.mounts.map(toMount)],
    linux: {
      namespaces: namespaces(spec, host),
      // The runtimes add the usual devices (null, zero, full, random, urandom, tty, ptmx) to both lists by themselves.
      ...(host.cgroups === 'none' ? {} : { cgroupsPath: `/hyperdocker/${spec.id}`, resources: { devices: [{ allow: privileged, access: 'rwm' }], ...limitResources(spec.limits ?? {}, host.cgroups) } }),
      ...(spec.network === 'none' ? { sysctl: { 'net.ipv4.ip_unprivileged_port_start': '0' } } : {}),
      ...(privileged ? { devices: hostDevices() } : {
        maskedPaths: [...MASKED_PATHS, ...(host.userNamespace ? ['/sys/fs/cgroup'] : [])],
        readonlyPaths: READONLY_PATHS,
        ...seccompSection(),
      }),
    },
  };
}

/** The `process` section, which is also what `exec` takes. */
export function buildProcess(spec: ExecSpec, host: HostFacts): object {
  // Without a device cgroup, a device made with mknod would be the host's disk.
  const granted = CAPABILITIES.filter((name) => host.capabilities.includes(name));
  const bounding = host.cgroups === 'none' ? granted.filter((name) => name !== 'CAP_MKNOD') : granted;
  const held = spec.user.uid === 0 ? bounding : [];
  return {
    terminal: spec.terminal,
    ...(spec.terminalSize === undefined ? {} : { consoleSize: { height: spec.terminalSize.rows, width: spec.terminalSize.columns } }),
    user: { uid: spec.user.uid, gid: spec.user.gid, additionalGids: spec.user.additionalGids ?? [] },
    args: spec.args,
    env: Object.entries(spec.env).map(([name, value]) => `${name}=${value}`),
    cwd: spec.cwd,
    capabilities: { bounding, effective: held, permitted: held, inheritable: [], ambient: [] },
    noNewPrivileges: true,
  };
}

function withAllRights(processSection: object, all: readonly string[]): object {
  return { ...processSection, capabilities: { bounding: all, effective: all, permitted: all, inheritable: [], ambient: [] }, noNewPrivileges: false };
}

/**
 * What the runtime makes in the root file system: exclude it from captured outputs, or make it beforehand. Paths below a mounted one are left out.
 */
export function mountTargets(spec: Pick<ContainerSpec, 'mounts'>): MountTarget[] {
  const targets: MountTarget[] = [
    ...['/dev', '/proc', '/sys'].map((path): MountTarget => ({ path, kind: 'directory' })),
    ...spec.mounts.map((mount): MountTarget => ({ path: posix.normalize(mount.destination), kind: mountKind(mount) })),
  ];
  return targets
    .filter((target) => !targets.some((other) => target.path.startsWith(`${other.path}/`)))
    .filter((target, index, all) => all.findIndex((other) => other.path === target.path) === index)
    .sort((a, b) => (a.path < b.path ? -1 : 1));
}

/** Reads what `buildConfig` has to know of this host. */
export function hostFacts(): HostFacts {
  const limit = /^Max open files\s+\S+\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1];
  return { cgroups: cgroupMode(), userNamespace: inUserNamespace(), capabilities: ownCapabilities(), maxOpenFiles: limit === undefined ? Infinity : Number(limit) };
}

function checkSpec(spec: ContainerSpec): void {
  const problem = !/^[\w+.-]+$/.test(spec.id) || spec.id.startsWith('.')
    ? `the id '${spec.id}' is not made of letters, digits and _+-.`
    : spec.args.length === 0
      ? 'there is no command'
      : [spec.rootfs, spec.cwd, ...spec.mounts.map((mount) => mount.destination)].some((path) => !path.startsWith('/'))
        ? 'its paths have to be absolute'
        : [...spec.args, ...Object.entries(spec.env).flat()].some((text) => text.includes('\0'))
          ? 'a NUL character can be neither in an argument nor in the environment'
          : undefined;
  if (problem !== undefined) throw new HdError('CONTAINER_SPEC_INVALID', `Container ${spec.id} cannot be run: ${problem}.`);
}

function namespaces({ network }: ContainerSpec, host: HostFacts): { type: string; path?: string }[] {
  return [
    ...['pid', 'mount', 'ipc', 'uts', ...(network === 'none' ? ['network'] : []), ...(host.cgroups === 'unified' ? ['cgroup'] : [])].map((type) => ({ type })),
    ...(typeof network === 'object' ? [{ type: 'network', path: network.path }] : []),
  ];
}

function standardMounts(host: HostFacts, ownNetwork: boolean): object[] {
  const mounts: object[] = [
    { destination: '/proc', type: 'proc', source: 'proc', options: ['nosuid', 'noexec', 'nodev'] },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'] },
    { destination: '/dev/pts', type: 'devpts', source: 'devpts', options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'] },
    { destination: '/dev/shm', type: 'tmpfs', source: 'shm', options: ['nosuid', 'noexec', 'nodev', 'mode=1777', 'size=65536k'] },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: ['nosuid', 'noexec', 'nodev'] },
    host.userNamespace && !ownNetwork
      // The kernel gives one that belongs to a network namespace only to whom that belongs to.
      ? { destination: '/sys', type: 'bind', source: '/sys', options: ['rbind', 'rprivate', 'nosuid', 'noexec', 'nodev', 'ro'] }
      : { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
  ];
  // In the legacy layout the mount would show the groups of the whole host.
  if (host.cgroups === 'unified') {
    mounts.push({ destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['nosuid', 'noexec', 'nodev', 'relatime', 'ro'] });
  }
  return mounts;
}

function toMount(mount: ContainerMount): object {
  const access = mount.readonly ? 'ro' : 'rw';
  return mount.type === 'tmpfs'
    ? { destination: mount.destination, type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'nodev', 'mode=1777', access, ...(mount.sizeBytes === undefined ? [] : [`size=${mount.sizeBytes}`])] }
    : { destination: mount.destination, type: 'bind', source: mount.source, options: ['rbind', 'rprivate', access] };
}

function mountKind(mount: ContainerMount): MountTarget['kind'] {
  if (mount.type === 'tmpfs') return 'directory';
  return statSync(mount.source, { throwIfNoEntry: false })?.isDirectory() === false ? 'file' : 'directory';
}

function seccompSection(): object {
  const seccomp = seccompProfile();
  return seccomp === undefined ? {} : { seccomp };
}

/** Docker's default. */
const CAPABILITIES: readonly string[] = [
  'CAP_AUDIT_WRITE', 'CAP_CHOWN', 'CAP_DAC_OVERRIDE', 'CAP_FOWNER', 'CAP_FSETID', 'CAP_KILL', 'CAP_MKNOD', 'CAP_NET_BIND_SERVICE', 'CAP_NET_RAW',
  'CAP_SETFCAP', 'CAP_SETGID', 'CAP_SETPCAP', 'CAP_SETUID', 'CAP_SYS_CHROOT',
];

const MASKED_PATHS: readonly string[] = [
  '/proc/acpi', '/proc/asound', '/proc/interrupts', '/proc/kcore', '/proc/keys', '/proc/latency_stats', '/proc/sched_debug', '/proc/scsi',
  '/proc/timer_list', '/proc/timer_stats', '/sys/devices/virtual/powercap', '/sys/firmware',
];

const READONLY_PATHS: readonly string[] = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger'];
