import { dropImage, openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { imageEntry } from '../image-document.ts';
import { printable } from '../terminal.ts';

export async function run({ env, args, flags, json, quiet, terminal }: Invocation): Promise<number> {
  const home = openHome(env);
  const removed = args.map((asked) => {
    const image = dropImage(home, asked, { force: flags.bool('force') });
    if (!json && !quiet) terminal.out(`Removed ${printable(image.name)}\n`);
    return imageEntry(image);
  });
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.image.rm/1', removed })}\n`);
  return EXIT.ok;
}
