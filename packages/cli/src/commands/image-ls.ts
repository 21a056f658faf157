import { imagesHere, openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { formatAgo, formatBytes, inColumns } from '../format.ts';
import { imageEntry } from '../image-document.ts';
import { printable } from '../terminal.ts';

export async function run({ env, json, quiet, terminal }: Invocation): Promise<number> {
  const images = imagesHere(openHome(env));
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.images/1', images: images.map(imageEntry) })}\n`);
  else if (quiet) terminal.out(images.map(({ name }) => `${printable(name)}\n`).join(''));
  else if (images.length === 0) terminal.out('There are no images.\n');
  else {
    const rows = images.map(({ name, id, platform, sizeBytes, addedMs }) => [printable(name), id.replace('sha256:', '').slice(0, 12), platform, formatBytes(sizeBytes), formatAgo(Date.now() - addedMs)]);
    const [head = '', ...lines] = inColumns([['NAME', 'IMAGE ID', 'PLATFORM', 'SIZE', 'ADDED'], ...rows]);
    terminal.out([terminal.outPaint('bold', head), ...lines].map((line) => `${line}\n`).join(''));
  }
  return EXIT.ok;
}
