import * as z from 'zod';
import { changedPath, phase, pulledFile, service, serviceStatus, wayOut } from './api-schemas.ts';

/** What commands print with `--json`: by the name that each document says of itself. */
const optional = <T extends z.ZodType>(schema: T) => z.exactOptional(schema);
const text = z.string();
const texts = z.array(text);
const count = z.int().min(0);
const bytes = z.number().meta({ description: 'Bytes.' });
const time = z.number().meta({ description: 'Milliseconds since 1970.' });
const ms = z.number().meta({ description: 'Milliseconds.' });
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const document = <Name extends string, Shape extends z.ZodRawShape>(name: Name, shape: Shape) => z.strictObject({ schema: z.literal(name), ...shape });

const stepId = z.strictObject({ index: count, total: count, command: text, line: count, file: optional(text) });
const notRunning = z.literal('not running');

/** What `hd.dag` shows, node by node. */
const graph: z.ZodType = z.lazy(() => z.strictObject({
  label: text, kind: z.enum(['Env', 'Package', 'BuildStep', 'Dir', 'File']), digest: text, status: z.enum(['ok', 'new', 'changed', 'removed']), children: z.array(graph), hidden: optional(count),
})).meta({ id: 'node' });

/** Reasons have fields by their kind: docs/format/state.md, build.json. */
const reason = z.looseObject({ why: text });
const stepWhy = {
  step: stepId, outcome: z.enum(['ran', 'cached', 'failed', 'not reached']),
  lastRun: optional(z.strictObject({ atMs: time, durationMs: ms, why: text, reason })),
  facts: optional(z.strictObject({ paths: count, content: count, listing: count, target: count, xattrs: count, stat: count })),
  savedMs: optional(ms), volatile: texts, notPassed: texts,
};
const spread = z.strictObject({ min: z.number(), median: z.number(), max: z.number() });
const watchedBy = z.array(z.strictObject({ name: text, pattern: text }));
const share = z.strictObject({ kind: z.enum(['environment', 'image', 'results']), name: text, project: optional(text), state: optional(text), usedMs: time, fileBytes: optional(bytes), uniqueBytes: bytes, sharedBytes: bytes });
const listedVolume = z.strictObject({ name: text, path: text, sizeBytes: bytes, environment: text, project: text.nullable(), gone: z.boolean().meta({ description: 'The directory of its project is not there any more.' }) });
const heap = z.strictObject({ count, sizeBytes: bytes });
const fileSide = z.strictObject({ path: text, change: z.enum(['added', 'changed', 'removed']), before: optional(text), after: optional(text) });
const decider = z.union([
  z.strictObject({ origin: z.enum(['default', 'exclude', 'include']), pattern: text }),
  z.strictObject({ origin: z.literal('ignore-file'), pattern: text, file: text, line: count }),
]);

const image = z.strictObject({
  name: text, id: text, platform: text, digest: text, tree: digest, source: text, created: text.nullable(), addedMs: time, sizeBytes: optional(bytes),
});
const sent = {
  to: z.looseObject({ kind: text }), digest: text, layers: z.array(z.looseObject({ digest: text, size: bytes, present: z.boolean().meta({ description: 'It was there already.' }) })),
  written: z.strictObject({ layers: count, bytes }),
};

export const DOCUMENTS = {
  'hd.status/1': document('hd.status/1', {
    name: text, base: text, project: text, state: z.union([phase, z.literal('left'), notRunning]), root: text.nullable(), pid: z.int().nullable(), tracing: z.boolean().nullable(), network: z.enum(['private', 'host']),
    wayOut: wayOut.nullable(), volumes: texts, services: z.array(z.strictObject({ ...service.shape, status: z.union([serviceStatus, notRunning]), url: text.nullable(), alias: text.nullable() })),
  }),
  'hd.environments/1': document('hd.environments/1', {
    environments: z.array(z.strictObject({
      id: text, name: text, project: text, state: z.union([phase, z.enum(['left', 'down', 'gone'])]), pid: z.int().nullable(), volumes: texts, usedMs: time,
      services: z.array(z.strictObject({ name: text, status: z.union([serviceStatus, notRunning]), port: z.int().nullable(), url: optional(text) })),
    })),
  }),
  'hd.plan/1': document('hd.plan/1', {
    will_run: count, may_run: count, image_missing: optional(text),
    steps: z.array(z.strictObject({ index: count, total: count, command: text, line: count, file: optional(text), outcome: z.enum(['run', 'may run', 'cached']), reason: text })),
  }),
  'hd.why/1': document('hd.why/1', { atMs: time, steps: z.array(z.strictObject(stepWhy)), services: z.array(service) }),
  'hd.why.step/1': document('hd.why.step/1', stepWhy),
  'hd.why.service/1': document('hd.why.service/1', { name: text, service: service.nullable() }),
  'hd.why.file/1': document('hd.why.file/1', {
    path: text, included: z.boolean(), rule: text, inside: text, services: watchedBy,
    steps: z.array(z.strictObject({ step: stepId, looks: z.array(z.strictObject({ at: text, asked: text, by: optional(text) })) })),
  }),
  'hd.diff/1': document('hd.diff/1', { before: digest, after: digest, files: z.array(fileSide), others: z.array(z.strictObject({ kind: text, label: text, status: text, digest: text })) }),
  'hd.diff.live/1': document('hd.diff.live/1', { changes: z.array(changedPath) }),
  'hd.dag/1': document('hd.dag/1', { root: digest, graph }),
  'hd.dag.diff/1': document('hd.dag.diff/1', { before: digest, after: digest, graph }),
  'hd.cas.stats/1': z.looseObject({
    schema: z.literal('hd.cas.stats/1'), chunks: count, manifests: count, logicalBytes: bytes, uniqueBytes: bytes, packedBytes: bytes, storedBytes: bytes, packs: count, looseFiles: count, looseBytes: bytes,
    damaged: z.boolean(), dedupRatio: z.number(), compressionRatio: z.number(), shares: z.array(share), beside: z.strictObject({ volumes: z.array(listedVolume), caches: heap, partials: heap }), limitBytes: bytes.nullable(), location: text,
  }),
  'hd.cas.gc/1': document('hd.cas.gc/1', {
    dryRun: z.boolean(), manifestsRemoved: count, chunksRemoved: count, demoted: count, bytesFreed: bytes, storedBytes: bytes, copiesFreed: bytes, lostRefs: texts,
    gaveUp: z.array(z.strictObject({ kind: text, name: text, project: optional(text), usedMs: time })), limitBytes: bytes.nullable(), dedupRatio: z.number(), compressionRatio: z.number(), shares: z.array(share),
    beside: z.strictObject({ partials: bytes, caches: bytes, cachesInUse: z.boolean() }),
  }),
  'hd.cas.fsck/1': document('hd.cas.fsck/1', {
    objectsChecked: count, rebuiltObjects: optional(count),
    problems: z.array(z.looseObject({ kind: z.enum(['blob', 'tree', 'node', 'ref', 'pack']), digest: text, problem: text, repaired: z.boolean(), environments: texts })),
  }),
  'hd.doctor/1': document('hd.doctor/1', { checks: z.array(z.strictObject({ id: text, title: text, status: z.enum(['ok', 'warn', 'fail']), detail: text, fix: optional(text) })) }),
  'hd.config/1': document('hd.config/1', { id: text, file: text, config: z.record(text, z.unknown()).meta({ description: 'As in hd.schema.json, with every default.' }) }),
  'hd.lock/1': document('hd.lock/1', { file: text, changed: z.boolean(), packages: count, difference: texts }),
  'hd.version/1': document('hd.version/1', { version: text, node: text }),
  'hd.pull/1': document('hd.pull/1', { dryRun: z.boolean(), files: z.array(pulledFile), unmatched: texts }),
  'hd.watch.explain/1': document('hd.watch.explain/1', {
    paths: z.array(z.strictObject({ path: text, kind: z.enum(['file', 'directory', 'link', 'special', 'absent']), counts: z.boolean(), rule: text, by: optional(decider), place: optional(z.strictObject({ file: text, line: count })), services: watchedBy })),
  }),
  'hd.start/1': document('hd.start/1', { services: texts.meta({ description: 'Those that were named; none: all.' }), failed: texts.meta({ description: 'Those that do not run.' }) }),
  'hd.stop/1': document('hd.stop/1', { services: texts }),
  'hd.restart/1': document('hd.restart/1', { services: texts }),
  'hd.reset/1': document('hd.reset/1', { dropped: z.array(changedPath), failed: texts }),
  'hd.down/1': document('hd.down/1', { stopped: z.boolean() }),
  'hd.init/1': document('hd.init/1', { file: text, kind: text, specSchema: text }),
  'hd.export/1': document('hd.export/1', sent),
  'hd.images/1': document('hd.images/1', { images: z.array(image) }),
  'hd.image.import/1': document('hd.image.import/1', { image, images: z.array(image) }),
  'hd.image.rm/1': z.looseObject({ schema: z.literal('hd.image.rm/1'), removed: z.array(z.unknown()) }),
  'hd.image.pull/1': document('hd.image.pull/1', { changed: z.boolean(), image }),
  'hd.image.push/1': document('hd.image.push/1', { reference: text, digest: text, layers: sent.layers, written: sent.written }),
  'hd.image.export/1': z.union([document('hd.image.export/1', sent), document('hd.image.export/1', { to: z.strictObject({ kind: z.literal('tar'), file: text }), tree: digest })]),
  'hd.image.build/1': z.looseObject({ schema: z.literal('hd.image.build/1'), type: z.literal('image-built'), names: texts, tree: digest, ran: count, cached: count, ms }),
  'hd.volumes/1': document('hd.volumes/1', { volumes: z.array(z.union([z.strictObject({ name: text, path: text.nullable(), sizeBytes: bytes, used: z.boolean() }), listedVolume])) }),
  'hd.volume.rm/1': document('hd.volume.rm/1', { removed: texts }),
  'hd.ingest/1': document('hd.ingest/1', { file: text.nullable(), toml: text, notes: z.array(z.looseObject({ line: count, instruction: text, message: text })) }),
  'hd.ui/1': document('hd.ui/1', { url: text.meta({ description: 'With the token, after the #.' }), port: z.int() }),
  'hd.demo/1': document('hd.demo/1', {
    environment: text, base: text, rounds: count, dockerVersion: text.nullable(), dockerAbsent: text.nullable(), service: text, edited: z.strictObject({ file: text, phrase: text }), dependency: text.nullable(),
    scenarios: z.array(z.strictObject({
      name: z.enum(['cold', 'edit', 'dependency', 'noop']), title: text, what: text,
      sides: z.array(z.strictObject({ side: text, samplesMs: z.array(ms), ms: spread, timesHd: spread, ran: count, steps: count })),
    })),
    disk: z.array(z.strictObject({ side: text, baseBytes: bytes, addedBytes: bytes })), notes: texts,
  }),
} as const;

/** A line of `hd logs --json`. */
export const logLine = z.strictObject({ service: text, t: time, stream: z.enum(['stdout', 'stderr']), text });
