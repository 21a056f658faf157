import type { TreeDigest } from '@hyperdocker/base';
import { toText } from '@hyperdocker/base';
import type { Store, TreeChange } from '@hyperdocker/cas';
import { diffTrees } from '@hyperdocker/cas';
import type { BuiltEvent, ChangeSummary, FileChange, HdEvent } from './events.ts';
import type { Session } from './session.ts';
import { inTree } from './step-runner.ts';

/** What is to be told of a first build. @param previous the project's files in the build before, of another supervisor */
export function builtEvent(store: Store, session: Session, { previous, ms }: { previous: TreeDigest | undefined; ms: number }): BuiltEvent {
  const { spec, ingested, build: { ran, cached, discarded }, root } = session;
  const edits = previous === undefined ? undefined : [...diffTrees(store, previous, ingested.source)];
  return {
    type: 'built', name: spec.environment.name, root, ms, files: ingested.files, bytes: ingested.bytes, services: spec.services.map(({ name }) => name),
    ran, cached, discarded, hashed: ingested.hashed,
    ...(edits === undefined ? {} : { changes: edits.filter(isFileChange).map(fileChange), summary: summarise(edits, ingested.files) }),
  };
}

/** What is to be told of edits that were built. @param files how many the project has now */
export function changeEvent(edits: readonly TreeChange[], files: number, done: { ms: number; ran: number }): HdEvent {
  return { type: 'change', changes: edits.map(fileChange), summary: summarise(edits, files), ...done };
}

/** Paths that services may watch, relative to the working directory. The edits first: the first that a service watches is named as the cause. */
export function watchedPaths(edits: readonly TreeChange[], shown: readonly TreeChange[], workdir: string): string[] {
  const prefix = `${inTree(workdir)}/`;
  const inside = shown.filter(isFileChange).flatMap(({ path }) => (path.startsWith(prefix) ? [toText(path).slice(prefix.length)] : []));
  return [...new Set([...edits.filter(isFileChange).map(({ path }) => toText(path)), ...inside])];
}

function isFileChange(change: TreeChange): boolean {
  return (change.change === 'removed' ? change.before.kind : change.after.kind) !== 'dir';
}

function fileChange({ path, change }: TreeChange): FileChange {
  return { path: toText(path), change };
}

function summarise(edits: readonly TreeChange[], files: number): ChangeSummary {
  const count = (kind: TreeChange['change']): number => edits.filter((edit) => edit.change === kind && isFileChange(edit)).length;
  const [changed, added, removed] = [count('changed'), count('added'), count('removed')];
  return { changed, added, removed, unchanged: files - changed - added };
}
