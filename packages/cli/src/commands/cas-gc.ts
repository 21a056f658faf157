import { openStore } from '@hyperdocker/cas';
import { nodeLinks, openActionCache } from '@hyperdocker/engine';
import { openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatBytes, formatCount } from '../format.ts';

/** Results of steps are kept this long after their last use. */
const KEEP_RESULTS_MS = 7 * 24 * 60 * 60 * 1000;

export async function run({ env, flags, json, terminal }: Invocation): Promise<number> {
  const home = openHome(env);
  const dryRun = flags.bool('dry-run');
  const since = Date.now() - KEEP_RESULTS_MS;
  using store = openStore(home.storeDir, { nodeLinks });
  using actions = openActionCache(home.actionsFile, store);
  if (!dryRun) actions.prune(since);
  const result = store.gc({ dryRun, extraRoots: actions.roots(since) });
  if (json) {
    terminal.out(`${JSON.stringify({ schema: 'hd.cas.gc/1', dryRun, ...result })}\n`);
    return EXIT.ok;
  }
  terminal.out([
    dryRun ? 'Garbage collection would remove:' : 'Garbage collection complete:',
    `  Manifests removed: ${formatCount(result.manifestsRemoved)}`,
    `  Chunks removed: ${formatCount(result.chunksRemoved)}`,
    `  Bytes freed: ${formatBytes(result.bytesFreed)}`,
    '',
  ].join('\n'));
  return EXIT.ok;
}
