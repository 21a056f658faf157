import { imagesHere, openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { displayWidth, formatAgo, formatBytes } from '../format.ts';
import { imageEntry } from '../image-document.ts';
import { printable } from '../terminal.ts';

export async function run({ env, json, quiet, terminal }: Invocation): Promise<number> {
  const images = imagesHere(openHome(env));
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.images/1', images: images.map(imageEntry) })}\n`);
  else if (quiet) terminal.out(images.map(({ name }) => `${printable(name)}\n`).join(''));
  else if (images.length === 0) terminal.out('There are no images.\n');
  else {
    const rows = images.map(({ name, id, platform, sizeBytes, addedMs }) => [printable(name), id.replace('sha256:', '').slice(0, 12), platform, formatBytes(sizeBytes), formatAgo(Date.now() - addedMs)]);
    terminal.out(columns([['NAME', 'IMAGE ID', 'PLATFORM', 'SIZE', 'ADDED'], ...rows], (line, index) => (index === 0 ? terminal.outPaint('bold', line) : line)));
  }
  return EXIT.ok;
}

function columns(table: readonly string[][], paint: (line: string, index: number) => string): string {
  const widths = (table[0] ?? []).map((_, column) => Math.max(...table.map((row) => displayWidth(row[column] ?? ''))));
  return table.map((row, index) => `${paint(row.map((cell, column) => cell + ' '.repeat((widths[column] ?? 0) - displayWidth(cell))).join('  ').trimEnd(), index)}\n`).join('');
}
