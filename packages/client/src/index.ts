export { ApiError, Client, socketOf } from './client.ts';
export type { CallName, Calls, Done } from './calls.ts';
export type { ChangedPath, DetachedReply, Emitted, ExecReply, ExecRequest, HdEvent, PullReply, PullRequest, PulledFile, ResetReply, ServiceReply, StatusReply } from '@hyperdocker/environment';
