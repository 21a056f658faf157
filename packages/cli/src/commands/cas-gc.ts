import type { BesideFreed, Collected, GivenUp } from '@hyperdocker/environment';
import { collect, openHome, parseSize, reportStore, storeLimit, sweepBeside } from '@hyperdocker/environment';
import { usageError } from '../args.ts';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatAgo, formatBytes, formatCount, plural } from '../format.ts';
import { reportLines } from '../store-shares.ts';
import { printable } from '../terminal.ts';

export async function run({ env, flags, json, terminal }: Invocation): Promise<number> {
  const home = openHome(env);
  const dryRun = flags.bool('dry-run');
  const limitBytes = maxFlag(flags.text('max')) ?? storeLimit(home, env);
  const collected = collect(home, { maxBytes: limitBytes, dryRun, dropLost: flags.bool('drop-lost') });
  const beside = sweepBeside(home, { partials: flags.bool('partial'), caches: flags.bool('caches'), dryRun });
  const report = reportStore(home);
  if (json) {
    const { dedupRatio, compressionRatio, shares } = report;
    // No limit is null.
    terminal.out(`${JSON.stringify({ schema: 'hd.cas.gc/1', dryRun, ...collected, beside, limitBytes, dedupRatio, compressionRatio, shares })}\n`);
    return EXIT.ok;
  }
  const lines = [...collectedLines(collected, { dryRun, limitBytes, nowMs: Date.now() }), ...besideFreedLines(beside), ...reportLines(report, Date.now())];
  terminal.out(`${lines.map((line) => printable(line)).join('\n')}\n`);
  return EXIT.ok;
}

/** @throws HdError USAGE */
function maxFlag(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const bytes = parseSize(text);
  if (bytes === undefined) throw usageError(`--max needs a size, not "${text}"`, 'such as 20GB or 800M, or none');
  return bytes;
}

function collectedLines(result: Collected, { dryRun, limitBytes, nowMs }: { dryRun: boolean; limitBytes: number; nowMs: number }): string[] {
  const { gaveUp, lostRefs, storedBytes } = result;
  const isOver = storedBytes > limitBytes;
  return [
    dryRun ? 'Garbage collection would remove:' : 'Garbage collection complete:',
    `  Manifests removed: ${formatCount(result.manifestsRemoved)}`,
    `  Chunks removed: ${formatCount(result.chunksRemoved)}`,
    `  Bytes freed: ${formatBytes(result.bytesFreed)}`,
    ...(result.demoted === 0 ? [] : [`  Copies removed: ${formatCount(result.demoted)}`]),
    ...(result.copiesFreed === 0 ? [] : [`  Trees written out as files: ${formatBytes(result.copiesFreed)} freed`]),
    ...gaveUp.filter(({ kind }) => kind !== 'result').map((root) => `  Given up: ${describe(root, nowMs)}`),
    ...givenUpResults(gaveUp.filter(({ kind }) => kind === 'result').length),
    ...lostRefs.map((ref) => `  Given up, as a part of it is lost: ${ref}`),
    `  Stored: ${formatBytes(storedBytes)}${limitBytes === Infinity ? '' : ` (limit ${formatBytes(limitBytes)}${isOver ? ': the rest is in use' : ''})`}`,
  ];
}

function besideFreedLines({ partials, caches, cachesInUse }: BesideFreed): string[] {
  return [
    ...(partials === 0 ? [] : [`  Parts of downloads: ${formatBytes(partials)} freed`]),
    ...(caches === 0 ? [] : [`  Caches of builds: ${formatBytes(caches)} freed`]),
    ...(cachesInUse ? ['  Caches of builds: left, since a build is running'] : []),
  ];
}

function describe({ kind, name, project, usedMs }: GivenUp, nowMs: number): string {
  return `${kind} ${name}${project === undefined ? '' : ` (${project})`}, last used ${formatAgo(nowMs - usedMs)}`;
}

function givenUpResults(count: number): string[] {
  return count === 0 ? [] : [`  Given up: ${plural(count, 'result')} of steps`];
}
