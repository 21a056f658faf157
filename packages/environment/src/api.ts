import type { HdErrorJson } from '@hyperdocker/base';
import type { PreparedContainer } from '@hyperdocker/sandbox';
import type { ServiceStatus } from './events.ts';

/**
 * The supervisor's interface: HTTP and JSON over a Unix socket that only its owner may open.
 *
 *   GET  /v1/status               → StatusReply
 *   GET  /v1/events?since=SEQ     → NDJSON of Emitted, never ending
 *   POST /v1/down                 → {} once everything is stopped; the supervisor then ends
 *   POST /v1/kill                 → {} the same, without grace
 *   POST /v1/restart {services}   → {}
 *   POST /v1/exec   ExecRequest   → ExecReply, or DetachedReply
 */
export interface StatusReply {
  pid: number;
  name: string;
  id: string;
  project: string;
  base: string;
  root: string | undefined;
  phase: Phase;
  tracing: boolean;
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
  port?: number;
  restarts: number;
  /** Why it was last started again, or why it is not running. */
  lastRestart?: { cause: string; atMs: number };
  sinceMs: number;
}

export interface ExecRequest {
  /** Empty: the shell of the user. */
  args: string[];
  terminal: boolean;
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
/** Of a command that was to run by itself. */
export interface DetachedReply {
  id: string;
  /** 0, or what the client exits with, beside the error. */
  exitCode: number;
  error?: HdErrorJson;
}
export interface ErrorReply { error: HdErrorJson }
