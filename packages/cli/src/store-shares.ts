import type { BesideStore, StoreReport, StoreShare } from '@hyperdocker/environment';
import { formatAgo, formatBytes, plural } from './format.ts';

/** Lines for people, below those of `cas stats` and `cas gc`: ratios, and who has a share in the store. */
export function reportLines(report: StoreReport, nowMs: number): string[] {
  const { dedupRatio, compressionRatio, shares, damaged } = report;
  return [
    `  Dedup: ${dedupRatio === undefined ? '-' : `${dedupRatio.toFixed(2)} (files of all environments, by what is stored of them once)`}`,
    `  Compression: ${compressionRatio === undefined ? '-' : compressionRatio.toFixed(2)}`,
    ...(damaged ? ['  Damaged: yes; what hangs on damaged objects is in no share. `hd cas fsck` names them'] : []),
    ...(shares.length === 0 ? [] : ['  Shares:', ...table(shares.map((share) => shareRow(share, nowMs)))]),
  ];
}

const WORDS: Record<StoreShare['kind'], string> = { environment: 'environment', image: 'image', result: 'result', results: 'results of steps' };

function shareRow(share: StoreShare, nowMs: number): string[] {
  const { kind, name, project, state, usedMs, fileBytes, uniqueBytes, sharedBytes } = share;
  const what = kind === 'results' ? `${name} ${WORDS[kind]}` : `${WORDS[kind]} ${name}`;
  const use = state === 'running' ? 'running' : `last used ${formatAgo(nowMs - usedMs)}`;
  return [
    what, `${formatBytes(uniqueBytes)} unique`, `${formatBytes(sharedBytes)} shared`, fileBytes === undefined ? '' : `${formatBytes(fileBytes)} of files`,
    [use, ...(project === undefined ? [] : [state === 'gone' ? `${project}, which is gone` : project])].join(', '),
  ];
}

/** What is beside the store and takes room all the same; nothing where there is nothing. */
export function besideLines({ volumes, caches, partials }: BesideStore): string[] {
  const rows = [
    ...volumes.map(({ name, sizeBytes, environment, project, gone }) => [`volume ${name}`, formatBytes(sizeBytes), `of ${project ?? environment}${gone ? ', which is gone' : ''}`]),
    ...(caches.count === 0 ? [] : [[plural(caches.count, 'cache'), formatBytes(caches.sizeBytes), 'of builds from Dockerfiles; `hd cas gc --caches` drops them']]),
    ...(partials.count === 0 ? [] : [['parts of downloads', formatBytes(partials.sizeBytes), `${plural(partials.count, 'layer')}; \`hd cas gc --partial\` drops them`]]),
  ];
  return rows.length === 0 ? [] : ['  Beside the store:', ...table(rows)];
}

/** Columns as wide as their longest, but the last. */
export function table(rows: readonly string[][]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => `    ${row.map((cell, column) => (column === row.length - 1 ? cell : cell.padEnd(widths[column] ?? 0))).join('  ')}`.trimEnd());
}
