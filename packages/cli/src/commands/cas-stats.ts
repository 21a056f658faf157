import type { ProfileCost } from '@hyperdocker/cas';
import { besideStore, openHome, reportStore, storeLimit } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatBytes, formatCount, formatDuration } from '../format.ts';
import { besideLines, reportLines, table } from '../store-shares.ts';
import { printable } from '../terminal.ts';

export async function run({ env, flags, json, terminal }: Invocation): Promise<number> {
  const home = openHome(env);
  const limitBytes = storeLimit(home, env);
  const report = reportStore(home, { explain: flags.bool('explain') });
  const beside = besideStore(home);
  if (json) {
    // No limit is null.
    terminal.out(`${JSON.stringify({ schema: 'hd.cas.stats/1', ...report, beside, limitBytes, location: home.storeDir })}\n`);
    return EXIT.ok;
  }
  const lines = [
    'CAS Statistics:',
    `  Chunks: ${formatCount(report.chunks)}`,
    `  Manifests: ${formatCount(report.manifests)}`,
    `  Logical: ${formatBytes(report.logicalBytes)}`,
    `  Stored: ${formatBytes(report.storedBytes)}${limitBytes === Infinity ? '' : ` (limit ${formatBytes(limitBytes)})`}`,
    `  Packs: ${formatCount(report.packs)}`,
    `  Loose files: ${formatCount(report.looseFiles)}${report.looseFiles === 0 ? '' : ` (${formatBytes(report.looseBytes)})`}`,
    `  Location: ${home.storeDir}`,
    ...reportLines(report, Date.now()),
    ...besideLines(beside),
    ...(report.profiles === undefined ? [] : profileLines(report.profiles)),
  ];
  terminal.out(`${lines.map((line) => printable(line)).join('\n')}\n`);
  return EXIT.ok;
}

/** What the blobs of the store would take, cut otherwise. */
function profileLines(profiles: readonly ProfileCost[]): string[] {
  const used = profiles.find(({ inUse }) => inUse);
  const rows = profiles.map(({ profile, inUse, chunks, uniqueBytes, packedBytes, ms }) => [
    profile, `${formatCount(chunks)} chunks`, `${formatBytes(uniqueBytes)} unique`, `${formatBytes(packedBytes)} packed`,
    inUse || used === undefined || used.packedBytes === 0 ? '' : `${percent(packedBytes / used.packedBytes - 1)} space, ${percent(chunks / used.chunks - 1)} chunks`,
    `${inUse ? 'in use; ' : ''}cut and compressed in ${formatDuration(ms)}`,
  ]);
  return ['  Chunking profiles:', ...table(rows)];
}

function percent(share: number): string {
  return `${share < 0 ? '-' : '+'}${Math.abs(share * 100).toFixed(1)} %`;
}
