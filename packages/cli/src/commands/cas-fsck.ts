import { openStore, rebuildIndex } from '@hyperdocker/cas';
import { nodeLinks } from '@hyperdocker/engine';
import { openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatCount, plural } from '../format.ts';

export async function run({ env, flags, json, quiet, terminal }: Invocation): Promise<number> {
  const { storeDir } = openHome(env);
  if (flags.bool('rebuild-index')) {
    const { objects } = rebuildIndex(storeDir, { nodeLinks });
    if (!json && !quiet) terminal.out(`Index made again: ${plural(objects, 'object')}.\n`);
  }
  using store = openStore(storeDir, { nodeLinks });
  const { objectsChecked, problems } = store.fsck();
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.cas.fsck/1', objectsChecked, problems })}\n`);
  else {
    for (const { kind, digest, problem } of problems) terminal.out(`${kind} ${digest}: ${problem}\n`);
    if (!quiet) terminal.out(`${formatCount(objectsChecked)} objects checked, ${problems.length === 0 ? 'all right' : plural(problems.length, 'problem')}.\n`);
  }
  return problems.length === 0 ? EXIT.ok : EXIT.failure;
}
