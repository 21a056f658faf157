import type { HdError } from '@hyperdocker/base';
import type { ContainerLimits } from './limits.ts';

/**
 * What a container is, in the terms of a caller: paths, arguments, a user. The OCI words for it are in `bundle.ts`.
 */
export interface ContainerSpec {
  /** Letters, digits and `_+-.`; unique among the containers of one state directory. */
  readonly id: string;
  /** Host path of the root file system. It belongs to the caller and is mounted already. */
  readonly rootfs: string;
  /** The command, never parsed by a shell. Looked up in the PATH of `env`. */
  readonly args: readonly string[];
  /** All of the environment: nothing is added. */
  readonly env: Readonly<Record<string, string>>;
  /** Absolute path inside. The runtime makes it where it is missing, so a caller that captures outputs should make it first. */
  readonly cwd: string;
  readonly user: ContainerUser;
  readonly hostname: string;
  readonly mounts: readonly ContainerMount[];
  /** `host`: the network of the host. `none`: a network namespace with nothing but loopback. Or the path of a namespace that is there. */
  readonly network: 'host' | 'none' | { readonly path: string };
  /** Needs a terminal as standard input of this process, and `stdio: 'inherit'`. */
  readonly terminal: boolean;
  /** Of the terminal at the start. runc asks for it by itself, crun does not. */
  readonly terminalSize?: TerminalSize;
  readonly rootReadonly?: boolean;
  readonly limits?: ContainerLimits;
  /** All rights of root, all devices, nothing masked: hardly a container. */
  readonly privileged?: boolean;
  /**
   * Run the command as the child of a `/bin/sh` that is process 1. Without it the command is process 1 itself, for which the kernel
   * ignores every signal that it has no handler for: `node server.js` would sit out the whole grace period at each restart. Where output is captured and no
   * standard input asked for, process 1 also stays for as long as anything else needs to stop.
   */
  readonly init?: boolean;
}

export interface TerminalSize {
  readonly rows: number;
  readonly columns: number;
}

export interface ContainerUser {
  readonly uid: number;
  readonly gid: number;
  readonly additionalGids?: readonly number[];
}

export interface ContainerMount {
  /** Absolute path inside. */
  readonly destination: string;
  /** Host path of a bind mount; of no meaning for tmpfs. */
  readonly source: string;
  /** `bind` where it is left out. */
  readonly type?: 'bind' | 'tmpfs';
  readonly readonly: boolean;
  /** Of a tmpfs: how much it may hold. Default: half of the memory. */
  readonly sizeBytes?: number;
}

/** A command to run inside a container that runs already. */
export interface ExecSpec {
  readonly args: readonly string[];
  readonly env: Readonly<Record<string, string>>;
  readonly cwd: string;
  readonly user: ContainerUser;
  /** As for `ContainerSpec`. */
  readonly terminal: boolean;
  readonly terminalSize?: TerminalSize;
}

/** How a container ended. Never an exception: a command that is not there is an outcome like another. */
export interface ContainerExit {
  /** The command's own code, 128+n after signal n. 127, 126, 125 beside a `problem`: not found, not executable, not started. */
  readonly code: number;
  /** The signal that `code` stands for, by the convention of 128+n. */
  readonly signal: NodeJS.Signals | null;
  /** The limit of memory, in bytes, where the kernel killed a process of the container for it. */
  readonly outOfMemory?: number;
  /** Set when the command has never run. */
  readonly problem?: HdError;
}

export type OutputStream = 'stdout' | 'stderr';

export interface ContainerStatus {
  readonly id: string;
  /** Process 1 as this process sees it; 0 once it has ended. */
  readonly pid: number;
  readonly status: 'creating' | 'created' | 'running' | 'paused' | 'stopped';
}

