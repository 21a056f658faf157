import type { HdErrorJson } from '@hyperdocker/base';
import type { PreparedContainer, TerminalSize, WayOut } from '@hyperdocker/sandbox';
import type { ServiceStatus } from './events.ts';

/**
 * The supervisor's interface: HTTP and JSON over a Unix socket that only its owner may open.
 *
 *   GET  /v1/version              → {api}: the number in these paths
 *   GET  /v1/status               → StatusReply
 *   GET  /v1/events?since=SEQ     → NDJSON of Emitted, never ending
 *   POST /v1/down                 → {} once everything is stopped; the supervisor then ends
 *   POST /v1/kill                 → {} the same, without grace
 *   POST /v1/restart {services}   → {}
 *   POST /v1/start {services}     → {failed}: those that do not run
 *   POST /v1/stop {services}      → {} once they have ended
 *   GET  /v1/changes              → ChangedPath[]: what was written inside
 *   POST /v1/reset                → ResetReply, once all runs again on a root as built
 *   POST /v1/pull   PullRequest   → PullReply
 *   POST /v1/exec   ExecRequest   → ExecReply, or DetachedReply
 */
export interface StatusReply {
  pid: number;
  name: string;
  id: string;
  project: string;
  base: string;
  root: string | undefined;
  /** Of the text of the hd.toml that says what the environment is. */
  specSha256?: string;
  phase: Phase;
  tracing: boolean;
  /** How services reach what is outside of their network; null where they are in that of the host, or are not made yet. */
  wayOut: WayOut | null;
  services: ServiceReply[];
  /** The number of the latest event. */
  last: number;
}
export type Phase = 'building' | 'up' | 'failed' | 'stopping';

export interface ServiceReply {
  name: string;
  command: string;
  watch: string[];
  status: ServiceStatus;
  /** The one that it listens on. */
  port?: number;
  /** Where on the host it can be reached: `loopback` is 127.0.0.1 and ::1. */
  published?: { address: string; port: number };
  url?: string;
  /** The same by a name of its own, for browsers. */
  alias?: string;
  restarts: number;
  /** Why it was last started again, or why it is not running. */
  lastRestart?: { cause: string; atMs: number };
  sinceMs: number;
}

export interface ExecRequest {
  /** Empty: the shell of the user. */
  args: string[];
  terminal: boolean;
  terminalSize?: TerminalSize;
  env: Record<string, string>;
  workdir?: string;
  user?: string;
  /** The supervisor runs it itself, and answers once it runs. */
  detach?: boolean;
}
/** How the client runs the command itself, with its own terminal: a container in the supervisor's mount namespace. */
export interface ExecReply {
  container: PreparedContainer;
  runtime: string;
  runtimeRoot: string;
  prefix: string[];
  /** The client removes it afterwards. */
  bundleDir: string;
}
export interface ChangedPath {
  /** Absolute, inside. */
  path: string;
  change: 'added' | 'changed' | 'removed';
  kind: string;
}
export interface ResetReply {
  dropped: ChangedPath[];
  /** Services that do not run. */
  failed: string[];
}
export interface PullRequest {
  /** Globs or paths, relative to the project. Empty: what `sync_back` names. */
  paths: string[];
  /** Only say what would be done. */
  dryRun?: boolean;
  /** Where both sides have changed, the one inside goes to the host, and the host's is kept aside. */
  overwrite?: boolean;
}
export interface PullReply {
  /** Of those that needed nothing, nothing is said. */
  files: PulledFile[];
  /** Those of the paths that match nothing inside. */
  unmatched: string[];
}
export type PulledFile = { path: string; host?: string | null; inside?: string | null } & (
  /** `host`, `inside`: what was on either side, as a digest or in words; null for nothing. `keptAt`: the host's version, where both had changed. */
  | { outcome: 'written'; change: 'added' | 'changed'; keptAt?: string }
  /** Both sides have changed. Both stay as they are, and the one inside is kept for when the environment is gone. */
  | { outcome: 'clash'; keptAt?: string }
  | { outcome: 'refused'; reason: string }
);
/** Of a command that was to run by itself. */
export interface DetachedReply {
  id: string;
  /** 0, or what the client exits with, beside the error. */
  exitCode: number;
  error?: HdErrorJson;
}
export interface ErrorReply { error: HdErrorJson }
