/**
 * The system calls that a container may not make.
 *
 * A deny list over "allow", where Docker has an allow list over "deny": it refuses what Docker refuses by name, but lets through a system call that
 * is newer than this list. It holds because the capabilities that most of these need are dropped as well; what it adds is that user namespaces, key rings,
 * BPF, io_uring and the like are out of reach of an unprivileged process.
 */
export interface SeccompProfile {
  readonly defaultAction: 'SCMP_ACT_ALLOW';
  readonly architectures: readonly string[];
  readonly syscalls: readonly SeccompRule[];
}

interface SeccompRule {
  readonly names: readonly string[];
  readonly action: 'SCMP_ACT_ERRNO';
  readonly errnoRet: number;
  readonly args?: readonly { readonly index: number; readonly value: number; readonly valueTwo?: number; readonly op: string }[];
}

/** `undefined` where the architecture is not one that the list was checked for. */
export function seccompProfile(arch: string = process.arch): SeccompProfile | undefined {
  const architectures = ARCHITECTURES[arch];
  if (architectures === undefined) return undefined;
  return {
    defaultAction: 'SCMP_ACT_ALLOW',
    architectures,
    syscalls: [
      { names: DENIED, action: 'SCMP_ACT_ERRNO', errnoRet: EPERM },
      // Its flags are behind a pointer, which a filter cannot follow. ENOSYS makes the C libraries use clone.
      { names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS },
      ...NAMESPACE_FLAGS.map((flag): SeccompRule => ({
        names: ['clone'],
        action: 'SCMP_ACT_ERRNO',
        errnoRet: EPERM,
        args: [{ index: 0, value: flag, valueTwo: flag, op: 'SCMP_CMP_MASKED_EQ' }],
      })),
      { names: ['socket'], action: 'SCMP_ACT_ERRNO', errnoRet: EPERM, args: [{ index: 0, value: AF_VSOCK, op: 'SCMP_CMP_EQ' }] },
    ],
  };
}

const EPERM = 1;
const ENOSYS = 38;
/** The address family that reaches the hypervisor. */
const AF_VSOCK = 40;

const ARCHITECTURES: Readonly<Record<string, readonly string[]>> = {
  x64: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86', 'SCMP_ARCH_X32'],
  arm64: ['SCMP_ARCH_AARCH64', 'SCMP_ARCH_ARM'],
};

/** CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET. */
const NAMESPACE_FLAGS = [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];

const DENIED = [
  // The kernel itself: modules, another kernel, tracing, accounting, quotas.
  'create_module', 'delete_module', 'finit_module', 'get_kernel_syms', 'init_module', 'query_module', 'kexec_file_load', 'kexec_load', 'reboot',
  'bpf', 'perf_event_open', 'lookup_dcookie', 'acct', 'quotactl', 'quotactl_fd', 'syslog', 'nfsservctl', 'sysfs', '_sysctl', 'uselib', 'ustat',
  // Namespaces and mounts.
  'mount', 'umount', 'umount2', 'pivot_root', 'setns', 'unshare', 'fsopen', 'fsconfig', 'fsmount', 'fspick', 'move_mount', 'open_tree', 'mount_setattr',
  'swapon', 'swapoff',
  // Ways around the checks of paths, memory and processes.
  'open_by_handle_at', 'userfaultfd', 'kcmp', 'add_key', 'keyctl', 'request_key', 'io_uring_setup', 'io_uring_enter', 'io_uring_register',
  'move_pages', 'vm86', 'vm86old', 'ioperm', 'iopl', 'vhangup',
  // The clock and the names of the host.
  'clock_settime', 'clock_settime64', 'settimeofday', 'stime', 'setdomainname', 'sethostname',
];
