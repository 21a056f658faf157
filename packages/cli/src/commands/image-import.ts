import { createWriteStream, mkdtempSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { ListedImage } from '@hyperdocker/environment';
import { importImages, openHome } from '@hyperdocker/environment';
import type { Invocation } from '../command.ts';
import { EXIT } from '../exit-code.ts';
import { imageEntry } from '../image-document.ts';
import { ImageProgressView } from '../image-progress.ts';
import { printable } from '../terminal.ts';
import { platformFlag } from './image-pull.ts';

export async function run(invocation: Invocation): Promise<number> {
  const { json, quiet, terminal, args: [file = ''], cwd } = invocation;
  const images = file === '-' ? await fromInput(invocation) : await load(invocation, resolve(cwd, file));
  const [image] = images.map(imageEntry);
  if (json) terminal.out(`${JSON.stringify({ schema: 'hd.image.import/1', image, images: images.map(imageEntry) })}\n`);
  else if (quiet) terminal.out([...new Set(images.map(({ id }) => `${id}\n`))].join(''));
  else for (const { name, resolved } of images) terminal.out(`Imported ${printable(name)}\n  digest: ${resolved}\n`);
  return EXIT.ok;
}

async function load(invocation: Invocation, path: string): Promise<ListedImage[]> {
  const { env, args: [, name], flags, terminal } = invocation;
  const platform = platformFlag(flags.text('platform'));
  using view = new ImageProgressView(invocation);
  return await importImages(openHome(env), path, {
    signal: terminal.closed, createdMs: Date.now(), onProgress: (progress) => view.show(progress), ...(name === undefined ? {} : { name }), ...(platform === undefined ? {} : { platform }),
  });
}

/** What it is can only be told by looking at it twice. */
async function fromInput(invocation: Invocation): Promise<ListedImage[]> {
  const directory = mkdtempSync(join(openHome(invocation.env).tempDir, 'import-'));
  try {
    const path = join(directory, 'standard-input');
    await pipeline(process.stdin, createWriteStream(path, { mode: 0o600 }));
    return await load(invocation, path);
  } finally {
    rmSync(directory, { recursive: true });
  }
}
