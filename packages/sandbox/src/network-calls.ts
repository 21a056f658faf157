import type { HdErrorJson } from '@hyperdocker/base';
import type { ReadinessProbe } from './readiness.ts';

/** What the thread inside a private network is asked to do. Each call is answered once, under its `id`. */
export type InsideCall = { readonly id: number } & (
  /** Connections to these sockets go on to a port inside. They belong to the thread from now on. */
  | { readonly kind: 'forward'; readonly name: string; readonly fds: readonly number[]; readonly port: number }
  /** What becomes of connections to the port of this name. */
  | { readonly kind: 'expect'; readonly name: string; readonly state: Expected }
  /** Answered with 'ready' or 'aborted'. */
  | { readonly kind: 'probe'; readonly probe: InsideProbe }
  | { readonly kind: 'stop-probe'; readonly probeId: number }
  /** Answered with the descriptor of a socket inside. It belongs to whoever asked. `hold`: one that listens, for another program. */
  | { readonly kind: 'listen' | 'datagrams' | 'hold'; readonly address: string; readonly port: number }
  /** A cable to the host, which then hands packets on. `seed` says where to begin looking for a free number. */
  | { readonly kind: 'cable'; readonly seed: number }
  /** What would leave over TCP arrives at a port of loopback. */
  | { readonly kind: 'redirect'; readonly port: number }
  /** Answered with a boolean: does a route lead out? */
  | { readonly kind: 'is-routed' }
  | { readonly kind: 'close' }
);

/** Those that ask a port. */
export type InsideProbe = Extract<ReadinessProbe, { kind: 'port' | 'http' | 'accepted' }>;

/** Of what listens at a forwarded port: `starting`, connections wait until it does; `up`, they break off where it does not; `down`, they break off. */
export type Expected = 'starting' | 'up' | 'down';

export type InsideReply =
  /** The first message: the thread is inside. `namespace` is a descriptor of the namespace, which belongs to the process. */
  | { readonly kind: 'inside'; readonly namespace: number }
  | { readonly kind: 'done'; readonly id: number; readonly value?: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly error: HdErrorJson };

/** What the thread outside is asked to do: it is in the host's network, and serves sockets that are inside. */
export type OutsideCall =
  /** To the address that the connection was meant for, before it was redirected. */
  | { readonly kind: 'relay-redirected'; readonly fd: number }
  | { readonly kind: 'relay-tcp'; readonly fd: number; readonly host: string; readonly port: number }
  | { readonly kind: 'relay-udp'; readonly fd: number; readonly host: string; readonly port: number };
