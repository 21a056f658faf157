import { openStore } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import { openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatBytes, formatCount } from '../format.ts';

export async function run({ env, json, terminal }: Invocation): Promise<number> {
  const home = openHome(env);
  using store = openStore(home.storeDir, { nodeLinks });
  const stats = store.stats();
  if (json) {
    terminal.out(`${JSON.stringify({ schema: 'hd.cas.stats/1', ...stats, location: home.storeDir })}\n`);
    return EXIT.ok;
  }
  const ratio = stats.storedBytes === 0 ? '-' : `${(stats.logicalBytes / stats.storedBytes).toFixed(2)}`;
  terminal.out([
    'CAS Statistics:',
    `  Chunks: ${formatCount(stats.chunks)}`,
    `  Manifests: ${formatCount(stats.manifests)}`,
    `  Logical: ${formatBytes(stats.logicalBytes)}`,
    `  Stored: ${formatBytes(stats.storedBytes)}`,
    `  Ratio: ${ratio}`,
    `  Packs: ${formatCount(stats.packs)}`,
    `  Loose files: ${formatCount(stats.looseFiles)}`,
    `  Location: ${home.storeDir}`,
    '',
  ].join('\n'));
  return EXIT.ok;
}
