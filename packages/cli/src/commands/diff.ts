import { toText } from '@hyperdocker/base';
import { diffTrees } from '@hyperdocker/cas';
import type { TreeChange, TreeEntry } from '@hyperdocker/cas';
import { filesOf, viewGraph } from '@hyperdocker/engine';
import { connectOrFail } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { usageError } from '../args.ts';
import { changedLine } from '../changed-line.ts';
import { compared } from '../compared-roots.ts';
import { EXIT } from '../exit-code.ts';
import { oneLine, plural, shortDigest } from '../format.ts';
import { locateProject } from '../project.ts';
import { printable } from '../terminal.ts';

const MARKS = { added: ['+', 'green'], removed: ['-', 'red'], changed: ['~', 'yellow'], new: ['+', 'green'] } as const;

/** What differs in the inputs of two roots: the base and packages, the files, the steps. */
export async function run(invocation: Invocation): Promise<number> {
  const { json, terminal } = invocation;
  if (invocation.flags.bool('live')) return await live(invocation);
  using roots = compared(invocation);
  const { store, before, after } = roots;
  const files = [...diffTrees(store, filesOf(store, before), filesOf(store, after))].filter((change) => entryOf(change).kind !== 'dir' || change.change !== 'changed').map(fileDifference);
  const others = viewGraph(store, after, before).children.flatMap(({ kind, label, status, digest }) => (kind === 'Dir' || status === 'ok' ? [] : [{ kind, label, status, digest }]));
  if (json) {
    terminal.out(`${JSON.stringify({ schema: 'hd.diff/1', before, after, files, others })}\n`);
    return EXIT.ok;
  }
  if (files.length + others.length === 0) {
    terminal.out('No differences.\n');
    return EXIT.ok;
  }
  const line = (status: keyof typeof MARKS, text: string): string => terminal.outPaint(MARKS[status][1], `  ${MARKS[status][0]} ${printable(text)}`);
  const lines = [
    `${shortDigest(before)} → ${shortDigest(after)}`,
    ...others.map(({ label, status }) => line(status, oneLine(label))),
    ...files.map(({ path, change, before: old, after: now }) => line(change, change === 'changed' ? `${path}  ${old} → ${now}` : path)),
    `${plural(files.length, 'file')}, ${plural(others.length, 'other input')} changed`,
  ];
  terminal.out(`${lines.join('\n')}\n`);
  return EXIT.ok;
}

/** What was written inside the environment that runs. */
async function live(invocation: Invocation): Promise<number> {
  if (invocation.args.length > 0) throw usageError('--live is about the running environment, and takes no roots');
  const client = await connectOrFail(locateProject(invocation).paths);
  const changes = await client.changes();
  invocation.terminal.out(invocation.json ? `${JSON.stringify({ schema: 'hd.diff.live/1', changes })}\n` : changes.map((change) => changedLine(change)).join(''));
  return EXIT.ok;
}

interface FileDifference { path: string; change: TreeChange['change']; before?: string; after?: string }

function fileDifference(change: TreeChange): FileDifference {
  return {
    path: toText(change.path),
    change: change.change,
    ...(change.change === 'added' ? {} : { before: describe(change.before) }),
    ...(change.change === 'removed' ? {} : { after: describe(change.after) }),
  };
}

function entryOf(change: TreeChange): TreeEntry {
  return change.change === 'removed' ? change.before : change.after;
}

function describe(entry: TreeEntry): string {
  const mode = entry.kind === 'file' && (entry.mode & 0o111) !== 0 ? ' executable' : '';
  if (entry.kind === 'file') return `${shortDigest(entry.digest)}${mode}`;
  return entry.kind === 'symlink' ? `link to ${toText(entry.target)}` : entry.kind;
}
