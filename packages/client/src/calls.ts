import type { ChangedPath, DetachedReply, ExecReply, ExecRequest, PullReply, PullRequest, ResetReply, StatusReply } from '@hyperdocker/environment';

/** What each call takes and gives. */
export interface Calls {
  version: { takes: undefined; gives: { api: 1 } };
  status: { takes: undefined; gives: StatusReply };
  changes: { takes: undefined; gives: ChangedPath[] };
  start: { takes: { services: string[] }; gives: { failed: string[] } };
  stop: { takes: { services: string[] }; gives: Done };
  restart: { takes: { services: string[] }; gives: Done };
  reset: { takes: undefined; gives: ResetReply };
  pull: { takes: PullRequest; gives: PullReply };
  exec: { takes: ExecRequest; gives: ExecReply | DetachedReply };
  down: { takes: undefined; gives: Done };
  kill: { takes: undefined; gives: Done };
}

/** Nothing more is to be said than that it is done. */
export type Done = Record<string, never>;
export type CallName = keyof Calls;

/** Where each call is asked for. `GET /v1/events` beside them is a stream. */
export const ROUTES: { readonly [Name in CallName]: { readonly method: 'GET' | 'POST'; readonly path: `/v1/${string}` } } = {
  version: { method: 'GET', path: '/v1/version' },
  status: { method: 'GET', path: '/v1/status' },
  changes: { method: 'GET', path: '/v1/changes' },
  start: { method: 'POST', path: '/v1/start' },
  stop: { method: 'POST', path: '/v1/stop' },
  restart: { method: 'POST', path: '/v1/restart' },
  reset: { method: 'POST', path: '/v1/reset' },
  pull: { method: 'POST', path: '/v1/pull' },
  exec: { method: 'POST', path: '/v1/exec' },
  down: { method: 'POST', path: '/v1/down' },
  kill: { method: 'POST', path: '/v1/kill' },
};

export const EVENTS_PATH = '/v1/events';
