import type { ChangedPath, DetachedReply, Emitted, ErrorReply, ExecReply, ExecRequest, HdEvent, PullReply, PullRequest, PulledFile, ResetReply, ServiceReply, StatusReply } from '@hyperdocker/environment';
import * as z from 'zod';
import type { Done } from './calls.ts';

/**
 * What the API says and takes, for documents and for tests. Held to the types by the compiler, and to what is really said by tests, which refuse any field that is not here; programs should
 * accept more, since fields may be added.
 */
const optional = <T extends z.ZodType>(schema: T) => z.exactOptional(schema);
const text = z.string();
const count = z.int().min(0);
const ms = z.number().meta({ description: 'Milliseconds.' });
const time = z.number().meta({ description: 'Milliseconds since 1970.' });
const texts = z.array(text);

export const serviceStatus = z.enum(['starting', 'ready', 'restarting', 'backing-off', 'failed', 'stopping', 'stopped', 'waiting']);
export const phase = z.enum(['building', 'up', 'failed', 'stopping']);
export const wayOut = z.enum(['veth', 'pasta', 'slirp4netns', 'relay', 'none']);
const error = z.strictObject({ code: text, message: text, hint: optional(text), details: optional(z.record(text, z.unknown())) });

export const service = z.strictObject({
  name: text, command: text, watch: texts, status: serviceStatus,
  port: optional(z.int()).meta({ description: 'The one that it listens on.' }),
  published: optional(z.strictObject({ address: text, port: z.int() })).meta({ description: 'Where on the host it can be reached; `loopback` is 127.0.0.1 and ::1.' }),
  url: optional(text), alias: optional(text).meta({ description: 'The same by a name of its own below `localhost`, for browsers.' }),
  restarts: count,
  lastRestart: optional(z.strictObject({ cause: text, atMs: time })).meta({ description: 'Why it was last started again, or why it is not running.' }),
  sinceMs: time,
}) satisfies z.ZodType<ServiceReply>;

export const status = z.strictObject({
  pid: z.int(), name: text, id: text, project: text, base: text, root: optional(text),
  specSha256: optional(text).meta({ description: 'Of the text of the hd.toml that says what the environment is, in hex.' }), phase, tracing: z.boolean(), wayOut: wayOut.nullable(), services: z.array(service),
  last: count.meta({ description: 'The number of the latest event.' }),
}) satisfies z.ZodType<Omit<StatusReply, 'root'> & { root?: string }>;

export const changedPath = z.strictObject({ path: text, change: z.enum(['added', 'changed', 'removed']), kind: text }) satisfies z.ZodType<ChangedPath>;
export const reset = z.strictObject({ dropped: z.array(changedPath), failed: texts }) satisfies z.ZodType<ResetReply>;

const sides = { path: text, host: optional(text.nullable()), inside: optional(text.nullable()) };
export const pulledFile = z.union([
  z.strictObject({ ...sides, outcome: z.literal('written'), change: z.enum(['added', 'changed']), keptAt: optional(text) }),
  z.strictObject({ ...sides, outcome: z.literal('clash'), keptAt: optional(text) }),
  z.strictObject({ ...sides, outcome: z.literal('refused'), reason: text }),
]) satisfies z.ZodType<PulledFile>;
export const pullRequest = z.strictObject({ paths: texts, dryRun: optional(z.boolean()), overwrite: optional(z.boolean()) }) satisfies z.ZodType<PullRequest>;
export const pull = z.strictObject({ files: z.array(pulledFile), unmatched: texts }) satisfies z.ZodType<PullReply>;

export const execRequest = z.strictObject({ args: texts, terminal: z.boolean(), env: z.record(text, text), workdir: optional(text), user: optional(text), detach: optional(z.boolean()) }) satisfies z.ZodType<ExecRequest>;
export const execReply = z.strictObject({ container: z.strictObject({ id: text, terminal: z.boolean(), init: z.boolean() }), runtime: text, runtimeRoot: text, prefix: texts, bundleDir: text }) satisfies z.ZodType<ExecReply>;
export const detached = z.strictObject({ id: text, exitCode: z.int(), error: optional(error) }) satisfies z.ZodType<DetachedReply>;
export const errorReply = z.strictObject({ error }) satisfies z.ZodType<ErrorReply>;
export const services = z.strictObject({ services: texts });
export const failed = z.strictObject({ failed: texts });
export const version = z.strictObject({ api: z.literal(1) });
export const done = z.strictObject({}) as z.ZodType<Done>;

const fileChange = z.strictObject({ path: text, change: z.enum(['added', 'removed', 'changed']) });
const summary = z.strictObject({ changed: count, added: count, removed: count, unchanged: z.int() });
const step = z.strictObject({ index: count, total: count, command: text, line: count, file: optional(text) });
const head = { seq: count, atMs: time };
const event = <Type extends string, Shape extends z.ZodRawShape>(type: Type, shape: Shape) => z.strictObject({ type: z.literal(type), ...head, ...shape });

/** One for each form that an event has. */
export const emitted = z.union([
  event('warning', { code: text, message: text }),
  event('image', { status: z.enum(['cached', 'fetching', 'ready']), base: text, detail: optional(text), ms: optional(ms) }),
  event('step', { status: z.literal('ahead'), step }),
  event('step', { status: z.literal('running'), step, reason: text }),
  event('step', { status: z.literal('cached'), step, facts: count, savedMs: ms }),
  event('step', { status: z.literal('ran'), step, ms, facts: count, volatile: texts, notPassed: optional(texts), dropped: optional(z.strictObject({ count, first: text })) }),
  event('step', { status: z.literal('failed'), step, ms, exitCode: z.int(), log: text }),
  event('step', { status: z.literal('discarded'), step }),
  event('step-output', { step, text }),
  event('built', { name: text, root: text, ms, files: count, bytes: count, services: texts, ran: count, cached: count, discarded: count, hashed: count, changes: optional(z.array(fileChange)), summary: optional(summary) }),
  event('change', { changes: z.array(fileChange), summary, ms, ran: count }),
  event('clash', { path: text, keptAt: text, inside: optional(text), host: optional(text), pulled: optional(z.boolean()) }),
  event('pulled', { files: z.array(z.strictObject({ path: text, change: z.enum(['added', 'changed']), before: text.nullable(), after: text.nullable() })) }),
  event('service', { name: text, status: serviceStatus, cause: optional(text), ms: optional(ms), port: optional(z.int()), url: optional(text), alias: optional(text), exitCode: optional(z.int()), retryMs: optional(ms) }),
  event('signalled', { service: text, signal: text, cause: text }),
  event('log', { service: text, stream: z.enum(['stdout', 'stderr']), text }),
  event('adopted', { services: texts }),
  event('up', { ms, failed: texts }),
  event('failed', { error }),
  event('stopped', {}),
]) satisfies z.ZodType<Emitted>;

/** The compiler's word that no type of event is left out. */
export type Undocumented = Exclude<HdEvent['type'], z.output<typeof emitted>['type']>;
export const UNDOCUMENTED: Undocumented[] = [] satisfies [Undocumented] extends [never] ? never[] : 'an event has no schema';
