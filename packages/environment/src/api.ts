import type { HdErrorJson } from '@hyperdocker/base';
import type { ContainerSpec } from '@hyperdocker/sandbox';
import type { ServiceStatus } from './events.ts';

/**
 * The supervisor's interface: HTTP and JSON over a Unix socket that only its owner may open.
 *
 *   GET  /v1/status               → StatusReply
 *   GET  /v1/events?since=SEQ     → NDJSON of Emitted, never ending
 *   POST /v1/down                 → {} once everything is stopped; the supervisor then ends
 *   POST /v1/kill                 → {} the same, without grace
 *   POST /v1/restart {services}   → {}
 *   POST /v1/exec   ExecRequest   → ExecReply
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
  args: string[];
  terminal: boolean;
  env: Record<string, string>;
  workdir?: string;
  user?: string;
}
/** How the client runs the command itself, with its own terminal: a container in the supervisor's mount namespace. */
export interface ExecReply {
  spec: ContainerSpec;
  runtime: string;
  runtimeRoot: string;
  prefix: string[];
  /** The client removes it afterwards. */
  bundleDir: string;
}
export interface ErrorReply { error: HdErrorJson }
